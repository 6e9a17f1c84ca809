"""Make griffe parse `Example:` in a docstring as a section of code, like `Examples:`."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)


class ExampleSections(griffe.Extension):
    """Accepts both headings; griffe alone parses `Example:` as an admonition."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Replace the heading in a docstring that griffe has just loaded."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub("Examples:", obj.docstring.value)
