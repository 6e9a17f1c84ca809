"""The direction of the imports (DESIGN, section 3), and what they may cost."""

import ast
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import softiou

ROOT = Path(softiou.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# An arrow may point down or sideways, never up, and never round in a circle.
LAYERS = (
    {"__main__"},
    {"cli"},
    {"export"},  # the old name of exporting
    {"jobs"},
    {"reports"},
    {"training"},
    {"recipes", "evaluation", "comparison", "labelling", "exporting"},
    {"calibration", "resampling"},
    {"checkpoints"},
    {"inference"},
    {"accumulation", "drop_in", "environment"},
    {"checking", "fetching", "soft_labels"},
    {"losses", "metrics", "data", "models", "temperature"},
    {"overlap"},
    {"targets"},
    {"tiles", "configuration"},
    {
        "_checks",
        "_native",
        "errors",
        "_files",
        "_reading",
        "_html",
        "_lazy",
        "_lock",
        "_cache",
        "_memory",
        "_moved",
        "_processes",
        "_screen",
        "_signals",
        "_validation",
    },
)
DEPTH = {unit: depth for depth, layer in enumerate(LAYERS) for unit in layer}

# These hand numbers around and never open a file.
WITHOUT_FILES = {
    "accumulation",
    "drop_in",
    "losses",
    "metrics",
    "overlap",
    "targets",
    "temperature",
    "tiles",
    "_checks",
}
OPENERS = {"io", "os", "pathlib", "shutil", "tempfile", "softiou._files"}


def unit_of(file: Path) -> str:
    """src/softiou/overlap/plain.py -> overlap; the package's own __init__ is the front door."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def imports_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that a module imports, inside functions and for types, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"line {node.lineno}: write imports in full, not relative")
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def arrows_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and unit of softiou that a module points to."""
    for line, name in imports_of(tree):
        package, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if package == "softiou" and target not in ("", "__version__"):
            yield line, target


def wrong_arrows(source: str, tree: ast.Module) -> list[str]:
    """Arrows that point up; names taken from the front door, which is for users, count as such."""
    return [
        f"line {line}: {source} -> {target}"
        for line, target in arrows_of(tree)
        if DEPTH.get(target, -1) < DEPTH[source]
    ]


def test_every_unit_has_its_place() -> None:
    units = {unit_of(file) for file in FILES} - {"__init__"}
    assert units <= set(DEPTH), "a new file or folder needs a place in LAYERS and in the design"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_one_way(file: Path) -> None:
    if unit_of(file) != "__init__":
        assert wrong_arrows(unit_of(file), tree_of(file)) == []


def test_units_form_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for file in FILES:
        unit = unit_of(file)
        if unit != "__init__":
            arrows = {target for _, target in arrows_of(tree_of(file))}
            graph.setdefault(unit, set()).update(arrows - {unit})
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("targets") < order.index("overlap") < order.index("losses")


@pytest.mark.parametrize(
    ("source", "code", "wrong"),
    [
        ("targets", "from softiou.losses import OverlapLoss", ["line 1: targets -> losses"]),
        ("overlap", "def f():\n    import softiou.data.check", ["line 2: overlap -> data"]),
        ("data", "from softiou import inference, _checks", ["line 1: data -> inference"]),
        ("recipes", "from softiou import JaccardMetricLoss", None),
        ("recipes", "from softiou import __version__, checkpoints\nimport softiou", []),
        ("losses", "from softiou.overlap.plain import overlap_statistics\nimport torch", []),
    ],
)
def test_a_wrong_arrow_is_found(source: str, code: str, wrong: list[str] | None) -> None:
    if wrong is None:
        wrong = [f"line 1: {source} -> JaccardMetricLoss"]
    assert wrong_arrows(source, ast.parse(code)) == wrong


def test_mathematics_opens_no_file() -> None:
    found = [
        f"{file}:{line} imports {name}"
        for file in FILES
        if unit_of(file) in WITHOUT_FILES
        for line, name in imports_of(tree_of(file))
        if any(f"{name}.".startswith(f"{opener}.") for opener in OPENERS)
    ]
    assert found == []


def test_no_assert_in_the_package() -> None:
    """It vanishes under `python -O`."""
    found = [
        f"{file}:{node.lineno}"
        for file in FILES
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


# The command line

HELP = "import sys; sys.argv = ['softiou', '--help']; from softiou.cli import main; main()"


def test_help_does_not_import_torch() -> None:
    code = f"try:\n    {HELP}\nfinally:\n    print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: softiou" in done.stdout
    assert done.stderr == "False\n"


def test_help_answers_at_once(processor_seconds: Callable[[str], float]) -> None:
    """Beside the smallest program of typer, in turns: usually 1.3 times its processor time."""
    smallest = (
        "import sys, typer; sys.argv = ['x', '--help']\n"
        "app = typer.Typer(); app.command()(lambda: None); app()"
    )
    pairs = [(processor_seconds(HELP), processor_seconds(smallest)) for _ in range(5)]
    ours, theirs = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    assert ours < 2.5 * theirs


def test_a_wrong_setting_is_found_without_torch() -> None:
    code = (
        "import sys\n"
        "from softiou.configuration import load_config\n"
        "from softiou.errors import ConfigError\n"
        "try:\n"
        "    load_config(source='digits', overrides=['optim.step=5'])\n"
        "except ConfigError as error:\n"
        "    print(error, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (
        "optim.step: unknown key; did you mean optim.steps? For instance optim.steps=5 False"
        in done.stdout
    ), done.stderr
