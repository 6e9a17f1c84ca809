"""softiou config and --dry-run: settings, what auto became and why, memory and time."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from softiou.configuration import Config, load_config
from softiou.configuration.data_sections import DataConfig
from softiou.training.resolving import RULES

Run = Callable[..., Any]  # see conftest.py
SMALL = (
    "model.architecture=linknet",
    "model.encoder=tu-test_efficientnet",
    "model.encoder_weights=none",
)
FEW = ("data.workers=0", "optim.steps=4", "optim.validations=2", "precision=fp32")


def test_settings_without_data(softiou: Run) -> None:
    result = softiou("config", "optim.steps=7")
    assert (result.status, result.err) == (0, "")
    content = yaml.safe_load(result.out)
    assert content["optim"]["steps"] == 7
    assert content["data"]["crop_px"] == "auto"
    description = DataConfig.model_fields["crop_px"].description
    (line,) = (line for line in result.out.splitlines() if line.startswith("  crop_px:"))
    assert line.endswith(f"# {description}")
    assert result.out.endswith("# Give a data set to see the value of each setting that is auto.\n")
    for section, model in Config.sections():
        if content[section]:
            assert content[section].keys() == model.model_fields.keys(), "complete"


def test_what_auto_became_and_why(softiou: Run, shapes: Path) -> None:
    result = softiou("config", shapes, *SMALL, *FEW)
    assert result.status == 0, result.err
    Path("my.yaml").write_text(result.out)
    config = load_config(file=Path("my.yaml"))  # a file for --config
    assert (config.data.crop_px, config.data.batch_size) == ((32, 32), 8)
    assert (config.optim.steps, config.optim.learning_rate) == (4, 0.0005)
    (line,) = (line for line in result.out.splitlines() if line.startswith("  crop_px:"))
    assert line.endswith(f"auto: {RULES['data.crop_px']}")
    assert "# first step" not in result.out
    cost = json.loads(softiou("config", shapes, *SMALL, *FEW, "--json").out)
    assert cost["config"]["data"]["batch_size"] == 8
    assert {key: cost["auto"][key] for key in ("data.crop_px", "data.batch_size")} == {
        "data.crop_px": (
            "median size of up to 16 images, at most 512, a multiple of 32 or of the patch"
        ),
        "data.batch_size": RULES["data.batch_size"],
    }
    assert "optim.steps" not in cost["auto"], "it was given"
    assert sorted(path.name for path in Path().iterdir()) == ["my.yaml"], "nothing else is written"


def test_a_dry_run_takes_one_step_and_keeps_nothing(softiou: Run, shapes: Path) -> None:
    result = softiou("train", shapes, *SMALL, *FEW, "--dry-run", "--json")
    assert result.status == 0, result.err
    cost = json.loads(result.out)["cost"]
    assert cost["parameters"] == 94_821
    # Weights, gradients and two averages are the least that AdamW keeps.
    assert cost["memory_mib"] > 4 * 4 * cost["parameters"] / 2**20
    assert cost["peak_mib"] > 100
    assert 0 < cost["step_seconds"] < 60
    text = softiou("train", shapes, *SMALL, *FEW, "--dry-run").out
    assert re.search(r"^# parameters: 94,821$", text, re.MULTILINE)
    assert re.search(r"^# memory: about [\d,]+ MiB for a step$", text, re.MULTILINE)
    assert re.search(r"^# time: about \d+\.\d min for 4 steps, estimated", text, re.MULTILINE)
    assert re.search(r"^# first step: \d+\.\d s, .* peak memory [\d,]+ MiB$", text, re.MULTILINE)
    assert not list(Path().iterdir())


def test_mistakes_are_those_of_the_training(softiou: Run, shapes: Path) -> None:
    for command in (("config",), ("train", "--dry-run")):
        refused = softiou(*command, shapes, *SMALL, "data.crop_px=[33,33]")
        refused.assert_refused("data.crop_px: [33, 33] is not a multiple")
        softiou(*command, shapes, "optim.lr=1").assert_refused("optim.learning_rate")


@pytest.mark.filterwarnings("ignore")  # of libraries, which are not silenced
@pytest.mark.parametrize("option", ["--verbose", "-v"])
def test_verbose_says_why(softiou: Run, shapes: Path, option: str) -> None:
    result = softiou("train", shapes, *SMALL, *FEW, "--out", "here", option)
    assert result.status == 0, result.err
    lines = [line for line in result.out.splitlines() if line.startswith("auto  ")]
    assert f"auto  data.batch_size: 8  ({RULES['data.batch_size']})" in lines
    assert f"auto  loss.classes: present  ({RULES['loss.classes']})" in lines
