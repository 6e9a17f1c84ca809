"""The examples of docs/how-to/export.md, as they stand there."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from softiou.exporting import Format, Report

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "export.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_there_is_an_example_of_each_format() -> None:
    assert len(BLOCKS) == 4
    for suffix in ("onnx", "pt2", "safetensors"):
        assert any(f"model.{suffix}" in block for block in BLOCKS)


@pytest.mark.parametrize("block", BLOCKS, ids=["onnxruntime", "torch", "safetensors", "windows"])
def test_examples_run(
    block: str,
    files: dict[Format, Report],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for report in files.values():
        shutil.copy(report.path, tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 300, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(block, str(PAGE), "exec"), names)
    probs = torch.as_tensor(names["probs"])
    torch.testing.assert_close(probs.sum(-3), torch.ones_like(probs.sum(-3)))
    if "classes" in names:
        assert names["classes"] == ["ground", "bôx", "disc"]
    if "mask" in names:
        assert np.shape(names["mask"]) == (40, 300)
        assert capsys.readouterr().out.startswith("{'ground': ")
