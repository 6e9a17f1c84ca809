"""The rules of the house that no linter checks: how long code may be, and that it is documented."""

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import softiou

ROOT = Path(softiou.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
PACKAGES = sorted(
    ".".join(("softiou", *file.parent.relative_to(ROOT).parts))
    for file in FILES
    if file.name == "__init__.py"
)

# All Python of the package; the aim is 30_592. Before it is raised, look for what is said twice.
MOST_LINES = 43_788
MOST_LINES_OF_NINE_BODIES_IN_TEN = 20
MOST_LINES_OF_A_BODY = 60
MOST_SUPPRESSIONS_PER_1000_LINES = 1.0
SUPPRESSION = re.compile(r"#\s*(noqa|type:\s*ignore|pragma:\s*no cover|ruff:\s*noqa|mypy:)")


def lines_of_bodies(source: str) -> dict[str, int]:
    """Return the lines of each function's body, without its docstring."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first, last = node.body[0], node.body[-1]
            if ast.get_docstring(node) is not None:
                first = node.body[1] if len(node.body) > 1 else last
            found[f"{node.name}:{node.lineno}"] = (last.end_lineno or 0) - first.lineno + 1
    return found


def sources() -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each file of the package."""
    for file in FILES:
        yield str(file.relative_to(ROOT)), file.read_text(encoding="utf-8")


def test_bodies_are_counted_without_their_docstrings() -> None:
    source = 'def f():\n    """One.\n\n    Two.\n    """\n    a = 1\n\n    return a\n'
    assert lines_of_bodies(source) == {"f:1": 3}


def test_bodies_are_short() -> None:
    bodies = {
        f"{path}:{name}": lines
        for path, source in sources()
        for name, lines in lines_of_bodies(source).items()
    }
    assert {name: n for name, n in bodies.items() if n > MOST_LINES_OF_A_BODY} == {}
    in_order = sorted(bodies.values())
    assert in_order[len(in_order) * 9 // 10] <= MOST_LINES_OF_NINE_BODIES_IN_TEN


def test_suppressions_are_few() -> None:
    found = [
        f"{path}:{number}: {line.strip()}"
        for path, source in sources()
        for number, line in enumerate(source.splitlines(), 1)
        if SUPPRESSION.search(line)
    ]
    lines = sum(source.count("\n") for _, source in sources())
    allowed = MOST_SUPPRESSIONS_PER_1000_LINES * lines / 1000
    assert len(found) <= allowed, "\n".join(found)


def test_the_package_does_not_grow() -> None:
    assert sum(source.count("\n") for _, source in sources()) <= MOST_LINES


def without_docstring(name: str, thing: object) -> Iterator[str]:
    """Yield a class or function and its public methods where they have no docstring."""
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return
    if not inspect.getdoc(thing):
        yield name
    for key, value in vars(thing).items() if inspect.isclass(thing) else ():
        inner = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        is_method = inspect.isfunction(inner) or isinstance(inner, property)
        if is_method and not key.startswith("_") and not inspect.getdoc(inner):
            yield f"{name}.{key}"


def test_a_missing_docstring_is_found() -> None:
    class Example:
        """Documented."""

        def method(self) -> None: ...

    assert list(without_docstring("Example", Example)) == ["Example.method"]


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_have_docstrings(package: str) -> None:
    module = import_module(package)
    assert module.__doc__
    names = getattr(module, "__all__", ())
    missing = [one for name in names for one in without_docstring(name, getattr(module, name))]
    assert missing == []
