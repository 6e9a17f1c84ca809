"""The recipes that come with the package: up to date, complete, as published, and they train."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from marks import slow
from recipes.real_layouts import write_tree
from scripts import write_recipes
from softiou.configuration import load_config
from softiou.configuration.recipe_files import FOLDER, recipe_names, recipe_path, summarise_recipe
from softiou.data.source import open_source
from softiou.training import start_training
from softiou.training.callbacks import AtomicCheckpointIO

NUM_CLASSES = {"cityscapes": 19, "voc": 21, "ade20k": 150, "deepglobe": 6, "camvid": 11}
SIDE_PX = 32
METHODS = ("ce", "jml", "jml-bls", "jml-kd", "jml-ssl")
# What costs time and what needs a network; architecture, loss and optimiser stay.
SHORT = (
    f"data.crop_px=[{SIDE_PX}, {SIDE_PX}]",
    "data.batch_size=2",
    "data.workers=0",
    "model.encoder_weights=none",
    "optim.steps=2",
    "optim.validations=1",
    "precision=fp32",
)


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Return sections as dotted keys."""
    return {
        f"{section}.{key}": value
        for section, inside in values.items()
        if isinstance(inside, dict)
        for key, value in inside.items()
    }


# The files


def test_files_are_written_from_the_grid(tmp_path: Path) -> None:
    (tmp_path / "former.yaml").write_text("no longer in the grid")
    write_recipes.write(tmp_path)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    shipped = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    assert shipped == written, "run `python -m scripts.write_recipes`"


def test_every_data_set_has_every_method() -> None:
    grid = {f"{data_set}-{method}" for data_set in NUM_CLASSES for method in METHODS}
    assert grid < set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_file_is_complete_and_stands_alone(name: str) -> None:
    path = recipe_path(name)
    config, text = load_config(file=path), path.read_text(encoding="utf-8")
    held = yaml.safe_load(text)
    assert held == config.model_dump(mode="json") | {"data": held["data"]}  # 1_8 is a word to us
    assert {key for key, value in _flat(held).items() if value == "auto"} <= {
        "data.workers",
        "distillation.teacher_precision",
        "semi_supervised.teacher_precision",
    }
    header = [line for line in text.splitlines() if line.startswith("#")]
    assert f"#     softiou {config.verb} {config.data.source} --config {name}" in header
    said = "\n".join(header)
    for section in ("data", "labels", "model", "loss", "optim", "figures"):
        assert f"#   {section}: " in said, "every number has a source"
    assert name.startswith(config.data.source.partition(":")[0] + "-")
    if config.distillation:
        teacher = Path(str(config.distillation.teacher)).name
        assert f"--config {teacher} --out runs/{teacher}" in said
        assert teacher in recipe_names()


AUTHORS = {
    "data.batch_size": 8,
    "data.scale": [0.5, 2.0],
    "data.flip": 0.5,
    "data.colour": 0.0,
    "optim.optimizer": "adamw",
    "optim.learning_rate": 6e-4,  # ten times 6e-5
    "optim.encoder_rate": 0.1,
    "optim.weight_decay": 0.01,
    "optim.warmup": 0.01,
    "optim.poly_power": 1.0,
    "optim.momentum": None,
    "optim.clip_norm": 0.0,
    "loss.smooth": 1.0,
    "loss.per": "batch",
}
BOUNDARY = {
    "labels.kind": "boundary",
    "labels.epsilon": 0.5,
    "labels.width": 1,
    "labels.adaptive": False,
}
TEACHER = {"distillation.weight": 0.5, "distillation.temperature": 1.0}
SGD = {"optim.optimizer": "sgd", "optim.momentum": 0.9, "optim.poly_power": 0.9}
R50 = {"model.architecture": "deeplabv3", "model.encoder": "tu-resnet50d", "model.output_stride": 8}
SEMI = SGD | {
    "model.encoder": "tu-resnet101",
    "model.output_stride": 16,
    "optim.weight_decay": 2e-4,
    "semi_supervised.views": 2,
    "semi_supervised.feature_dropout": 0.5,
    "semi_supervised.cut_mix": 0.5,
}


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("cityscapes-ce", AUTHORS | R50 | {"loss.cross_entropy": 1.0, "optim.steps": 40_000}),
        ("cityscapes-jml", AUTHORS | R50 | {"loss.cross_entropy": 0.25, "loss.classes": "present"}),
        ("cityscapes-jml", {"data.crop_px": [512, 1024], "optim.steps": 40_000}),
        ("cityscapes-jml-bls", AUTHORS | R50 | BOUNDARY | {"loss.cross_entropy": 0.25}),
        ("cityscapes-jml-kd", AUTHORS | TEACHER | {"model.encoder": "tu-resnet18d"}),
        ("cityscapes-jml-ic", AUTHORS | {"loss.per": {"image": 0.5, "class": 0.5}}),
        (
            "cityscapes-jml-sgd",
            SGD | R50 | {"optim.learning_rate": 0.1, "optim.weight_decay": 5e-4},
        ),
        ("cityscapes-segformer-jml", AUTHORS | {"model.encoder": "mit_b2"}),
        ("cityscapes-pspnet-jml-kd", AUTHORS | TEACHER | {"model.architecture": "pspnet"}),
        (
            "cityscapes-jml-ssl",
            SEMI
            | {
                "data.crop_px": [800, 800],
                "optim.learning_rate": 0.0025,
                "optim.encoder_rate": 1.0,
                "semi_supervised.confidence_threshold": 0.0,
                "optim.steps": 240 * (2603 // 8),
            },
        ),
        ("voc-jml-bls", AUTHORS | R50 | BOUNDARY | {"data.crop_px": [512, 512]}),
        ("voc-jml", {"data.train_split": "trainaug", "optim.steps": 40_000}),
        (
            "voc-jml-ssl",
            SEMI
            | {
                "optim.learning_rate": 0.005,
                "optim.encoder_rate": 0.1,
                "semi_supervised.confidence_threshold": 0.95,
                "optim.steps": 80 * (9_118 // 8 + 1),
                "data.train_split": "train",
            },
        ),
        ("ade20k-jml", AUTHORS | R50 | {"data.crop_px": [512, 512], "optim.steps": 80_000}),
        ("deepglobe-jml-kd", AUTHORS | TEACHER | {"optim.steps": 60 * (643 // 8)}),
    ],
)
def test_numbers_are_the_published_ones(name: str, published: dict[str, Any]) -> None:
    held = _flat(yaml.safe_load(recipe_path(name).read_text(encoding="utf-8")))
    assert {key: held[key] for key in published} == published


def test_methods_of_a_data_set_differ_in_the_method_alone() -> None:
    for data_set in NUM_CLASSES:
        ce, jml, bls = (
            _flat(load_config(file=recipe_path(f"{data_set}-{method}")).model_dump())
            for method in METHODS[:3]
        )
        assert {key for key in ce if ce[key] != jml[key]} == {"loss.cross_entropy"}
        assert {key for key in jml if jml[key] != bls[key]} <= {
            *BOUNDARY,
            "loss.classes",
            "loss.threshold",
        }


# Training


@pytest.fixture(scope="module")
def source_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Return a function that makes a tiny data set in the layout of a real one, once."""
    root = tmp_path_factory.mktemp("data sets")
    made: dict[str, str] = {}

    def make(data_set: str) -> str:
        if data_set not in made:
            made[data_set] = write_tree(data_set, root / data_set)
        return made[data_set]

    return make


@pytest.fixture(scope="module")
def teacher_of(
    source_of: Callable[[str], str], tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Return a function that trains the smallest teacher of a data set, once."""
    root = tmp_path_factory.mktemp("teachers")

    def make(data_set: str) -> Path:
        run = root / data_set
        if not run.exists():
            short = ("optim.steps=1", "optim.validations=1")
            config = load_config(source=source_of(data_set), overrides=[*tiny, *short])
            start_training(config, directory=run)
        return run

    return make


def _few_masks(data_set: str, source: str, folder: Path) -> list[str]:
    """Restrict the masks to those of two images; on VOC, train is a part of trainaug already."""
    if data_set == "voc":
        return []
    stems = list(open_source(source).images("train"))[:-1][:2]
    few = folder / "few.txt"
    few.write_text("\n".join(stems), encoding="utf-8")
    return [f"data.train_split={json.dumps(str(few))}"]


def _one_of_each() -> list[str]:
    """Return one recipe for each network, loss, kind of labels, optimiser and verb.

    The others differ from these in the data set alone, whose layout has tests of its own. The data
    sets take turns.
    """
    alike: dict[tuple[object, ...], list[str]] = {}
    for name in recipe_names():
        config = load_config(file=recipe_path(name))
        model, optimizer = config.model.model_dump_json(), config.optim.optimizer
        loss = config.loss.model_dump_json(exclude={"classes", "threshold"})
        key = (config.verb, model, loss, config.labels.kind, optimizer)
        alike.setdefault(key, []).append(name)
    return [names[turn % len(names)] for turn, names in enumerate(alike.values())]


# Those with the smaller networks, one of each verb.
QUICK = ("camvid-jml-bls", "camvid-jml-kd", "camvid-jml-ssl", "cityscapes-segformer-jml")


@pytest.mark.parametrize(
    "name", [*QUICK, *slow(*(one for one in _one_of_each() if one not in QUICK))]
)
def test_two_steps(
    name: str,
    source_of: Callable[[str], str],
    teacher_of: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = summarise_recipe(name)
    source, overrides = source_of(recipe.data_set), list(SHORT)
    if recipe.verb == "semi":
        overrides += [
            "semi_supervised.batch_size=2",
            *_few_masks(recipe.data_set, source, tmp_path),
        ]
    if recipe.verb == "distill":
        overrides.append(f"distillation.teacher={json.dumps(str(teacher_of(recipe.data_set)))}")
    config = load_config(source=source, file=recipe_path(name), overrides=overrides)
    # A gigabyte for each of the larger networks.
    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", lambda *_, **__: None)
    run = start_training(config, directory=tmp_path / "run")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (last,) = (line for line in lines if "train/loss" in line)
    assert last["step"] == 2
    assert math.isfinite(last["train/loss"])
    assert last["train/loss"] > 0
    assert ("train/auxiliary" in last) == (config.loss.auxiliary > 0)
    kept = load_config(file=run / "config.yaml")
    assert (kept.model.architecture, kept.loss, kept.labels) == (
        recipe.architecture,
        config.loss,
        config.labels,
    )
