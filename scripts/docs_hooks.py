"""Hooks of mkdocs: add pages and figures that are generated from the code.

`mkdocs.yml` refers to this file; the functions are in `scripts.docs_site`.
"""

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parents[1]))  # mkdocs removes it after loading this file
from scripts.docs_site import command_line, configuration, figures, formulas

GENERATED = {
    "reference/command-line.md": command_line.page,
    "reference/configuration.md": configuration.page,
    "security.md": (Path(__file__).parents[1] / "SECURITY.md").read_text,
}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the generated pages and the figures."""
    for path, write in GENERATED.items():
        files.append(File.generated(config, path, content=write()))
    for name in figures.FIGURES:
        files.append(File.generated(config, figures.path_of(name), content=figures.svg(name)))
    return files


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Convert formulas to MathML, and embed figures as SVG, which use the colours of the page."""
    return figures.inline(formulas.to_mathml(formulas.raise_reductions(html)))
