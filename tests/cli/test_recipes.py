"""softiou recipes, and recipes by name in --config."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softiou.configuration import load_config
from softiou.configuration.recipe_files import recipe_names, recipe_path

Run = Callable[..., Any]  # see conftest.py


def test_table_lists_every_recipe(softiou: Run) -> None:
    result = softiou("recipes", "ls")
    assert result.status == 0
    rows = [line.split() for line in result.out.splitlines()]
    assert [row[0] for row in rows if row and row[0] in recipe_names()] == list(recipe_names())
    (row,) = (row for row in rows if row[:1] == ["cityscapes-jml-kd"])
    assert row[1:] == [
        "cityscapes",
        "jml-kd",
        "distill",
        "deeplabv3",
        "tu-resnet18d",
        "40,000",
        "512x1024",
        "8",
    ]


def test_list_of_a_part_as_json(softiou: Run) -> None:
    found = json.loads(softiou("recipes", "ls", "ssl", "--json").out)
    assert [one["name"] for one in found] == [name for name in recipe_names() if "ssl" in name]
    assert found[-1] == {
        "name": "voc-jml-ssl",
        "data_set": "voc",
        "method": "jml-ssl",
        "title": "PASCAL VOC 2012: Jaccard metric loss, the masks of train and all images of "
        "trainaug",
        "verb": "semi",
        "architecture": "deeplabv3plus",
        "encoder": "tu-resnet101",
        "steps": 91_200,
        "crop_px": [320, 320],
        "batch_size": 8,
    }


def test_list_of_nothing(softiou: Run) -> None:
    softiou("recipes", "ls", "mnist").assert_refused("No recipe's name contains 'mnist'")
    assert softiou("recipes", "ls", "mnist", "--json").out == "[]\n"


def test_recipe_is_shown(softiou: Run) -> None:
    result = softiou("recipes", "show", "voc-jml")
    assert result.out == recipe_path("voc-jml").read_text(encoding="utf-8")


def test_recipe_is_copied(softiou: Run, tmp_path: Path) -> None:
    Path("settings").mkdir()
    for arguments, copy in (
        ([], "camvid-jml-ssl.yaml"),
        (["mine.yaml"], "mine.yaml"),
        (["settings"], "settings/camvid-jml-ssl.yaml"),
    ):
        result = softiou("recipes", "cp", "camvid-jml-ssl", *arguments)
        assert result.out == f"{copy}: edit it, and run  softiou semi DATA --config {copy}\n"
        assert (tmp_path / copy).read_bytes() == recipe_path("camvid-jml-ssl").read_bytes()


def test_copy_overwrites_nothing(softiou: Run) -> None:
    Path("voc-jml.yaml").write_text("mine")
    softiou("recipes", "cp", "voc-jml").assert_refused("voc-jml.yaml already exists")
    assert Path("voc-jml.yaml").read_text() == "mine"
    softiou("recipes", "cp", "voc-jml", "a/b.yaml").assert_refused("the folder a does not exist")


@pytest.mark.parametrize("verb", ["show", "cp"])
def test_unknown_recipe(verb: str, softiou: Run) -> None:
    softiou("recipes", verb, "voc-jlm").assert_refused(
        "There is no recipe 'voc-jlm'. Did you mean one of voc-jml, ",
        "`softiou recipes ls` lists them all.",
    )
    softiou("recipes", verb, "segformer").assert_refused(
        "Did you mean one of ade20k-segformer-jml, cityscapes-segformer-jml?"
    )
    result = softiou("recipes", verb, "x" * 40)
    result.assert_refused("There is no recipe")
    assert "Did you mean" not in result.err
    assert list(Path().iterdir()) == []


# --config


def test_recipe_by_name_with_another_data_set(
    softiou: Run, shapes: Path, tiny: tuple[str, ...]
) -> None:
    short = ("optim.steps=1", "optim.validations=1")
    result = softiou("train", shapes, "--config", "camvid-jml", *tiny, *short)
    assert result.status == 0, result.err
    (run,) = Path("runs").iterdir()
    held, recipe = (
        load_config(file=run / "config.yaml"),
        load_config(file=recipe_path("camvid-jml")),
    )
    assert held.data.source == str(shapes)
    assert held.loss == recipe.loss
    assert held.optim.warmup == recipe.optim.warmup


def test_a_file_goes_before_a_recipe(softiou: Run) -> None:
    Path("camvid-jml").write_text("optim: {stepz: 1}\n")
    result = softiou("train", "digits", "--config", "camvid-jml")
    result.assert_refused("camvid-jml: The configuration has mistakes", "optim.stepz: unknown key")


def test_neither_file_nor_recipe(softiou: Run) -> None:
    softiou("train", "digits", "--config", "camvid-jlm").assert_refused(
        "--config camvid-jlm: the file does not exist. There is no recipe 'camvid-jlm'. "
        "Did you mean one of camvid-jml"
    )
    # Names that a recipe cannot have are files.
    for name in ("camvid-jlm.yaml", "settings/camvid-jml"):
        result = softiou("train", "digits", "--config", name)
        result.assert_refused(f"Cannot read the configuration {name}: No such file")


def test_recipe_of_another_verb(softiou: Run) -> None:
    result = softiou("train", "digits", "--config", "camvid-jml-kd")
    result.assert_refused("use `softiou distill`")
