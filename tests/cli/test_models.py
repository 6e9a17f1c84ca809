"""`softiou models`: what it lists, and what the figures are."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from softiou.models import catalogue

Run = Callable[..., Any]


def test_architectures_with_their_cost(softiou: Run) -> None:
    result = softiou("models", "--crop", 64, "--json")
    content = json.loads(result.out)
    rows = {row["architecture"]: row for row in content["models"]}
    assert len(rows) == 14
    assert rows["deeplabv3plus"]["encoder"] == "mobilenet_v2"
    assert all(rows[one]["encoder"].startswith("tu-vit_") for one in ("dpt", "eomt", "linear"))
    assert (rows["eomt"]["stride"], rows["linear"]["stride"]) == (4, 16)
    assert (rows["deeplabv3plus"]["stride"], rows["unet"]["stride"]) == (4, 1)
    assert all(row["refusal"] is None for row in content["models"])
    assert content["encoders"]["mix_transformer"] == [f"mit_b{size}" for size in range(6)]


def test_text(softiou: Run) -> None:
    out = softiou("models", "--architecture", "unet", "--encoder", "resnet18", "--crop", 64).out
    assert "14.3" in out  # million weights
    assert "GMACs of a crop of 64x64, for 19 classes" in out
    assert "tu-NAME" not in out


def test_everything_names_the_encoders(softiou: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "architectures", lambda: ["linknet"])
    out = softiou("models", "--crop", 32).out
    assert "  resnet18 resnet34 resnet50 " in out
    assert "timm-" not in out
    assert "model.architecture=transformers" in out


def test_what_one_encoder_cannot_is_said(softiou: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "architectures", lambda: ["dpt", "pan", "unet"])
    out = softiou("models", "--encoder", "tu-test_vit", "--crop", 64).out
    assert out.count("Cannot build") == 2
    assert "dpt" in out.split("Cannot build")[0]


def test_search(softiou: Run) -> None:
    assert softiou("models", "--search", "mit_b").out.split() == [f"mit_b{n}" for n in range(6)]
    assert "tu-convnext_tiny" in softiou("models", "--search", "convnext_tiny").out.split()
    found = json.loads(softiou("models", "--search", "zzzz", "--json").out)
    assert found == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--search", "zzzz"), "no encoder's name contains 'zzzz'"),
        (("--architecture", "unett"), "Did you mean unet"),
        (("--architecture", "transformers"), "name one, --encoder REPOSITORY|FOLDER"),
        (("--encoder", "resnet19"), "Unknown encoder 'resnet19'"),
        (("--architecture", "dpt", "--encoder", "resnet18"), "transformers of timm, tu-NAME"),
    ],
)
def test_mistakes(softiou: Run, arguments: tuple[str, ...], message: str) -> None:
    softiou("models", *arguments).assert_refused(message)
