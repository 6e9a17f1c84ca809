"""Write examples/from_python.ipynb from examples/from_python.py, whose cells begin with `# %%`.

python -m scripts.write_notebook
"""

import json
import re
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[1] / "examples" / "from_python.py"
NOTEBOOK = SCRIPT.with_suffix(".ipynb")
_CELL = re.compile(r"^# %%( \[markdown\])?\n(.*?)(?=^# %%|\Z)", re.DOTALL | re.MULTILINE)


def notebook(script: str) -> dict[str, Any]:
    """Return a notebook of format 4.5, without output, from a script in percent format."""
    return {
        "cells": [
            _cell(number, text.strip(), markdown=bool(mark))
            for number, (mark, text) in enumerate(_CELL.findall(script))
        ],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(number: int, text: str, *, markdown: bool) -> dict[str, Any]:
    if markdown:
        text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
    kind: dict[str, Any] = {"cell_type": "markdown" if markdown else "code", "id": f"cell-{number}"}
    output: dict[str, Any] = {} if markdown else {"execution_count": None, "outputs": []}
    return kind | {"metadata": {}, "source": text.splitlines(keepends=True)} | output


def as_text(script: str) -> str:
    """Return the content of the notebook's file."""
    return json.dumps(notebook(script), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    NOTEBOOK.write_text(as_text(SCRIPT.read_text(encoding="utf-8")), encoding="utf-8")
