"""Typical mistakes: each is answered at once, without torch, by the key that was meant."""

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any, get_args

import pytest

from softiou import jobs
from softiou.cli.train import MAIN_SETTINGS
from softiou.configuration import Config, load_config
from softiou.configuration.sections import Architecture
from softiou.errors import ConfigError, SoftiouError
from softiou.jobs.learning import Request
from softiou.models.building import architectures

Run = Callable[..., Any]  # see conftest.py

# What people type behind `softiou train digits`, and what the answer must name.
MISTAKES = [
    ("--labels=x", "labels.kind=auto"),
    ("--labels=boundary", "labels.kind=boundary"),
    ("--optim=3", "optim.optimizer=adamw"),
    ("--model=unet", "model.architecture=unet"),
    ("--loss=dice", "loss.kind=dice"),
    ("--distillation=x", "distillation.teacher=x"),
    ("lr=0.01", "optim.learning_rate=0.01"),
    ("optim.lr=0.01", "optim.learning_rate=0.01"),
    ("learning_rate=0.01", "optim.learning_rate=0.01"),
    ("epochs=10", "optim.epochs=10"),
    ("num_epochs=10", "optim.epochs=10"),
    ("training.epochs=3", "optim.epochs=3"),
    ("steps=10", "optim.steps=10"),
    ("max_iters=10", "optim.steps=10"),
    ("optim.stepz=3", "optim.steps=3"),
    ("optm.ema=0.5", "optim.ema=0.5"),
    ("batch=4", "data.batch_size=4"),
    ("batch_size=4", "data.batch_size=4"),
    ("img_size=640", "data.crop_px=640"),
    ("crop_size=100,100", "data.crop_px=100,100"),
    ("num_workers=2", "data.workers=2"),
    ("backbone=resnet50", "model.encoder=resnet50"),
    ("model.backbone=resnet50", "model.encoder=resnet50"),
    ("arch=unet", "model.architecture=unet"),
    ("pretrained=true", "model.encoder_weights=imagenet"),
    ("amp=true", "precision=bf16"),
    ("fp16=true", "precision=fp16"),
    ("gpus=2", "CUDA_VISIBLE_DEVICES=0"),
    ("device=cuda", "CUDA_VISIBLE_DEVICES=0"),
    ("num_classes=5", "dataset.yaml"),
    ("optim.warmup_steps=100", "optim.warmup=0.05"),
    ("weight_decay=0.1", "optim.weight_decay=0.1"),
    ("grad_clip=1", "optim.clip_norm=1"),
    ("early_stopping=3", "optim.patience=3"),
    ("label_smoothing=0.1", "labels=uniform"),
    ("random_seed=1", "seed=1"),
    ("model=unet", "model.architecture=unet"),
    ("optim.optimizer=Adam", "optim.optimizer=adamw"),
    ("model.architecture=UNet++", "model.architecture=unetplusplus"),
    ("precision=16", "precision=fp16"),
    ("optim.patience=none", "optim.patience=null"),
    ("optim.learning_rate=0,001", "a number, but got '0,001'"),
    ("data.crop_px=big", "such as 352x480"),
    ("data.flip=2", "a number of at most 1, but got 2"),
    ("data.skip_corrupt=maybe", "true or false, but got 'maybe'"),
    ("out=runs/x", "--out RUN"),
    ("--steps 10", "optim.steps=10"),
    ("--epochs=10", "optim.epochs=10"),
    ("--batch-size 4", "data.batch_size=4"),
    ("--lr 0.1", "optim.learning_rate=0.1"),
    ("--gpus 2", "CUDA_VISIBLE_DEVICES=0"),
    ("--pretrained imagenet", "model.encoder_weights=imagenet"),
]


@pytest.mark.parametrize(("typed", "named"), MISTAKES, ids=lambda text: text)
def test_a_wrong_word_leads_to_the_right_one(softiou: Run, typed: str, named: str) -> None:
    result = softiou("train", "digits", *typed.split())
    result.assert_refused(named)
    for word in ("pydantic", "input should", "Value error", "validation error"):
        assert word not in result.err


def test_every_mistake_is_answered_at_once_without_torch(
    processor_seconds: Callable[[str], float],
) -> None:
    """All in one process that may not import torch; four beside the time of importing it.

    An answer takes 0.4 to 0.5 s of processor time and torch 3 s.
    """
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from softiou.cli import main\n"
        f"for typed in {[typed for typed, _ in MISTAKES]!r}:\n"
        "    sys.argv = ['softiou', 'train', 'digits', *typed.split()]\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as stop:\n"
        "        print(stop.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2"] * len(MISTAKES)
    torch_alone = processor_seconds("import torch")
    for typed in ("lr=0.01", "--steps 10", "model.architecture=UNet++", "nowhere"):
        arguments = ["train", *(() if typed == "nowhere" else ("digits",)), *typed.split()]
        code = f"import sys; sys.argv[1:] = {arguments!r}; from softiou.cli import main; main()"
        assert any(processor_seconds(code) < torch_alone / 3 for _ in range(3))


@pytest.mark.parametrize(
    ("setting", "pair"),
    [
        ("100,120", (100, 120)),
        ("100x120", (100, 120)),
        ("[100, 120]", (100, 120)),
        ("64", (64, 64)),
    ],
)
def test_two_numbers_are_written_in_any_way(setting: str, pair: tuple[int, int]) -> None:
    config = load_config(source="digits", overrides=[f"data.crop_px={setting}"])
    assert config.data.crop_px == pair


def test_scale_is_understood_and_stays_in_order() -> None:
    assert load_config(source="digits", overrides=["data.scale=0.5,2"]).data.scale == (0.5, 2)
    with pytest.raises(ConfigError, match="the smallest must come first"):
        load_config(source="digits", overrides=["data.scale=2,0.5"])


def test_options_of_ones_own_are_no_settings(softiou: Run) -> None:
    result = softiou("train", "digits", "--resum", "x")
    assert result.status == 2
    assert "--resume" in result.err
    assert softiou("evaluate", "x", "--lr", "3").status == 2


def test_old_names_of_options_work_and_name_the_new_ones(softiou: Run) -> None:
    result = softiou("evaluate", "nowhere", "--weights", "teacher")
    assert result.status == 2
    assert result.err.startswith("softiou: --weights was renamed to --model")
    assert "nowhere does not exist" in result.err
    result = softiou("export", "nowhere", "--to", "onnx", "--not-calibrated", "--input", "float32")
    assert "--not-calibrated was renamed to --uncalibrated\nsoftiou: --input was" in result.err
    assert "nowhere does not exist" in result.err


@pytest.mark.parametrize("verb", ["evaluate", "predict", "calibrate", "export"])
def test_old_names_of_keywords_work_and_warn(verb: str) -> None:
    settings = {"evaluate": ["data"], "predict": ["images"], "export": ["onnx"]}.get(verb, [])
    with (
        pytest.warns(DeprecationWarning, match=rf"{verb}\(weights=...\) is now model=..."),
        pytest.raises(SoftiouError),  # and no TypeError
    ):
        getattr(jobs, verb)("nowhere", *settings, weights="teacher")


@pytest.mark.parametrize("verb", ["train", "distill", "semi"])
def test_the_old_name_of_a_new_run_works_and_warns(verb: str) -> None:
    with (
        pytest.warns(DeprecationWarning, match=rf"{verb}\(run=...\) is now out=..."),
        pytest.raises(SoftiouError, match=r"nowhere: the folder does not exist|Name a teacher"),
    ):
        getattr(jobs, verb)("nowhere", run="new")


def test_the_ten_settings_of_the_help_are_settings_with_these_defaults(softiou: Run) -> None:
    assert len(MAIN_SETTINGS) == 10
    page = softiou("train", "-h").out
    sections = dict(Config.sections())
    for key, (default, _) in MAIN_SETTINGS.items():
        assert f"{key}={default}" in page
        section, _, name = key.rpartition(".")
        fields = sections[section].model_fields if section else Config.model_fields
        assert str(fields[name].default) == default


def test_architectures_are_those_of_the_library() -> None:
    assert sorted(get_args(Architecture)) == sorted([*architectures(), "transformers"])


def test_every_word_of_another_tool_leads_to_a_setting() -> None:
    from pathlib import Path

    import yaml

    import softiou.configuration.mistakes as mistakes

    words = yaml.safe_load(Path(mistakes.__file__).with_name("words.yaml").read_text())
    for word, example in words.items():
        if not example.startswith("no setting"):
            load_config(source="digits", overrides=[example])
            assert word not in Config.model_fields
    assert {*mistakes._ALIKE.values()} <= {*words}


@pytest.mark.parametrize("settings", [{"verb": "distill"}, {"verb": "train", "config": "nothing"}])
def test_a_request_is_checked_before_anything_is_imported(settings: dict[str, Any]) -> None:
    given: dict[str, Any] = {
        "data": "digits",
        "config": None,
        "run": None,
        "resume": None,
        "settings": {},
    }
    request = Request(**{**given, "overrides": (), "command": "", **settings})
    with pytest.raises(SoftiouError, match=re.compile("teacher|the file does not exist")):
        request.load()


def test_steps_and_epochs_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="set the same thing: keep one"):
        load_config(source="digits", overrides=["optim.steps=5", "optim.epochs=2"])
