"""Fixtures: small data sets on disk, and the real ones beside the project."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import ArrayLike
from PIL import Image

Make = Callable[..., Path]
SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


def write_png(path: Path, values: ArrayLike, dtype: Any = np.uint8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype=dtype)).save(path)
    return path


@pytest.fixture
def make_dataset(tmp_path: Path) -> Make:
    """Return a function that writes masks, a grey image for each stem, and dataset.yaml."""

    def make(masks: Mapping[str, Mapping[str, ArrayLike]] | None = None, **contents: Any) -> Path:
        masks = {"train/masks": {"a": [[0, 1], [1, 255]]}} if masks is None else masks
        settings = {"classes": ["sky", "road"], **contents}
        (tmp_path / "dataset.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        for folder, by_stem in masks.items():
            for stem, mask in by_stem.items():
                write_png(tmp_path / folder / f"{stem}.png", mask)
                picture = np.full((*np.shape(mask)[:2], 3), 100)
                image = tmp_path / Path(folder).parent / "images" / f"{stem}.png"
                write_png(image, picture)
                with image.open("ab") as file:  # behind the picture: no two files are copies
                    file.write(f"{folder}/{stem}".encode())
        return tmp_path

    return make


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip("real data are not at ../shared/data")
    return SHARED_DATA
