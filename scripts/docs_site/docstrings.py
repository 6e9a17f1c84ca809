"""Docstrings as griffe reads them: `Example:` is a section of code, as `Examples:` is."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)


class ExampleSections(griffe.Extension):
    """Lets both words head a section; griffe takes the singular for a remark in words."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the word in a docstring that was just read."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub("Examples:", obj.docstring.value)
