"""Fill in a template: one page of HTML with its styles and script inside, and nothing outside."""

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
    """The page of a template in `templates/`, from values under the names that it uses.

    Every value is escaped. The policy in the head lets the browser run our script alone, by its
    hash: a text that slipped through could not.
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
    """The text of a template that is Markdown, where nothing is escaped but the bar of tables."""
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
    # No spaces: the data of a gallery are most of the page.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


def _cell(text: str) -> str:
    """A value in a table of Markdown."""
    return text.replace("|", r"\|").replace("\n", " ")


def _joined(names: tuple[str, ...]) -> str:
    folder = files("softiou.reports").joinpath("templates")
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)
