"""Names of images and masks: patterns in dataset.yaml, and pairs that are found without them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from small_data import write_png
from softiou.checking import check_dataset, fix_dataset
from softiou.data import DataProblemsError, open_dataset, open_source
from softiou.data.patterns import FilePattern, paired
from softiou.errors import DataError

MASK = [[0, 1], [1, 255]]


def write(root: Path, *names: str, **settings: Any) -> Path:
    """Write files by name: a mask if it has a word of one in it, else an image."""
    for number, name in enumerate(names):
        if name.endswith(".txt"):
            (root / name).parent.mkdir()
            continue
        is_mask = any(word in name.lower() for word in ("mask", "label", "_l.", "gt"))
        picture = np.full((2, 2, 3), number) if not is_mask else MASK
        write_png(root / name, picture)
    content = yaml.safe_dump({"classes": ["sky", "road"], **settings})
    (root / "dataset.yaml").write_text(content, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("images", "masks", "expected"),
    [
        (["001"], ["001_label"], {"001_label": "001"}),
        (["001"], ["001_L"], {"001_L": "001"}),
        (["IMG_01", "b"], ["img_01", "B"], {"img_01": "IMG_01", "B": "b"}),
        (["1_sat", "2_sat"], ["1_mask", "2_mask"], {"1_mask": "1_sat", "2_mask": "2_sat"}),
        (["x1a", "x2a"], ["y1b", "y2b"], {"y1b": "x1a", "y2b": "x2a"}),  # by what differs
        (["x1a", "x2a"], ["y1b", "y3b"], {}),
        (["1", "2"], ["1_mask"], {"1_mask": "1"}),
        (["1", "2"], ["1_mask", "1_label"], {}),  # which of them?
        (["mask"], ["gt"], {}),
        ([], ["a"], {}),
    ],
)
def test_names_are_paired(images: list[str], masks: list[str], expected: dict[str, str]) -> None:
    assert paired(images, masks) == expected


def test_names_that_differ_by_habit_are_read(tmp_path: Path) -> None:
    names = [f"train/images/{n:03}.png" for n in range(3)]
    names += ["train/masks/000_mask.png", "train/masks/001_L.png", "train/masks/002.PNG"]
    root = write(tmp_path, *names)
    dataset = open_dataset(root, "train")
    assert dataset.stems == ("000", "001", "002")
    assert [dataset.files(n)[1].name for n in range(3)] == ["000_mask.png", "001_L.png", "002.PNG"]
    assert dataset[1]["target"].tolist() == MASK
    kinds = [(p.severity, p.kind) for p in check_dataset(root).problems]
    assert ("note", "mask_names") in kinds
    assert "error" not in dict(kinds)
    fixed = fix_dataset(root, tmp_path.parent / "copy", report=check_dataset(root))
    assert fixed.complete
    assert sorted(p.name for p in (Path(fixed.out) / "train/masks").iterdir()) == [
        f"{n:03}.png" for n in range(3)
    ]


@pytest.mark.parametrize("ending", ["tif", "bmp"])
def test_masks_in_other_formats_without_loss(tmp_path: Path, ending: str) -> None:
    root = write(tmp_path, "train/images/a.png")
    (root / "train/masks").mkdir()
    Image.fromarray(np.array(MASK, np.uint8)).save(root / f"train/masks/a.{ending}")
    assert open_dataset(root, "train")[0]["target"].tolist() == MASK


@pytest.mark.parametrize(
    ("files", "settings", "splits"),
    [
        (["images/a.png", "masks/a_mask.png"], {}, ("train",)),
        (
            ["photos/a.png", "labels/a.png"],
            {"images": "photos/{stem}.png", "masks": "labels/{stem}.png"},
            ("train",),
        ),
        (
            ["train/images/a.png", "train/masks/qq_a_gt9.png"],
            {"masks": "qq_{stem}_gt9.png"},
            ("train",),
        ),
        (
            ["train/a.png", "train/a_mask.png", "valid/b.png", "valid/b_mask.png", "splits/z.txt"],
            {},
            ("train", "valid"),
        ),
        (  # one folder for both
            ["train/a.png", "train/a_mask.png", "valid/b.png", "valid/b_mask.png"],
            {"images": "{split}/{stem}.*", "masks": "{split}/{stem}_mask.png"},
            ("train", "valid"),
        ),
        (
            ["img/val/a.png", "gt/val/a.png", "img/train/b.png", "gt/train/b.png"],
            {"images": "img/{split}/{stem}.png", "masks": "gt/{split}/{stem}.png"},
            ("train", "val"),
        ),
        (
            ["images/a.png", "one/mask_a.png", "two/mask_a.png"],
            {"images": "images/{stem}.*", "masks": ["one/mask_{stem}.png", "two/mask_{stem}.png"]},
            ("train",),
        ),
    ],
)
def test_patterns_name_folders_and_files(
    tmp_path: Path, files: list[str], settings: dict[str, Any], splits: tuple[str, ...]
) -> None:
    root = write(tmp_path, *files, **settings)
    assert open_source(root).splits() == splits
    for split in splits:
        dataset = open_dataset(root, split)
        assert len(dataset.stems[0]) == 1
        target = dataset[0]["target"]
        assert (target if target.ndim == 2 else target[1]).tolist() == MASK
    assert dataset.annotators == len(settings["masks"]) if "one/" in str(settings) else 1
    assert check_dataset(root).errors == ()


@pytest.mark.parametrize("pattern", ["masks/mask.png", "{split}.png", "{split}/{split}/{stem}"])
def test_patterns_that_are_none(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(ValueError, match=r"needs one \{stem\}"):
        FilePattern.parse(pattern)
    with pytest.raises(DataError, match=r"`masks`: needs one \{stem\}"):
        open_source(write(tmp_path, "images/a.png", masks=pattern))


def test_half_a_copy_is_not_written(tmp_path: Path) -> None:
    names = ["train/images/a.png", "train/masks/x.png", "val/images/b.png", "val/masks/b.png"]
    root = write(tmp_path / "data", *names)
    with pytest.raises(DataProblemsError, match="but no image of train has a mask"):
        fix_dataset(root, tmp_path / "copy", report=check_dataset(root))
    assert not (tmp_path / "copy").exists()


def test_two_commands_lead_to_a_model(
    tmp_path: Path, make_shapes: Callable[..., Path], tiny: tuple[str, ...]
) -> None:
    """Images, masks under other names, no val split and no dataset.yaml: check, train."""
    import softiou

    root = make_shapes(tmp_path / "data", train=8)
    for path in (root / "train").iterdir():
        path.rename(root / path.name)
    (root / "train").rmdir()
    for path in list((root / "masks").iterdir()):
        path.rename(path.with_stem(f"{path.stem}_label"))
    (root / "dataset.yaml").unlink()
    assert softiou.check(root, progress=False).count("error") == 0
    done = softiou.train(
        root,
        out=tmp_path / "run",
        overrides=[*tiny, "optim.steps=2", "optim.validations=1"],
        progress=False,
    )
    assert done.evaluation is not None
    assert (done.evaluation.content["split"], done.config.data.val_split) == (
        "held_out",
        "held_out",
    )
    assert done.evaluation.content["used_for"] == "selection"
    assert done.load_model().description.classes == ("class_0", "class_1")


def test_pairing_takes_time_in_proportion() -> None:
    def seconds(number: int) -> float:
        images = [f"{index:05d}" for index in range(number)]
        masks = [f"{name}_mask" for name in images]
        times = []
        for _ in range(3):
            start = time.process_time()
            assert len(paired(images, masks)) == number
            times.append(time.process_time() - start)
        return min(times)

    assert seconds(20_000) < 40 * seconds(2_000)  # 10; that of its square would be 100
