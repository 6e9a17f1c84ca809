"""The benchmark of exported files: its rows, and the table of them."""

from pathlib import Path

import pytest
import torch

from benchmarks import export, speed_tables
from softiou.models import ModelSpec


def test_rows_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "FORMATS", ("safetensors",))
    images, source = export.load_images(Path("no such folder"))
    assert source == "5 scenes of digits"
    assert len({tuple(image.shape) for image in images}) == 5
    (row,) = export.measure(
        ModelSpec("linknet", "tu-test_efficientnet", export.NUM_CLASSES), images
    )
    assert row["ok"]
    assert row["difference"] == 0
    assert row["size_mib"] > 0


def test_what_does_not_export_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "FORMATS", ("onnx",))
    images = [torch.zeros(3, 40, 40, dtype=torch.uint8)]
    spec = ModelSpec("upernet", "tu-swin_tiny_patch4_window7_224", export.NUM_CLASSES)
    (row,) = export.measure(spec, images)
    assert not row["ok"]
    assert "shifted windows" in row["why"]


def test_logits_are_as_sharp_as_trained_ones() -> None:
    model = export.draw_model(ModelSpec("linknet", "tu-test_efficientnet", 5))
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    scaling = export.sharpen(model, image)
    with torch.inference_mode():
        logits = scaling.apply(model(image[None]))
    assert float(logits.std(1).mean()) == pytest.approx(export.LOGIT_DEVIATION, rel=1e-4)


def test_the_table() -> None:
    good = {"ok": True, "difference": 3e-6, "size_mib": 60.9, "smallest_px": 1}
    rows = [
        {"architecture": "unet", "encoder": "a", "format": "onnx", **good},
        {
            "architecture": "unet",
            "encoder": "a",
            "format": "torch-export",
            "ok": False,
            "why": "No.",
        },
    ]
    versions = {"torch": "2", "onnxruntime": "1"}
    table = speed_tables.export_table({"images": "some", "versions": versions, "rows": rows})
    assert "| unet | a | 3e-06 | 61 | no |  | 1 / – |\n" in table  # noqa: RUF001
    assert table.endswith("\n\n- No.\n")
