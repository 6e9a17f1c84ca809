"""Small data sets on disk whose pictures differ, as those of real data do."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import ArrayLike
from PIL import Image

Make = Callable[..., Path]


@pytest.fixture
def make_dataset(tmp_path: Path) -> Make:
    """Return a function that writes masks, a picture of noise for each stem, and dataset.yaml."""
    random = np.random.default_rng(0)

    def make(masks: Mapping[str, Mapping[str, ArrayLike]] | None = None, **contents: Any) -> Path:
        masks = {"train/masks": {"a": [[0, 1], [1, 255]]}} if masks is None else masks
        settings = {"classes": ["sky", "road"], **contents}
        root = tmp_path / "data"
        root.mkdir(exist_ok=True)
        (root / "dataset.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        for folder, by_stem in masks.items():
            for stem, mask in by_stem.items():
                image = root / Path(folder).parent / "images" / f"{stem}.png"
                write(root / folder / f"{stem}.png", mask)
                write(image, random.integers(0, 256, (*np.shape(mask)[:2], 3)))
        return root

    return make


def write(path: Path, values: ArrayLike) -> Path:
    """Write an 8-bit PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)
    return path
