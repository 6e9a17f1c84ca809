"""Soft labels in shards: the same as in files, after kills and damage, by several processes."""

import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from torch import Tensor

from marks import slow
from softiou.data.shards import BLOCK
from softiou.errors import DataError
from softiou.soft_labels import Manifest, Normalisation, Quantisation, SoftLabelStore, Teacher

SIZE = (20, 30)
MANIFEST = Manifest(
    Teacher("teacher", "ab" * 32),
    ("sky", "road", "car"),
    255,
    Normalisation((0.4, 0.5, 0.6), (0.2, 0.2, 0.2)),
    Quantisation(),
    "data",
)


def opened(path: Path, shard_bytes: int = 4000) -> SoftLabelStore:
    store = SoftLabelStore.create(path, MANIFEST)
    store.shard_bytes = shard_bytes
    return store


def probs(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (4 * torch.randn(3, *SIZE, generator=generator)).softmax(0)


def image(seed: int) -> Tensor:
    return torch.full((3, *SIZE), seed % 256, dtype=torch.uint8)


def fill(path: Path, numbers: range, shard_bytes: int = 4000) -> None:
    store = opened(path, shard_bytes)
    for number in numbers:
        if not store.has("train", f"img{number}"):
            store.write("train", f"img{number}", probs(number), image(number))
    store.close()


def shards(path: Path) -> list[Path]:
    return sorted((path / "train").glob("labels-*.tar"))


def test_labels_are_those_of_files(tmp_path: Path) -> None:
    fill(tmp_path / "shards", range(12))
    files = opened(tmp_path / "files", 0)
    for number in range(12):
        files.write("train", f"img{number}", probs(number), image(number))
    store = SoftLabelStore.open(tmp_path / "shards")
    again = pickle.loads(pickle.dumps(store))
    for number in range(12):
        theirs = files.read("train", f"img{number}", SIZE, (2, 9, 3, 20))
        for one in (store, again):
            ours = one.read("train", f"img{number}", SIZE, (2, 9, 3, 20))
            assert all(map(torch.equal, ours, theirs))
    assert store.stems("train") == files.stems("train")
    assert len(shards(tmp_path / "shards")) > 1
    assert not list((tmp_path / "shards").rglob("*.b2nd"))
    entries = 12 * 2 * BLOCK + len(shards(tmp_path / "shards")) * 2 * BLOCK
    assert 0 < store.size_bytes("train") - files.size_bytes() < entries
    store.check_complete("train", store.stems("train"))
    store.check_whole("train", store.stems("train"))
    store.check_image("train", "img3", image(3))
    assert (store.has("train", "img12"), store.has("val", "img1"), store.verify()) == (
        False,
        False,
        [],
    )
    with pytest.raises(DataError, match="'train/img12': there is no such file"):
        store.read("train", "img12", SIZE)


def test_what_was_written_is_there_at_once(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert not store.has("train", "a/b.c")
    store.write("train", "a/b.c", probs(0), image(0))
    assert store.has("train", "a/b.c")  # before it is closed
    assert SoftLabelStore.open(tmp_path).has("train", "a/b.c")
    assert SoftLabelStore.open(tmp_path).stems("train") == ("a/b.c",)
    with pytest.raises(ValueError, match="inside the store"):
        store.write("train", "../a", probs(0), image(0))
    store.close()


def test_old_stores_go_on(tmp_path: Path) -> None:
    opened(tmp_path, 0).write("train", "img0", probs(0), image(0))
    fill(tmp_path, range(3))
    store = SoftLabelStore.open(tmp_path)
    assert store.file("train", "img0").is_file()
    assert store.stems("train") == ("img0", "img1", "img2")
    for number in range(3):
        store.check_image("train", f"img{number}", image(number))


@pytest.mark.parametrize("cut", [1, 2 * BLOCK + 1, 4 * BLOCK, 5 * BLOCK + 100])
def test_a_shard_that_is_cut_short_loses_its_last_labels_alone(cut: int, tmp_path: Path) -> None:
    fill(tmp_path, range(3), 1 << 20)
    (shard,) = shards(tmp_path)
    os.truncate(shard, shard.stat().st_size - cut)
    kept = SoftLabelStore.open(tmp_path).stems("train")
    assert kept == tuple(f"img{number}" for number in range(len(kept)))
    assert SoftLabelStore.open(tmp_path).verify() == []
    fill(tmp_path, range(3))
    store = SoftLabelStore.open(tmp_path)
    assert store.stems("train") == ("img0", "img1", "img2")
    assert store.verify() == []
    assert len(shards(tmp_path)) == (1 if len(kept) == 3 else 2)


def test_damage_is_found_and_repaired(tmp_path: Path) -> None:
    fill(tmp_path, range(3))
    shard = shards(tmp_path)[0]
    content = bytearray(shard.read_bytes())
    content[content.index(b"img1") + BLOCK + 200] ^= 1
    shard.write_bytes(content)
    store = opened(tmp_path)
    with pytest.raises(DataError, match=r"labels-000001-.*tar/img1\.b2nd.*changed \(checksum"):
        store.read("train", "img1", SIZE)
    with pytest.raises(DataError, match="'train/img1'"):
        store.check_whole("train", ("img0", "img1", "img2"))
    assert [problem.file for problem in store.verify()] == [f"{shard}/img1.b2nd"]
    store.write("train", "img1", probs(1), image(1))
    store.close()
    assert SoftLabelStore.open(tmp_path).verify() == []  # the later entry counts
    assert store.stems("train") == ("img0", "img1", "img2")


def test_large_stores_are_not_read_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, range(3))
    monkeypatch.setattr("softiou.soft_labels.store._LITTLE", 1)
    monkeypatch.setattr(SoftLabelStore, "_open_file", lambda *_: pytest.fail("it is read"))
    SoftLabelStore.open(tmp_path).check_whole("train", ("img0", "img1", "img2"))


def test_several_processes_fill_one_store(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        list(pool.map(fill, [tmp_path] * 4, [range(first, 40, 4) for first in range(4)]))
    store = SoftLabelStore.open(tmp_path)
    assert set(store.stems("train")) == {f"img{number}" for number in range(40)}
    assert store.verify() == []


FILL = "import sys; from pathlib import Path; from soft_labels.test_shards import fill; "
FILL += "fill(Path(sys.argv[1]), range(100_000))"


@pytest.mark.parametrize("entries", [1, *slow(30)])
def test_a_killed_writer_leaves_whole_labels(entries: int, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["tests", *sys.path])}
    words = [sys.executable, "-c", FILL, str(tmp_path)]
    with subprocess.Popen(words, env=environment) as process:
        while not (tmp_path / "manifest.json").exists() or (
            len(SoftLabelStore.open(tmp_path).stems("train")) < entries
        ):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    store = SoftLabelStore.open(tmp_path)
    stems = store.stems("train")
    assert {*stems} == {f"img{number}" for number in range(len(stems))}
    assert store.verify() == []
    fill(tmp_path, range(len(stems) + 2))
    assert len(SoftLabelStore.open(tmp_path).stems("train")) == len(stems) + 2
