"""softiou predict: windows, flips and scales, and what is said of mistakes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from softiou.checkpoints import load_trained
from softiou.data import read_image
from softiou.inference import InferenceSettings, MaskWriter, best_device, predict_probs

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (["--window", "32"], InferenceSettings((32, 32))),
        (["--window", "24x32", "--overlap", "0.25"], InferenceSettings((24, 32), overlap=0.25)),
        (["--flips", "--scales", "0.5,1,1.5"], InferenceSettings(flips=True, scales=(0.5, 1, 1.5))),
        (
            ["--window", "32X24", "--batch-size", "3", "--flips"],
            InferenceSettings((32, 24), flips=True),
        ),
    ],
)
def test_settings_reach_the_masks(
    softiou: Run, trained: Any, shapes: Path, options: list[str], settings: InferenceSettings
) -> None:
    image = shapes / "test" / "images" / "test0.png"
    command = ("predict", trained.directory, image, "--out", "masks", "--probabilities")
    result = softiou(*command, *options)
    assert (result.status, result.err) == (0, "")
    assert result.out == "1 of 1 masks written to masks\n"
    model = load_trained(trained.directory).model.to(best_device())
    expected = predict_probs(model, read_image(image), precision="fp32", settings=settings)
    found = np.load("masks/test0.probs.npy").astype(np.float32)
    # In half precision the number of windows in a pass matters a little.
    np.testing.assert_allclose(found, expected.cpu().numpy(), rtol=0, atol=0.01)
    with Image.open("masks/test0.png") as mask:
        assert (np.asarray(mask) == expected.argmax(0).cpu().numpy()).mean() > 0.99


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window", "big"], "--window: expected a side such as 512, or height x width such as"),
        (["--window", "1x2x3"], "but got '1x2x3'"),
        (["--window", "0"], "Expected `window_px` to be a height and a width"),
        (["--overlap", "1"], "Expected `overlap` to be in [0, 0.95], but got 1.0"),
        (
            ["--scales", "1,half"],
            "--scales: expected factors such as 0.75,1,1.25, but got '1,half'",
        ),
        (["--scales", "0"], "Expected `scales` to be one or more positive factors"),
        (["--batch-size", "0"], "Expected `batch_size` to be at least 1"),
    ],
)
def test_mistakes_in_the_settings(
    softiou: Run, trained: Any, shapes: Path, options: list[str], message: str
) -> None:
    result = softiou("predict", trained.directory, shapes / "test" / "images", *options)
    result.assert_refused(message)
    assert not Path("predictions").exists()


def test_a_model_that_predicts_nan_is_refused(softiou: Run, run_copy: Path, shapes: Path) -> None:
    checkpoint = run_copy / "checkpoints" / "best.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    last = [name for name in content["state_dict"] if name.startswith("model.net")][-1]
    content["state_dict"][last] = content["state_dict"][last] * torch.nan
    torch.save(content, checkpoint)
    image = shapes / "test" / "images" / "test0.png"
    softiou("predict", run_copy, image).assert_refused("predicts NaN for", "test0", "diverged")
    assert list(Path("predictions").iterdir()) == []


def test_ctrl_c_leaves_whole_files(
    softiou: Run, trained: Any, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = MaskWriter.write

    def interrupted(self: MaskWriter, file: Path, *image: Any) -> None:
        if file.stem == "test1":
            raise KeyboardInterrupt
        write(self, file, *image)

    images = shapes / "test" / "images"
    with monkeypatch.context() as patch:
        patch.setattr(MaskWriter, "write", interrupted)
        result = softiou("predict", trained.directory, images, "--out", "masks")
    assert (result.status, result.err) == (130, "")
    assert result.out == "1 of 3 masks written to masks\n"
    assert [path.name for path in Path("masks").iterdir()] == ["test0.png"]
    with Image.open("masks/test0.png") as mask:
        assert mask.size == (48, 40)
    again = softiou("predict", trained.directory, images, "--out", "masks")
    again.assert_refused("1 results already exist", "--overwrite")
