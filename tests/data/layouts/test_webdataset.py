"""Shards of WebDataset: what is found in them, at URLs too, and the same samples as of a folder."""

import io
import multiprocessing
import pickle
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from marks import slow
from softiou.checking import FixReport, check_dataset, fix_dataset
from softiou.checkpoints import read_checkpoint
from softiou.data import Bands, open_dataset, open_images, open_source
from softiou.data.members import Member
from softiou.errors import DataError
from softiou.jobs import predict
from softiou.recipes.supervised import SupervisedRecipe
from softiou.training import resume_training, start_training

Make = Callable[..., Any]


def encoded(values: Any, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.array(values, np.uint8)).save(file, form)
    return file.getvalue()


def write(path: Path, **files: Any) -> Path:
    """Write a shard; double underscores stand for dots and slashes: a__png."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            about = tarfile.TarInfo(name.replace("___", "/").replace("__", "."))
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return path


def picture(seed: int) -> bytes:
    return encoded(np.random.default_rng(seed).integers(0, 256, (2, 3, 3)))


MASK = encoded([[0, 1, 1], [0, 0, 255]])


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two samples of train in two shards, one of val in a folder."""
    write(tmp_path / "train-000000.tar", a__png=picture(0), a__mask__png=MASK, a__json=b"{}")
    write(tmp_path / "train-000001.tar", b__v1__x=b"", b__jpg=picture(1), b__png=MASK)
    write(tmp_path / "validation" / "0.tar", c__img__png=picture(2), c__seg__png=MASK)
    (tmp_path / "dataset.yaml").write_text("classes: [sky, road]\n")
    return tmp_path


def test_samples_by_key(shards: Path) -> None:
    dataset = open_dataset(f"webdataset:{shards}", "train")
    assert dataset.stems == ("a", "b")
    assert [str(path.relative_to(shards)) for path in dataset.files(1)] == [
        "train-000001.tar/b.jpg",
        "train-000001.tar/b.png",
    ]
    assert dataset[0]["target"].tolist() == [[0, 1, 1], [0, 0, 255]]
    expected = np.random.default_rng(0).integers(0, 256, (2, 3, 3))
    assert dataset[0]["image"].permute(1, 2, 0).tolist() == expected.tolist()
    source = open_source(f"webdataset:{shards}")
    assert source.splits() == ("train", "val")
    assert source.description.classes == ("sky", "road")
    assert open_dataset(f"webdataset:{shards}", "val").stems == ("c",)


def test_layout_in_dataset_yaml(shards: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "splits").mkdir(parents=True)
    (home / "splits" / "one.txt").write_text("b\n")
    text = f"layout: webdataset\nroot: {shards}\nclasses: [sky, road, car]\n"
    text += "merge: {ground: [road, car]}\n"
    (home / "dataset.yaml").write_text(text)
    assert open_dataset(home, "one").stems == ("b",)
    assert open_dataset(home, "one").description.classes == ("sky", "ground")


def test_classes_are_those_of_the_masks_without_dataset_yaml(shards: Path) -> None:
    (shards / "dataset.yaml").unlink()
    source = open_source(f"webdataset:{shards}")
    assert source.description.classes == ("class_0", "class_1")
    assert source.note.startswith("there is no dataset.yaml, so masks define the classes")


def test_a_shard_alone_is_train(shards: Path) -> None:
    assert open_dataset(f"webdataset:{shards / 'train-000000.tar'}", "train").stems == ("a",)
    one = write(shards / "alone" / "batch-00.tar", a__png=picture(0), a__mask__png=MASK)
    assert open_source(f"webdataset:{one.parent}").splits() == ("train",)


def test_annotators_and_named_endings(tmp_path: Path) -> None:
    files = {"a__jpg": picture(0), "a__mask_1__png": MASK, "a__mask_2__png": MASK}
    files |= {"b__jpg": picture(1), "b__mask_2__png": MASK}
    write(tmp_path / "train.tar", **files)
    yaml = tmp_path / "dataset.yaml"
    yaml.write_text("classes: [sky, road]\n")
    dataset = open_dataset(f"webdataset:{tmp_path}", "train")
    assert (dataset.annotators, dataset.labels) == (2, "votes")
    assert dataset[1]["target"].tolist() == [[[0, 1, 1], [0, 0, 255]], [[255] * 3] * 2]
    yaml.write_text('classes: [sky, road]\nimages: "{stem}.jpg"\nmasks: "{stem}.mask_2.png"\n')
    assert open_dataset(f"webdataset:{tmp_path}", "train").labels == "hard"
    yaml.write_text('classes: [sky, road]\nmasks: "{stem}_mask.png"\n')
    with pytest.raises(DataError, match=r"Expected endings such as .*_mask\.png"):
        open_source(f"webdataset:{tmp_path}")


def test_keys_that_shards_share_get_their_name(tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / f"train-{number}.tar", a__png=picture(number), a__mask__png=MASK)
    dataset = open_dataset(f"webdataset:{tmp_path}", "train")
    assert dataset.stems == ("train-0/a", "train-1/a")
    assert [path.name for path in dataset.files(1)] == ["a.png", "a.mask.png"]
    inner = tmp_path / "inner"
    write(inner / "train.tar", a__png=picture(0), a__mask__png=MASK, a__seg__png=MASK)
    with pytest.raises(DataError, match=r"Expected one file per suffix and key.*1 \(a\)"):
        open_dataset(f"webdataset:{inner}", "train")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text("classes: [sky, road]\n")
    with pytest.raises(DataError, match=r"Expected shards, \*\.tar or \*/\*\.tar, but found none"):
        open_source(f"webdataset:{tmp_path}")
    write(tmp_path / "train.tar", a__png=picture(0), b__png=picture(1), b__mask__png=MASK)
    with pytest.raises(
        DataError, match=r"Images without a mask here: 1 \(a\).*beside it in the shard"
    ):
        open_dataset(f"webdataset:{tmp_path}", "train")
    write(tmp_path / "train.tar", a__mask__png=b"", a__png=b"no picture")
    with pytest.raises(DataError, match=r"train\.tar/a\.png: Cannot decode the image"):
        open_dataset(f"webdataset:{tmp_path}", "train")[0]


def test_members_act_as_paths(shards: Path) -> None:
    path, _ = open_dataset(f"webdataset:{shards}", "train").files(0)
    again = pickle.loads(pickle.dumps(path))
    for one in (path, again):
        assert isinstance(one, Member)
        assert (one.name, one.stem, one.suffix, one.parent.name) == (
            "a.png",
            "a",
            ".png",
            "train-000000.tar",
        )
        assert one.read_bytes() == picture(0)
        assert one.stat().st_size == len(picture(0))
        assert one.stat().st_mtime_ns == (shards / "train-000000.tar").stat().st_mtime_ns
        assert (one.exists(), one.is_file(), one.is_dir(), one.resolve()) == (
            True,
            True,
            False,
            one,
        )
        assert one == path
        assert len({one, path}) == 1
        with pytest.raises(OSError, match="not a shard"):
            one.write_bytes(b"")
    assert not (path.parent / "b.png").exists()


def test_a_shard_that_changes_is_noticed(shards: Path) -> None:
    dataset = open_dataset(f"webdataset:{shards}", "train")
    write(shards / "train-000000.tar", a__png=picture(7), a__mask__png=MASK, c=b"1" * 9999)
    with pytest.raises(DataError, match=r"train-000000\.tar: Expected an unchanged shard"):
        dataset[0]
    assert open_dataset(f"webdataset:{shards}", "train")[0]["image"].shape == (3, 2, 3)


@pytest.fixture
def bucket(shards: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The shards at a URL in memory."""
    monkeypatch.setenv("SOFTIOU_CACHE", str(tmp_path / "cache"))
    files = fsspec.filesystem("memory")
    for path in shards.rglob("*"):
        if path.suffix in (".tar", ".yaml"):
            files.pipe(f"/bucket/data/{path.relative_to(shards)}", path.read_bytes())
    yield "memory://bucket/data"
    files.rm("/bucket", recursive=True)


def test_shards_at_a_url(bucket: str, tmp_path: Path) -> None:
    dataset = open_dataset(f"webdataset:{bucket}", "train")
    assert str(dataset.files(0)[0]) == f"{bucket}/train-000000.tar/a.png"
    assert dataset[0]["target"].tolist() == [[0, 1, 1], [0, 0, 255]]
    assert len(list((tmp_path / "cache/shards").glob("*.index"))) == 3
    (tmp_path / "dataset.yaml").write_text(
        f"layout: webdataset\nroot: {bucket}\nclasses: [sky, way]\n"
    )
    assert open_dataset(tmp_path, "val").description.classes == ("sky", "way")
    with pytest.raises(
        DataError,
        match=r"nowhere://x/dataset\.yaml: Cannot open the URL.*Install fsspec's package for it",
    ):
        open_source("webdataset:nowhere://x")


def test_bands_and_masks_of_tiffs(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("rasterio")
    stored, mask = np.arange(64, dtype=np.uint16).reshape(4, 4, 4), io.BytesIO()
    image = io.BytesIO()
    tifffile.imwrite(image, stored, planarconfig="contig", photometric="minisblack")
    tifffile.imwrite(mask, np.eye(4, dtype=np.uint8))
    write(tmp_path / "train.tar", a__tif=image.getvalue(), a__mask__tif=mask.getvalue())
    bands = Bands((4, 2), ((0.0, 1.0), (0.0, 1.0)))
    sample = open_dataset(f"webdataset:{tmp_path}", "train", bands=bands)[0]
    assert sample["image"].tolist() == stored[..., [3, 1]].transpose(2, 0, 1).tolist()
    assert sample["target"].tolist() == np.eye(4).tolist()


@pytest.mark.parametrize("method", ["fork", *slow("spawn")])
def test_workers_read_shards(method: str, shards: Path) -> None:
    dataset = open_dataset(f"webdataset:{shards}", "train")
    context = multiprocessing.get_context(method)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context=context)
    assert [one["stem"] for one in loader] == ["a", "b"]


# The same data set as a folder and as shards


def convert(source: Path, out: Path, shard_bytes: int | None = None) -> FixReport:
    return fix_dataset(source, out, report=check_dataset(source), shard_bytes=shard_bytes)


@pytest.fixture
def converted(shapes: Path, tmp_path: Path) -> Path:
    convert(shapes, tmp_path / "tars", shard_bytes=20_000)
    return tmp_path / "tars"


def weights(run: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = read_checkpoint(run / "checkpoints/last.ckpt")["state_dict"]
    return found


def test_training_is_that_of_the_folder_and_resumes_in_the_middle(
    converted: Path,
    shapes: Path,
    tiny_config: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(list(converted.glob("train-*.tar"))) > 1
    settings = ("data.scale=[0.5, 2]", "data.flip=0.5", "data.workers=1")
    folder = start_training(tiny_config(*settings), directory=tmp_path / "folder")
    config = tiny_config(*settings, source=converted)
    step, calls = SupervisedRecipe.training_step, list[int]()

    def interrupted(self: SupervisedRecipe, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:  # of the five of an epoch
            raise RuntimeError("power cut")
        return step(self, *arguments)

    monkeypatch.setattr(SupervisedRecipe, "training_step", interrupted)
    with pytest.raises(RuntimeError, match="power cut"):
        start_training(config, directory=tmp_path / "cut")
    monkeypatch.undo()
    resume_training(tmp_path / "cut")
    one, other = weights(folder), weights(tmp_path / "cut")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_check_and_predict(converted: Path, shapes: Path, trained: Any, tmp_path: Path) -> None:
    found = check_dataset(str(converted))
    assert ([*found.errors], [*found.splits]) == ([], ["train", "val", "test"])
    ours = predict(trained.directory, converted / "val-000000.tar").save(tmp_path / "ours")
    assert ours.written == 3
    predict(trained.directory, shapes / "val" / "images").save(tmp_path / "theirs")
    for path in (tmp_path / "theirs").iterdir():
        assert (tmp_path / "ours" / path.name).read_bytes() == path.read_bytes()


def test_converting_copies_images(shapes: Path, converted: Path, tmp_path: Path) -> None:
    theirs, ours = open_dataset(shapes, "train"), open_dataset(converted, "train")
    assert ours.stems == theirs.stems
    assert ours.description == theirs.description
    for number in range(len(ours)):
        assert ours.files(number)[0].read_bytes() == theirs.files(number)[0].read_bytes()
        assert torch.equal(ours[number]["target"], theirs[number]["target"])
    found = convert(converted, tmp_path / "folder")
    assert (found.samples, found.complete) == (16, True)
    again = open_dataset(tmp_path / "folder", "train")
    assert torch.equal(again[3]["target"], theirs[3]["target"])


def test_dots_of_names_become_underscores(make_shapes: Make, tmp_path: Path) -> None:
    root = make_shapes(tmp_path / "shapes", train=2)
    for place in ("images", "masks"):
        (root / "train" / place / "train0.png").rename(root / "train" / place / "a.b.png")
    (root / "splits").mkdir()
    (root / "splits" / "val.txt").write_text("a.b\n")
    convert(root, tmp_path / "tars", shard_bytes=1)
    assert open_dataset(tmp_path / "tars", "train").stems == ("a_b", "train1")
    assert open_dataset(tmp_path / "tars", "val").stems == ("a_b",)
    for place in ("images", "masks"):
        shutil.copy(root / "train" / place / "a.b.png", root / "train" / place / "a_b.png")
    with pytest.raises(DataError, match="Expected names that differ in more than dots"):
        convert(root, tmp_path / "more", shard_bytes=1)


def test_lists_annotators_and_images_without_masks_are_converted(
    make_shapes: Make, tmp_path: Path
) -> None:
    root = make_shapes(tmp_path / "shapes", annotators=2, train=4)
    (root / "splits").mkdir()
    (root / "splits" / "val.txt").write_text("train1\ntrain3\n")
    (root / "unlabeled").mkdir()
    shutil.copytree(root / "train" / "images", root / "unlabeled" / "images")
    found = convert(root, tmp_path / "tars", shard_bytes=1)
    assert (found.samples, found.complete) == (4, True)
    assert len(list((tmp_path / "tars").glob("*.tar"))) == 8
    assert open_dataset(tmp_path / "tars", "val").stems == ("train1", "train3")
    assert open_dataset(tmp_path / "tars", "train").annotators == 2
    images, _ = open_images(tmp_path / "tars", "unlabeled")
    assert images.stems == ("train0", "train1", "train2", "train3")
