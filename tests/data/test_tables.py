"""Files in arrays: what they hold is what dictionaries of paths held, in far less memory."""

import json
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softiou import _cache
from softiou.data import (
    DataProblemsError,
    FolderDataset,
    SegmentationDataset,
    open_dataset,
    open_source,
    open_unlabeled,
    verify_readable,
    verifying,
)
from softiou.data.copies import same_files
from softiou.data.files import IMAGE_SUFFIXES, fingerprint
from softiou.data.names import FileTable, Names, Paths, usual_files

Make = Callable[..., Path]
VERIFYING: Any = verifying

TEXTS = st.text(st.characters(exclude_characters="\0"), max_size=12)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SOFTIOU_CACHE", str(folder))
    monkeypatch.setattr(_cache, "_unwritten", {})
    return folder


# Names


@given(st.lists(TEXTS))
def test_names_are_a_tuple_of_texts(texts: list[str]) -> None:
    names = Names(texts)
    assert names == tuple(texts)
    assert tuple(texts) == names
    assert names == Names(texts)
    assert hash(names) == hash(tuple(texts))
    assert list(names) == [names[index] for index in range(len(texts))] == texts
    assert names[1:3] == tuple(texts[1:3])
    assert names != (*texts, "more")
    assert [names.index(text) for text in texts] == [texts.index(text) for text in texts]


@given(st.sets(TEXTS), st.sets(TEXTS))
def test_numbers_of_texts(own: set[str], wanted: set[str]) -> None:
    names = Names(sorted(own))
    rows = names.rows(sorted(wanted))
    for text, row in zip(sorted(wanted), rows, strict=True):
        assert (names[row] if row >= 0 else None) == (text if text in own else None)
    assert names.take(rows) == tuple(text if text in own else "" for text in sorted(wanted))


def _read(names: Names, answer: Any) -> None:
    letters: Any = names._letters
    answer.put((names[1], letters.is_shared()))


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_processes_share_the_memory_of_names(way: str) -> None:
    if way not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {way} here")
    processes: Any = torch.multiprocessing.get_context(way)
    names, answer = Names(["a", "café"]), processes.SimpleQueue()
    process = processes.Process(target=_read, args=(names, answer))
    process.start()
    assert answer.get() == ("café", way == "spawn")
    process.join()
    assert names == ("a", "café")
    assert pickle.loads(pickle.dumps(names)) == names


# Files of a folder

UNUSUAL = [
    "a.jpg",
    "a-1.jpg",
    "a b .PNG",
    "a.b.jpeg",
    "..jpg",
    ".hidden.png",
    "._mac.jpg",
    "noending",
    "dot.",
    "notes.txt",
    "long.jpegs",
    "z" * 200 + ".webp",
]


def plainly(folder: Path) -> dict[str, Path]:
    """Return what a loop over the files finds."""
    found = {}
    for path in folder.iterdir():
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            found[path.stem] = path
    return dict(sorted(found.items()))


def test_usual_files_are_those_of_a_loop(tmp_path: Path) -> None:
    for name in UNUSUAL:
        (tmp_path / name).touch()
    found = usual_files(tmp_path, IMAGE_SUFFIXES)
    assert found is not None
    assert dict(found.items()) == plainly(tmp_path)
    assert list(found) == ["a", "a b ", "a-1", "a.b", "z" * 200]
    assert found.get("b") is None
    assert list(found.chosen(["never", "a-1", "a"])) == ["a", "a-1"]


@pytest.mark.parametrize("names", [["é.jpg"], ["a.jpg", "a.png"], []])
def test_unusual_files_are_left_to_the_other_way(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert usual_files(tmp_path, IMAGE_SUFFIXES) is None


@pytest.mark.parametrize("stems", [["b", "a"], ["é", "Z", "a 1"], ["a", "a-1", "a.b", "a b"]])
def test_samples_are_those_of_the_files(make_dataset: Make, stems: list[str]) -> None:
    root = make_dataset({"train/masks": {stem: [[0, 1]] for stem in stems}})
    dataset = FolderDataset(root, "train")
    assert dataset.stems == tuple(sorted(stems))
    train = root / "train"
    for number, stem in enumerate(sorted(stems)):
        files = train / "images" / f"{stem}.png", train / "masks" / f"{stem}.png"
        assert dataset.files(number) == files
        assert [column[number] for column in dataset.columns()] == list(files)
    assert [sample.stem for sample in dataset.samples] == sorted(stems)
    for paths in dataset.columns():
        expected = [[p.stat().st_size, p.stat().st_mtime_ns] for p in paths]
        assert paths.facts.tolist() == expected


def test_annotators_with_gaps_and_a_list(make_dataset: Make) -> None:
    root = make_dataset(
        {
            "train/masks_1": {"a": [[0]], "b": [[0]], "d": [[0]]},
            "train/masks_2": {"b": [[1]], "c": [[1]], "d": [[0]]},
        }
    )
    (root / "splits").mkdir()
    (root / "splits" / "some.txt").write_text("c \nb\n a\n\nb\n")
    dataset = FolderDataset(root, "some")
    assert dataset.stems == ("a", "b", "c")
    masks = [[path.parent.name for path in dataset.files(n)[1:]] for n in range(3)]
    assert masks == [["masks_1"], ["masks_1", "masks_2"], ["masks_2"]]
    assert dataset.annotators == 2
    assert verify_readable(dataset) == []
    left = dataset.without(["a", "never"])
    assert left.stems == ("b", "c")
    assert left.files(1) == dataset.files(2)
    assert set(open_source(root).images_left_out("some")) == {"d"}


def test_files_that_are_no_plain_paths_stay_objects() -> None:
    class Member(type(Path())):  # type: ignore[misc]
        """Of an archive."""

    members = {"b": Member("x/b.png"), "a": Member("x/a.png")}
    table = FileTable.of(members)
    assert [type(path) for path in table.paths] == [Member, Member]
    assert table["b"] is members["b"]
    taken = table.paths.take(np.array([1, -1]))
    assert taken[0] is members["b"]
    assert not taken.names[1]
    assert (table.paths.facts == -1).all()


def test_links_are_the_files_that_they_lead_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").write_bytes(b"a")
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "b.png").symlink_to("real/a.png")
    paths = Paths([tmp_path / "folder" / "a.png", tmp_path / "b.png", tmp_path / "c.png"])
    real = tmp_path.resolve()
    assert list(paths.real()) == [str(real / "real/a.png")] * 2 + [str(real / "c.png")]
    assert paths.facts[:, 0].tolist() == [1, 1, -1]


def test_a_fingerprint_changes_with_any_file(tmp_path: Path) -> None:
    files = [tmp_path / name for name in "ab"]
    for file in files:
        file.write_bytes(b"1")
    before = fingerprint(files)
    assert fingerprint(files) == before != fingerprint(files[:1])
    os.utime(files[1], ns=(1, 1))
    assert fingerprint(files) != before


def test_copies_are_found_behind_equal_sizes_and_ends(tmp_path: Path) -> None:
    contents = [b"x" * 99 + b"a", b"y" + b"x" * 98 + b"a", b"z" * 100, b"short"]
    files, others = [], []
    for number, content in enumerate(contents):
        files.append(tmp_path / f"{number}")
        files[-1].write_bytes(content)
    for number, content in ((0, contents[0]), (2, b"w" * 100)):
        others.append(tmp_path / f"other{number}")
        others[-1].write_bytes(content)
    assert same_files(files, {"val": others, "none": [tmp_path / "gone"]}) == {0: "val"}


MEMORY = """
import sys, torch
from softiou.data import FolderDataset
def memory():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
FolderDataset(sys.argv[1], "train")
before = memory()
dataset = FolderDataset(sys.argv[2], "train")
print((memory() - before) / len(dataset))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_sample_takes_few_bytes(make_dataset: Make, tmp_path: Path) -> None:
    few = make_dataset({"train/masks": {"a": [[0, 1]]}})
    many = tmp_path / "many"
    for kind in ("images", "masks"):
        (many / "train" / kind).mkdir(parents=True)
        for number in range(20_000):
            os.link(few / "train" / kind / "a.png", many / "train" / kind / f"frame{number}.png")
    (many / "dataset.yaml").write_text((few / "dataset.yaml").read_text())
    words = [sys.executable, "-c", MEMORY, str(few), str(many)]
    bytes_each = float(subprocess.run(words, capture_output=True, check=True, text=True).stdout)
    assert bytes_each < 300  # 975 as tuples and paths


# What was checked is remembered


@pytest.fixture
def checked(make_dataset: Make, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a data set of two samples, and the names of the files that are opened from now on."""
    root = make_dataset({"train/masks": {"a": [[0, 1]], "b": [[1, 0]]}})
    opened, plain = list[str](), VERIFYING.opened

    def watched(path: Path) -> Any:
        opened.append(f"{path.parent.name}/{path.name}")
        return plain(path)

    monkeypatch.setattr(VERIFYING, "opened", watched)

    def check() -> tuple[list[str], list[str]]:
        opened.clear()
        problems = verify_readable(open_dataset(root, "train"))
        return sorted(opened), [problem.file for problem in problems]

    return root, check


ALL = ["images/a.png", "images/b.png", "masks/a.png", "masks/b.png"]


def test_files_are_read_once(checked: Any) -> None:
    root, check = checked
    assert check() == (ALL, [])
    assert check() == ([], [])
    (root / "splits").mkdir()
    (root / "splits" / "train.txt").write_text("b\n")
    assert check() == ([], [])


def test_a_changed_file_is_read_again(checked: Any) -> None:
    root, check = checked
    check()
    mask, image = root / "train/masks/a.png", root / "train/images/b.png"
    os.utime(mask, ns=(5, 5))
    assert check() == (["masks/a.png"], [])
    time = image.stat().st_mtime_ns
    image.write_bytes(b"no picture")
    os.utime(image, ns=(time, time))  # of another size alone
    assert check() == (["images/b.png"], [str(image)])
    assert check() == (["images/b.png"], [str(image)])  # what is broken is not remembered


def test_files_of_other_splits_stay_remembered(checked: Any) -> None:
    root, check = checked
    (root / "splits").mkdir()
    for stem in "ab":
        (root / "splits" / "train.txt").write_text(f"{stem}\n")
        assert check() == ([f"images/{stem}.png", f"masks/{stem}.png"], [])
    (root / "splits" / "train.txt").unlink()
    assert check() == ([], [])


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[:70] + bytes([content[70] ^ 1]) + content[71:],
        lambda content: pickle.dumps(print),
    ],
)
def test_a_damaged_cache_is_none(
    checked: Any, cache: Path, damage: Callable[[bytes], bytes]
) -> None:
    _, check = checked
    check()
    for file in cache.iterdir():
        file.write_bytes(damage(file.read_bytes()))
    assert check() == (ALL, [])
    assert check() == ([], [])


@pytest.mark.parametrize("head", [(-1, -17), (1, 1 << 60), (1 << 60, 1), (0, 0)])
def test_a_planted_cache_with_impossible_numbers_is_none(
    checked: Any, head: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, check = checked
    monkeypatch.setattr(VERIFYING, "recall", lambda key: np.array(head).tobytes() + b"x")
    assert check() == (ALL, [])


def test_a_planted_claim_hides_nothing_from_reading(checked: Any) -> None:
    root, check = checked
    check()
    mask = root / "train/masks/a.png"
    about = mask.stat()
    mask.write_bytes(b"x" * about.st_size)
    os.utime(mask, ns=(about.st_mtime_ns, about.st_mtime_ns))
    assert check() == ([], [])  # as claimed
    with pytest.raises(DataProblemsError, match=re.escape(str(mask))):
        open_dataset(root, "train")[0]


def test_where_nothing_can_be_written_this_process_remembers(checked: Any, cache: Path) -> None:
    _, check = checked
    cache.write_bytes(b"a file where the folder would be")
    assert check() == (ALL, [])
    assert check() == ([], [])
    _cache._unwritten.clear()
    assert check() == (ALL, [])


def test_an_interrupted_check_goes_on(checked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, check = checked
    watched = VERIFYING.opened

    def interrupted(path: Path) -> Any:
        if path.parent.name == "masks" and path.stem == "b":
            raise KeyboardInterrupt
        return watched(path)

    monkeypatch.setattr(VERIFYING, "opened", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check()
    monkeypatch.setattr(VERIFYING, "opened", watched)
    assert check() == (["masks/b.png"], [])


def test_images_without_masks_are_remembered_and_may_stay_unchecked(make_dataset: Make) -> None:
    root = make_dataset(
        {"train/masks": {"a": [[0, 1]]}, "unlabeled/none": {"x": [[0]], "y": [[0]]}}
    )
    found = open_unlabeled(root, "train")
    assert found.stems == ("unlabeled/x", "unlabeled/y")
    assert found[1]["stem"] == "unlabeled/y"
    (root / "unlabeled/images/x.png").write_bytes(b"")
    assert open_unlabeled(root, "train", verify=False).stems == found.stems
    assert open_unlabeled(root, "train", skip_corrupt=True).stems == ("unlabeled/y",)
    with pytest.raises(DataProblemsError, match=r"x\.png"):
        open_unlabeled(root, "train")


def test_values_of_masks_are_remembered(
    make_dataset: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from softiou.data import inferring

    root = make_dataset({"train/masks": {"a": [[0, 3]]}})
    (root / "dataset.yaml").unlink()
    assert open_dataset(root, "train").description.classes == ("class_0", "class_3")
    with monkeypatch.context() as patch:
        patch.setattr(inferring, "_values", lambda path: pytest.fail("read again"))
        assert open_dataset(root, "train").description.classes == ("class_0", "class_3")
        for planted in (b"{}", b"[null]", b"[[1, 2]]", b"x"):
            patch.setattr(inferring, "recall", lambda key, planted=planted: planted)
            patch.setattr(inferring, "_values", lambda path: [0, 3])
            assert open_dataset(root, "train").description.classes == ("class_0", "class_3")


def test_a_data_set_of_any_kind_has_columns() -> None:
    class Own(SegmentationDataset):
        stems = ("a", "b")
        bands = None

        def __getitem__(self, index: int) -> Any:
            raise NotImplementedError

        def files(self, index: int) -> tuple[Path, ...]:
            return (Path(f"{self.stems[index]}.png"), Path("shared.json"))

    images, others = Own().columns()
    assert list(images) == [Path("a.png"), Path("b.png")]
    assert json.dumps([str(path) for path in others]) == '["shared.json", "shared.json"]'
