"""How findings are counted, how files are read in threads, and hints about names."""

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from softiou._processes import cores
from softiou.checking import check_dataset
from softiou.checking.report import KEPT, ProblemList
from softiou.data import Problem, open_dataset
from softiou.data.verifying import bounded_map

Make = Callable[..., Path]


# Counting


def test_all_are_counted_and_some_are_kept() -> None:
    findings = ProblemList()
    many = KEPT + 500
    findings.add(Problem(str(i), "Wrong.", "Mend it.", kind="many") for i in range(many))
    findings.add([Problem("w", "Odd.", "Look.", "warning", kind="many")])
    findings.add([Problem(str(i), "Bad.", "Mend that.", kind="many") for i in range(2)])
    findings.add([Problem("n", "Fine.", "Nothing.", "note")])
    assert len(findings.kept) == KEPT + 2
    assert [(g.severity, g.remedy, g.count) for g in findings.groups] == [
        ("error", "Mend it.", many),
        ("error", "Mend that.", 2),
        ("warning", "Look.", 1),
        ("note", "Nothing.", 1),
    ]
    assert [p.file for p in findings.groups[0].examples] == ["0", "1", "2"]


def test_one_mistake_in_many_files_is_one_group(make_dataset: Make) -> None:
    masks = {f"m{i:03}": [[0, 9]] for i in range(60)}
    report = check_dataset(make_dataset({"train/masks": masks}))
    (group,) = report.groups
    assert (group.kind, group.count, report.count("error")) == ("mask_values", 60, 60)
    assert len(group.examples) == 3


# Threads


def test_results_keep_the_order_of_the_items() -> None:
    assert list(bounded_map(lambda x: x * x, range(100))) == [x * x for x in range(100)]
    assert list(bounded_map(abs, [])) == []


def test_few_items_are_taken_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = bounded_map(abs, items())
    assert next(results) == 0
    assert len(taken) <= 4 * cores() + 1
    results.close()  # type: ignore[attr-defined]  # it is a generator


def test_who_stops_early_leaves_no_threads() -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(bounded_map(lambda x: 1 // (5 - x), range(10_000)))
    assert threading.active_count() == before


def test_cores_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert cores() == 1


def test_interrupt_ends_the_check(make_dataset: Make) -> None:
    seen = []

    def interrupt(items: Iterable[object], total: int) -> Iterator[object]:
        for item in items:
            seen.append(item)
            yield item
            raise KeyboardInterrupt

    root = make_dataset({"train/masks": {f"m{i}": np.eye(2) for i in range(40)}})
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        check_dataset(root, watch=interrupt)
    assert len(seen) == 1
    assert threading.active_count() == before


# Names


def rename(folder: Path, change: Callable[[str], str]) -> None:
    for path in sorted(folder.iterdir()):
        path.rename(path.with_stem(change(path.stem)))


@pytest.mark.parametrize(
    ("images", "masks", "example"),
    [
        ("{}", "{}_mask", "img_1_mask.png is used for img_1.png"),
        ("{}", "gt_{}", "gt_img_1.png is used for img_1.png"),
        ("{}_sat", "{}_mask", "img_1_mask.png is used for img_1_sat.png"),
        ("{}", "{}_L", "img_1_L.png is used for img_1.png"),
        ("{}", "IMG_{}_Label", "IMG_img_1_Label.png is used for img_1.png"),
        ("{}_a", "{}_b", "img_1_b.png is used for img_1_a.png"),
    ],
)
def test_masks_that_are_named_otherwise(
    make_dataset: Make, images: str, masks: str, example: str
) -> None:
    root = make_dataset({"train/masks": {f"img_{i}": [[0, 1]] for i in range(1, 4)}})
    rename(root / "train/images", images.format)
    rename(root / "train/masks", masks.format)
    (note,) = check_dataset(root).problems
    assert (note.severity, note.kind) == ("note", "mask_names")
    assert note.message == f"Masks and images have different names: {example}."
    assert len(open_dataset(root, "train")) == 3


def test_masks_that_are_others(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {s: [[0, 1]] for s in ("img_1", "img_2", "x")}})
    (root / "train/masks/img_2.png").rename(root / "train/masks/img_9.png")
    assert len(check_dataset(root).errors) == 2  # one on each side, and no guess
    (root / "train/masks/img_1.png").rename(root / "train/masks/img_8.png")
    assert len(check_dataset(root).errors) == 2


def test_images_whose_masks_are_missing_have_no_hint(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {s: [[0, 1]] for s in ("img_1", "img_2", "x")}})
    for stem in ("img_1", "img_2"):
        (root / f"train/masks/{stem}.png").unlink()
    (error,) = check_dataset(root).errors
    assert error.message == "Images without a mask here: 2 (img_1, img_2)."


def test_masks_that_are_jpeg_files(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {s: [[0, 1]] for s in "ab"}})
    rename(root / "train/masks", str)
    (root / "train/masks/a.png").rename(root / "train/masks/a.jpg")
    kinds = {p.kind: p.message for p in check_dataset(root).errors}
    assert kinds["mask_format"] == "Expected PNG masks, but found 1 others, such as a.jpg."
