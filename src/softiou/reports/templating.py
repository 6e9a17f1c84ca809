"""Render templates as self-contained HTML pages, with embedded styles and scripts."""

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from softiou.reports import formatting

STYLES = ("style.css", "results.css", "gallery.css")
SCRIPTS = (
    "tables.js",
    "charts.js",
    "confusion.js",
    "pictures.js",
    "paint.js",
    "zoom.js",
    "gallery.js",
)


def fill(template: str, values: formatting.View) -> str:
    """Render a template in `templates/` with values by name.

    Every value is escaped. In addition, the content security policy of the page allows only its own
    script, identified by its hash.
    """
    script = _joined(SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template(template)
        .render(
            style=Markup(_joined(STYLES)),
            script=Markup(script),
            script_hash=f"sha256-{digest}",
            **values,
        )
    )


def fill_text(template: str, values: formatting.View) -> str:
    """Render a Markdown template, in which only the bar of tables is escaped."""
    return _environment(html=False).get_template(template).render(**values)


@cache
def _environment(*, html: bool = True) -> Environment:
    environment = Environment(
        autoescape=html,
        loader=PackageLoader("softiou.reports", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=formatting.percent,
        rgb=formatting.rgb,
        cell=_cell,
        duration=formatting.duration,
        interval=formatting.interval_text,
        signed=formatting.signed,
        signed_interval=formatting.signed_interval,
    )
    # Without spaces, because the data of a gallery are most of the page.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


def _cell(text: str) -> str:
    """Escape a value for a Markdown table."""
    return text.replace("|", r"\|").replace("\n", " ")


def _joined(names: tuple[str, ...]) -> str:
    folder = files("softiou.reports").joinpath("templates")
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)
