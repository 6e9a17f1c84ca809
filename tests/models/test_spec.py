"""What a model is, as plain values and back."""

from pathlib import Path

import pytest

from softiou.errors import CheckpointError
from softiou.models import ModelSpec

FILE = Path("runs/a/best.ckpt")


def test_plain_values_and_back() -> None:
    spec = ModelSpec("unet", "resnet18", 3, auxiliary=True, settings={"depth": 4})
    assert ModelSpec.from_dict(spec.as_dict(), file=FILE) == spec


def test_older_files_name_fewer_settings() -> None:
    stored = {"architecture": "unet", "encoder": "resnet18", "num_classes": 3}
    assert ModelSpec.from_dict(stored, file=FILE) == ModelSpec("unet", "resnet18", 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"architecture": "unet", "encoder": "a", "num_classes": 3, "depth": 4, "bias": 1},
            r"best\.ckpt has a model with settings unknown .*: \['bias', 'depth'\]\. Update",
        ),
        (
            {"architecture": "unet", "num_classes": 3},
            r"best\.ckpt has an invalid model specification: .*encoder",
        ),
    ],
)
def test_errors_name_the_file_and_the_settings(values: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        ModelSpec.from_dict(values, file=FILE)
