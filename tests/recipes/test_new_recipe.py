"""The worked example of CONTRIBUTING, "A recipe": its three files, and two steps of training."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import softiou
from softiou.configuration import load_config

ROOT = Path(__file__).parents[2]

IMPORTS = """from typing import final

from torch import Tensor
from torch.distributions import Categorical

from softiou.data import Batch
from softiou.recipes.base import Recipe

"""

TRAIN = """
import sys
from pathlib import Path
from softiou.configuration import load_config
from softiou.training import start_training
config = load_config(source=sys.argv[1], overrides=sys.argv[3:])
start_training(config, directory=Path(sys.argv[2]))
"""


def example() -> list[str]:
    """The recipe, its line in the registry, and its section."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.search(r"### A recipe \(three files\).*?```py\n(.*?)```", text, re.DOTALL)
    assert found is not None
    parts = found[1].split("\n\n\n")
    assert len(parts) == 3
    return parts


def replace(file: Path, before: str, after: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1
    file.write_text(text.replace(before, after), encoding="utf-8")


def test_a_recipe_is_a_module_a_line_and_a_section(
    tmp_path: Path, shapes: Path, tiny: tuple[str, ...]
) -> None:
    recipe, line, section = example()
    package = tmp_path / "softiou"
    shutil.copytree(Path(softiou.__file__).parent, package)
    (package / "recipes" / "entropy.py").write_text(IMPORTS + recipe, encoding="utf-8")
    registry = package / "recipes" / "registry.py"
    replace(registry, "RECIPES: ", "from softiou.recipes.entropy import EntropyRecipe\nRECIPES: ")
    replace(registry, "\n\ndef recipe_for", f"\n{line}\n\ndef recipe_for")
    sections = package / "configuration" / "sections.py"
    field = "    entropy: EntropyConfig | None = None\n    custom: CustomConfig | None"
    replace(sections, "    custom: CustomConfig | None", field)
    replace(sections, "class Config(Section):", f"{section}\n\nclass Config(Section):")

    run = tmp_path / "run"
    settings = [*tiny, "entropy.weight=0.5", "optim.steps=2", "optim.validations=1"]
    subprocess.run(
        [sys.executable, "-c", TRAIN, str(shapes), str(run), *settings],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
    )
    logged = (run / "metrics.jsonl").read_text(encoding="utf-8")
    assert '"train/entropy"' in logged
    assert '"val/miou_d"' in logged
    assert "  weight: 0.5  # of the entropy" in (run / "config.yaml").read_text(encoding="utf-8")


def test_the_verb_of_a_section() -> None:
    assert load_config(source="x", overrides=["optim.steps=2"]).verb == "train"
    config = load_config(source="x", section="semi_supervised")
    assert (config.method, config.verb) == ("semi_supervised", "semi")
