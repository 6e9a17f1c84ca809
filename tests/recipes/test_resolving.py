"""What `auto` becomes."""

import os
from pathlib import Path

import pytest
import torch

from softiou.configuration import Config, load_config
from softiou.configuration.data_sections import PRESETS, Preset
from softiou.configuration.resolved import ResolvedData
from softiou.data import DatasetDescription, Sample, SegmentationDataset
from softiou.inference import best_precision
from softiou.training import resolving


class Blank(SegmentationDataset):
    """Black images of given sizes (height, width)."""

    def __init__(self, *sizes: tuple[int, int]) -> None:
        self.sizes = sizes
        self.description = DatasetDescription(("a", "b"))
        self.split = "train"
        self.labels = "hard"
        self.stems = tuple(str(index) for index in range(len(sizes)))

    def __getitem__(self, index: int) -> Sample:
        size = self.sizes[index]
        target = torch.zeros(size, dtype=torch.int64)
        image = torch.zeros(3, *size, dtype=torch.uint8)
        return {"image": image, "target": target, "stem": self.stems[index]}

    def files(self, index: int) -> tuple[Path, ...]:
        return ()


def _config(*overrides: str) -> Config:
    return load_config(source="blank", overrides=list(overrides))


@pytest.mark.parametrize(
    ("sizes", "crop"),
    [
        ([(100, 70)], (96, 64)),  # down to a multiple of 32
        ([(2000, 900)], (512, 512)),  # at most 512
        ([(20, 31)], (32, 32)),  # at least 32
        ([(64, 64), (128, 96), (256, 256)], (128, 96)),  # the median
    ],
)
def test_crop_is_the_median_size_in_multiples(
    sizes: list[tuple[int, int]], crop: tuple[int, int]
) -> None:
    assert resolving.resolve(_config(), Blank(*sizes)).data.crop_px == crop


def test_crop_looks_at_sixteen_images_spread_over_the_data() -> None:
    # Every second one is looked at: all 16 small ones.
    sizes = [(64, 64), (512, 512)] * 16
    assert resolving.resolve(_config(), Blank(*sizes)).data.crop_px == (64, 64)


@pytest.mark.parametrize(("images", "batch_size"), [(1, 2), (2, 2), (5, 5), (8, 8), (50, 8)])
def test_batch_size(images: int, batch_size: int) -> None:
    resolved = resolving.resolve(_config(), Blank(*[(32, 32)] * images))
    assert resolved.data.batch_size == batch_size


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        ([], 500),  # 100 images x 40 epochs / batches of 8
        (["optim.accumulate=2"], 250),
        (["data.batch_size=100"], 200),  # at least
        (["optim.validations=7"], 504),  # up to a multiple of the validations
        (["optim.steps=31"], 40),
        (["optim.steps=31", "optim.validations=31"], 31),
        (["optim.steps=3"], 10),
    ],
)
def test_steps(overrides: list[str], steps: int) -> None:
    resolved = resolving.resolve(_config(*overrides), Blank(*[(32, 32)] * 100))
    assert resolved.optim.steps == steps
    assert steps % resolved.optim.validations == 0


@pytest.mark.parametrize(
    ("overrides", "filled_in"),
    [
        ([], (5e-4, 0.01, None)),
        (["optim.optimizer=sgd"], (0.01, 5e-4, 0.9)),
        (["optim.optimizer=sgd", "optim.momentum=0", "optim.weight_decay=0"], (0.01, 0, 0)),
        (["optim.learning_rate=0.1"], (0.1, 0.01, None)),
    ],
)
def test_rates_are_those_of_the_optimiser(
    overrides: list[str], filled_in: tuple[float | None, ...]
) -> None:
    optim = resolving.resolve(_config(*overrides), Blank((32, 32))).optim
    assert (optim.learning_rate, optim.weight_decay, optim.momentum) == filled_in


def test_workers_leave_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, workers in ((1, 0), (4, 3), (64, 16)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=cores: set(range(n)))
        assert resolving.resolve(_config(), Blank((32, 32))).data.workers == workers
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert resolving.resolve(_config(), Blank((32, 32))).data.workers == 7  # of 64 cores
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    for name, value in {"SLURM_STEP_NUM_TASKS": "8", "SLURM_CPUS_PER_TASK": "6"}.items():
        monkeypatch.setenv(name, value)
    assert resolving.resolve(_config(), Blank((32, 32))).data.workers == 5  # 64 cores, unbound
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS")
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert resolving.resolve(_config(), Blank((32, 32))).data.workers == 5


def test_precision_is_the_best_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "best_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(
        resolving, "best_precision", lambda device: "bf16" if device.type == "cuda" else ""
    )
    assert resolving.resolve(_config(), Blank((32, 32))).precision == "bf16"
    assert resolving.resolve(_config("precision=fp32"), Blank((32, 32))).precision == "fp32"


def test_bf16_only_where_the_processor_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for supported, precision in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda s=supported: s)
        assert best_precision(torch.device("cpu")) == precision


def test_changes_list_what_was_filled_in_and_nothing_else() -> None:
    before = _config("data.workers=3", "precision=fp32", "data.batch_size=4")
    after = resolving.resolve(before, Blank(*[(64, 96)] * 4))
    assert resolving.changes(before, after) == [
        "data.crop_px: (64, 96)",
        "data.augmentation: street",
        "labels.kind: hard",
        "optim.steps: 200",
        "optim.learning_rate: 0.0005",
        "optim.weight_decay: 0.01",
    ]
    assert resolving.changes(after, resolving.resolve(after, Blank((32, 32)))) == []


def test_given_values_stay() -> None:
    shares = ("flip", "vertical_flip", "elastic", "colour", "gamma", "noise")
    changed: dict[str, object] = dict.fromkeys(shares, 0.25)
    changed |= {"scale": [0.5, 0.75], "quarter_turns": True, "rotation": 7.5, "blur": 0.5}
    changed |= {"channel_dropout": 0.125}
    assert {*changed} == {*PRESETS["none"]}
    given = _config(
        "labels.kind=hard",
        "loss.classes=present",
        "loss.threshold=0.01",
        "data.workers=1",
        "precision=bf16",
        "data.batch_size=1",
        "data.crop_px=[40, 50]",
        "data.augmentation=none",
        *(f"data.{key}={value}" for key, value in changed.items()),
        "optim.steps=20",
        "optim.learning_rate=0.1",
        "optim.weight_decay=0",
    )
    assert resolving.resolve(given, Blank((32, 32))).model_dump() == given.model_dump()


def test_the_rules_of_auto_stand_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/recipes.md").read_text(encoding="utf-8")
    for key, rule in resolving.RULES.items():
        own = key != "optim.epochs" and key.removeprefix("data.") not in PRESETS["none"]
        assert not own or f"| `{key}` | {rule} |" in page
    assert "| `data.scale` to `data.noise` | as in the preset data.augmentation |" in page


@pytest.mark.parametrize(
    ("settings", "preset"),
    [
        ([], "street"),
        (["data.source=deepglobe:land"], "aerial"),
        (["data.bands=[4, 3]"], "aerial"),
        (["data.augmentation=medical"], "medical"),
    ],
)
def test_a_preset_fills_what_is_null(settings: list[str], preset: Preset) -> None:
    config = _config("data.flip=0.25", *settings)
    data = resolving.resolve(config, Blank((32, 32))).data
    assert data.augmentation == preset
    found = {key: getattr(data, key) for key in PRESETS[preset]}
    assert found == PRESETS[preset] | {"flip": 0.25}


def test_presets_stand_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/augmentation.md").read_text(encoding="utf-8")
    for key in PRESETS["none"]:
        cells = (
            _cell(PRESETS[name][key]) for name in ("street", "aerial", "microscopy", "medical")
        )
        assert f"| `data.{key}` | {' | '.join(cells)} |" in page


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return f"{value[0]:g} to {value[1]:g}"
    return "yes" if value is True else f"{value:g}" if value else ""


@pytest.mark.parametrize("source", ["data.bands=[4, 3]", "data.source=deepglobe:land"])
def test_runs_of_before_the_presets_are_resumed_as_they_began(source: str) -> None:
    old = _config("data.scale=[0.5, 2]", "data.flip=0.25", "data.colour=0.3", source)
    data = resolving.resolve(old, Blank((32, 32))).data
    new = {*PRESETS["none"]} - {"scale", "flip", "colour"}
    assert all(getattr(data, key) == PRESETS["none"][key] for key in new)
    assert (data.scale, data.flip, data.colour) == ((0.5, 2), 0.25, 0.3)
    written = data.model_dump(exclude=new | {"augmentation"})
    assert ResolvedData.model_validate(written) == data


def test_epochs_become_steps() -> None:
    config = load_config(
        source="digits", overrides=["optim.epochs=2", "data.batch_size=8", "optim.validations=10"]
    )
    optim = resolving.resolve(config, Blank(*[(64, 64)] * 40)).optim
    assert (optim.steps, optim.epochs, optim.validations) == (10, None, 10)
