"""Tables of Hugging Face: the same samples as of a folder, from Parquet or as they are saved."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from softiou.checking import check_dataset
from softiou.checkpoints import read_checkpoint
from softiou.data import FolderDataset, open_dataset, open_images, open_source
from softiou.errors import DataError
from softiou.training import start_training

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables that are made of Parquet."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def table(folder: Path, split: str, *, image: str = "image", mask: str = "mask") -> Any:
    """Return the samples of a split of a folder as a table with types."""
    images = sorted((folder / split / "images").iterdir())
    masks = [folder / split / "masks" / f"{path.stem}.png" for path in images]
    rows: dict[str, list[Any]] = {
        name: [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
        for name, paths in ((image, images), (mask, masks))
    }
    kinds = {image: datasets.Image(), mask: datasets.Image(), "caption": datasets.Value("string")}
    rows["caption"] = [path.stem for path in images]
    return datasets.Dataset.from_dict(rows, datasets.Features(kinds))


@pytest.fixture
def parquet(shapes: Path, tmp_path: Path) -> Path:
    """A folder of Parquet, as `push_to_hub` writes it."""
    out = tmp_path / "hub"
    out.mkdir()
    for split, name in (("train", "train"), ("val", "validation")):
        table(shapes, split).to_parquet(out / f"{name}-00000-of-00001.parquet")
    text = (shapes / "dataset.yaml").read_text()
    (out / "dataset.yaml").write_text(f"layout: hf\n{text}")
    return out


def test_samples_are_those_of_the_folder(parquet: Path, shapes: Path) -> None:
    source = open_source(f"hf:{parquet}")
    assert source.splits() == ("train", "val")
    for split in ("train", "val"):
        found, wanted = open_dataset(source, split), FolderDataset(shapes, split)
        assert len(found) == len(wanted) > 1
        assert found.stems[1] == "0000001"
        assert found.description == wanted.description
        for ours, theirs in zip(pickle.loads(pickle.dumps(found)), wanted, strict=True):
            assert torch.equal(ours["image"], theirs["image"])
            assert torch.equal(ours["target"], theirs["target"])


def test_a_saved_data_set(shapes: Path, tmp_path: Path) -> None:
    several = datasets.DatasetDict({"anything": table(shapes, "train", image="img", mask="label")})
    several.save_to_disk(tmp_path / "saved")
    found, wanted = (
        open_dataset(f"hf:{tmp_path / 'saved'}", "train"),
        FolderDataset(shapes, "train"),
    )
    assert torch.equal(found[1]["target"], wanted[1]["target"])


def test_a_saved_table_is_train(shapes: Path, tmp_path: Path) -> None:
    table(shapes, "val").save_to_disk(tmp_path / "saved")
    assert open_source(f"hf:{tmp_path / 'saved'}").splits() == ("train",)


def test_columns_are_named_in_dataset_yaml(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "hub"
    out.mkdir()
    rows = table(shapes, "train", image="photo", mask="classes")
    rows.to_parquet(out / "train-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"a column of images, `image`, but found none\. Define it"):
        open_source(f"hf:{out}")
    text = (shapes / "dataset.yaml").read_text()
    named = 'layout: hf\nimages: "{stem}.photo"\nmasks: "{stem}.classes"\n'
    (out / "dataset.yaml").write_text(named + text)
    assert torch.equal(
        open_dataset(out, "train")[0]["target"], FolderDataset(shapes, "train")[0]["target"]
    )


def test_it_is_checked_and_trained(parquet: Path, tmp_path: Path, tiny_config: Any) -> None:
    report = check_dataset(parquet)
    assert not [one for one in report.problems if one.severity == "error"]
    config = tiny_config("optim.steps=2", source=parquet)
    run = start_training(config, directory=tmp_path / "run")
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] == 2


def test_images_without_masks(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "hub"
    (out / "data").mkdir(parents=True)
    rows = table(shapes, "train")
    rows.to_parquet(out / "data" / "train-00000-of-00001.parquet")
    rows.map(lambda _: {"mask": None}).to_parquet(out / "data" / "unlabeled-00000-of-00001.parquet")
    images, _ = open_images(f"hf:{out}", "unlabeled")
    assert torch.equal(images[0]["image"], FolderDataset(shapes, "train")[0]["image"])


def test_paths_in_a_table_are_not_followed(shapes: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    image = next((shapes / "train" / "images").iterdir())
    mask = io.BytesIO()
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(mask, "PNG")
    rows = {
        "image": [{"bytes": None, "path": str(image)}],
        "mask": [{"bytes": mask.getvalue(), "path": None}],
    }
    out = tmp_path / "hub"
    out.mkdir()
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pq.write_table(pa.table(rows, pa.schema({"image": kind, "mask": kind})), out / "train.parquet")
    (out / "dataset.yaml").write_text("layout: hf\nclasses: [sky, way]\n")
    with pytest.raises(DataError, match="an image in each row, but row 0 has none"):
        open_dataset(f"hf:{out}", "train")


def test_what_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"PAR1 no table PAR1")
    with pytest.raises(DataError, match=r"hf:.*: Cannot open the data set: "):
        open_source(f"hf:{tmp_path}")
