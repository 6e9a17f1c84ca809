"""What mkdocs calls while it builds the site: pages and pictures that come from the code.

`mkdocs.yml` names this file; the work is done in `scripts.docs_site`.
"""

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parents[1]))  # mkdocs takes it away again
from scripts.docs_site import command_line, configuration, figures, formulas

GENERATED = {
    "reference/command-line.md": command_line.page,
    "reference/configuration.md": configuration.page,
    "security.md": (Path(__file__).parents[1] / "SECURITY.md").read_text,
}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are written from the code, and the figures."""
    for path, write in GENERATED.items():
        files.append(File.generated(config, path, content=write()))
    for name in figures.FIGURES:
        files.append(File.generated(config, figures.path_of(name), content=figures.svg(name)))
    return files


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn formulas into MathML, and put figures into the page, where they take its colours."""
    return figures.inline(formulas.to_mathml(formulas.raise_reductions(html)))
