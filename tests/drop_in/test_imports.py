"""What stands in for a library does not need it."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from softiou import drop_in

FOLDER = Path(drop_in.__file__).parent


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module).partition(".")[0]


def test_drop_in_losses_need_torch_alone() -> None:
    names = {name for file in FOLDER.rglob("*.py") for name in imported(file)}
    assert names - set(sys.stdlib_module_names) == {"softiou", "torch", "torchmetrics"}
