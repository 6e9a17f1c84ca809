"""Annotation files of every format, read in place; and what is said of wrong ones."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from annotation_trees import (
    ALL_TREES,
    SHAPES,
    SIZE,
    TREES,
    coco,
    coco_content,
    cvat,
    cvat_content,
    cvat_image,
    label_studio,
    label_studio_task,
    labelme,
    labelme_content,
    painted,
    panoptic,
    panoptic_content,
    png,
    supervisely,
    supervisely_content,
    write,
    write_image,
    yolo,
)
from softiou.checking import check_dataset, fix_dataset
from softiou.configuration import load_config
from softiou.data import DataProblemsError, View, available_splits, open_dataset, open_source
from softiou.data.annotations.coco import decoded
from softiou.data.annotations.label_studio import brush
from softiou.errors import DataError
from softiou.training import start_training

# Written by pycocotools 2.0.11: rows 5..19 of columns 10..29 without a hole, and a corner.
COCO_TEXT = "e<?i000000000D[O5e0K[O5e0K[O5e0K[O5e0K[O5e07000000000000000000ac0Kd\\O0000000"
# Written by label-studio-sdk: rows 2..5 of columns 3..8 but one pixel, and a corner.
BRUSH = (
    "0 0 3 0 57 27 254 139 0 194 255 248 156 2 63 248 192 47 255 226 112 12 47 255 137 192 48 191 "
    "255 1 83 0 159 255 27 128 79 254"
)


@cache
def drawn(finer: int = 1, **labels: int) -> Tensor:
    """Return the labels of the scene, point by point: the centre of a pixel lies in a shape.

    Each pixel of the image has finer x finer points.
    """
    y, x = (np.mgrid[: finer * SIZE[0], : finer * SIZE[1]] + 0.5) / finer
    target = np.zeros(y.shape, np.int64)
    for name, points in SHAPES.items():
        inside = np.zeros(y.shape, bool)
        for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
            crosses = (ay > y) != (by > y)
            inside ^= crosses & (x < ax + (y - ay) * (bx - ax) / ((by - ay) or 1))
        target[inside] = labels.get(name, 0)
    return torch.from_numpy(target)


def alike(target: Tensor, expected: Tensor) -> float:
    """Return the smallest IoU of a class."""
    values = set(expected.flatten().tolist())
    pairs = [(target == value, expected == value) for value in values]
    return min(float((a & b).sum() / (a | b).sum()) for a, b in pairs)


def first(source: str | Path, split: str = "train") -> Tensor:
    return open_dataset(source, split)[0]["target"]


def coco_mask() -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, bool)
    mask[5:20, 10:30] = mask[30:, 45:] = True
    mask[8:12, 15:20] = False
    return mask


# Every format


@pytest.mark.parametrize("name", TREES)
def test_every_format_gives_the_same_labels(name: str, tmp_path: Path) -> None:
    source = TREES[name](tmp_path)
    dataset = open_dataset(source, "train")
    classes = dataset.description.classes
    assert set(classes) == {"background", "road", "car", "tree"}
    assert classes[0] == "background"
    assert dataset.stems == ("one", "two")
    assert available_splits(source) == ("train", "val")
    expected = drawn(**{n: classes.index(n) for n in SHAPES})
    # Half of a pixel's area is the rule at 20.5; beside that it is the centre.
    expected[20, 10:30] = classes.index("car")
    assert alike(dataset[0]["target"], expected) >= 0.93  # of a triangle of 35 pixels
    for label in ("road", "car"):
        value = classes.index(label)
        assert torch.equal(dataset[1]["target"] == value, expected == value)


@pytest.mark.parametrize("name", TREES)
def test_areas_are_those_of_the_polygons(name: str, tmp_path: Path) -> None:
    dataset = open_dataset(TREES[name](tmp_path), "train")
    sample = dataset[0]
    shares = sample["drawing"].shares(View(0, 0, *SIZE, SIZE), SIZE)
    areas = dict(zip(dataset.description.classes, shares.sum((1, 2)).tolist(), strict=True))
    expected = {"road": 750.0, "car": 310.0, "tree": 40.0, "background": 900.0}
    assert areas == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("name", TREES)
def test_shares_are_those_of_an_independent_raster(name: str, tmp_path: Path) -> None:
    dataset = open_dataset(TREES[name](tmp_path), "train")
    drawing = dataset[0]["drawing"]
    shares = drawing.shares(View(0, 0, *SIZE, SIZE), SIZE)
    for number, label in enumerate(dataset.description.classes):
        raster = (drawn(64, **{label: 1}) == 1).double() if label in SHAPES else None
        if raster is None:
            continue
        expected = raster.reshape(SIZE[0], 64, SIZE[1], 64).mean((1, 3))
        both, either = (f(shares[number].double(), expected) for f in (torch.min, torch.max))
        assert both.sum() / either.sum() >= 0.999


@pytest.mark.parametrize("name", ALL_TREES)
def test_check_and_copy(name: str, tmp_path: Path) -> None:
    source = ALL_TREES[name](tmp_path / "data")
    report = check_dataset(source)
    assert not report.errors
    assert {split: one.images for split, one in report.splits.items()} == {"train": 2, "val": 1}
    fixed = fix_dataset(source, tmp_path / "copy", report=report)
    assert (fixed.samples, fixed.left_out) == (3, 0)
    assert torch.equal(first(tmp_path / "copy"), first(source))
    assert not check_dataset(tmp_path / "copy").errors


@pytest.mark.parametrize("name", ALL_TREES)
def test_two_steps_of_training(name: str, tiny_config: Any, tmp_path: Path) -> None:
    source = ALL_TREES[name](tmp_path / "data")
    config = tiny_config("optim.steps=2", "labels=coverage", source=source)
    run = start_training(config, directory=tmp_path / "run")
    assert load_config(file=run / "config.yaml").labels.kind == "coverage"


def test_a_file_can_be_named(tmp_path: Path) -> None:
    coco(tmp_path)
    source = f"coco:{tmp_path}/annotations/instances_train2017.json"
    write_image(tmp_path / "annotations" / "one.png")
    write_image(tmp_path / "annotations" / "two.png")
    assert open_dataset(source, "train").stems == ("one", "two")


def test_folders_of_a_format_are_recognised(tmp_path: Path) -> None:
    cvat(tmp_path)
    with pytest.raises(
        DataError, match=rf"Open the data set as cvat:{tmp_path}, or write `layout:"
    ):
        open_source(tmp_path)


# Rules


def test_crowds_run_lengths_and_text_of_coco(tmp_path: Path) -> None:
    coco(tmp_path)
    content = coco_content(("one", "two"))
    mask = coco_mask()
    edges = np.flatnonzero(np.diff(mask.T.ravel(), prepend=False, append=False))
    runs = np.diff(edges, prepend=0, append=mask.size).tolist()
    text = {"size": list(SIZE), "counts": COCO_TEXT}
    plain = {"size": list(SIZE), "counts": runs}
    about = {"id": 1, "image_id": 0, "category_id": 7}
    for segmentation, crowd, label in ((text, 0, 2), (plain, 0, 2), (text, 1, 255)):
        content["annotations"] = [{**about, "iscrowd": crowd, "segmentation": segmentation}]
        write(tmp_path / "annotations/instances_train2017.json", content)
        target = first(f"coco:{tmp_path}")
        assert torch.equal(target == label, torch.from_numpy(mask))
        assert int((target == 0).sum()) == (~mask).sum()
    assert [*decoded(COCO_TEXT, "").tolist(), 0] == runs


def test_segments_of_panoptic_have_the_areas_of_the_file(tmp_path: Path) -> None:
    source = panoptic(tmp_path)
    dataset = open_dataset(source, "train")
    assert dataset.description.classes == ("background", "road", "car", "tree")
    expected = torch.from_numpy(painted())
    expected[5:20, 26:30] = 255
    for sample in dataset:
        assert torch.equal(sample["target"], expected)
        shares = sample["drawing"].shares(View(0, 0, *SIZE, SIZE), SIZE)
        assert torch.equal(shares.argmax(0).where(shares[0] <= 1, 255), expected)
    found = expected.flatten().bincount()
    segments = panoptic_content(("one",))["annotations"][0]["segments_info"]
    assert [found[n] for n in range(4)] == [one["area"] for one in segments[:4]]
    assert found[255] == segments[4]["area"]


def test_pixels_without_a_segment_are_ignored_or_a_class(tmp_path: Path) -> None:
    panoptic(tmp_path)
    path = tmp_path / "annotations/panoptic_train2017/one.png"
    rgb = np.asarray(Image.open(path)).copy()
    rgb[-1] = 0
    Image.fromarray(rgb).save(path)
    assert (first(f"coco-panoptic:{tmp_path}")[-1] == 255).all()
    assert available_splits(f"coco-panoptic:{tmp_path}") == ("train", "val")


def test_shapes_of_labelme(tmp_path: Path) -> None:
    labelme(tmp_path)
    content = labelme_content("one")
    mask = coco_mask()[5:20, 10:30]
    content["shapes"] = [
        {"label": "road", "shape_type": "rectangle", "points": [[40, 30], [20, 10]]},
        {"label": "car", "shape_type": "circle", "points": [[10, 30], [10, 24]]},
        {"label": "tree", "shape_type": "mask", "points": [[10, 5], [29, 19]], "mask": png(mask)},
        {"label": "__ignore__", "shape_type": None, "points": [[0, 0], [5, 0], [5, 2], [0, 2]]},
        {"label": "car", "shape_type": "line", "points": [[0, 0], [9, 9]]},
    ]
    write(tmp_path / "train/one.json", content)
    opened = open_source(f"labelme:{tmp_path}")
    target = first(f"labelme:{tmp_path}")
    road, car, tree = (opened.description.classes.index(n) for n in ("road", "car", "tree"))
    assert torch.equal(target[5:20, 10:30] == tree, torch.from_numpy(mask))
    assert int((target == road).sum()) == 400 - int(mask[5:, 10:].sum())
    assert int((target == car).sum()) == pytest.approx(36 * np.pi, rel=0.03)
    assert (target[:2, :5] == 255).all()
    assert opened.note == "not drawn: 1 lines and points"


def test_masks_rectangles_and_order_of_cvat(tmp_path: Path) -> None:
    cvat(tmp_path)
    mask = '<mask label="tree" rle="1, 3, 2" left="4" top="7" width="3" height="2" z_order="1"/>'
    box = '<box label="{}" xtl="2" ytl="3" xbr="12" ybr="9" z_order="{}"/>'
    inner = (
        box.format("car", 1) + mask + box.format("road", 0) + '<polyline label="car" points="1,1"/>'
    )
    content = cvat_content(cvat_image("one", "train", inner), cvat_image("two", "train"))
    write(tmp_path / "annotations.xml", content)
    target = first(f"cvat:{tmp_path}")
    assert int((target == 2).sum()) == 60 - 3
    assert target[7, 4:7].tolist() == [2, 3, 3]
    assert target[8, 4:7].tolist() == [3, 2, 2]
    assert int((target == 1).sum()) == 0


def test_brushes_and_rectangles_of_label_studio(tmp_path: Path) -> None:
    label_studio(tmp_path)
    task = label_studio_task("one")
    runs = list(map(int, BRUSH.split()))
    expected = np.zeros((12, 16), bool)
    expected[2:6, 3:9] = expected[10:, 14:] = True
    expected[3, 4] = False
    assert np.array_equal(brush(runs, (12, 16), ""), expected)
    about = {"original_width": 16, "original_height": 12}
    box = {"x": 50, "y": 50, "width": 25, "height": 25, "rotation": 0, "rectanglelabels": ["car"]}
    task["annotations"] = [
        {
            "result": [
                {**about, "type": "brushlabels", "value": {"rle": runs, "brushlabels": ["tree"]}},
                {**about, "type": "rectanglelabels", "value": box},
                {**about, "type": "keypointlabels", "value": {}},
            ]
        }
    ]
    write(tmp_path / "train.json", [task])
    Image.new("RGB", (16, 12)).save(tmp_path / "images" / "one.png")
    opened = open_source(f"label-studio:{tmp_path}")
    target = first(f"label-studio:{tmp_path}")
    names = opened.description.classes
    assert torch.equal(target == names.index("tree"), torch.from_numpy(expected))
    assert (target[6:9, 8:12] == names.index("car")).all()
    assert opened.note == "not drawn: 1 results of other kinds"


def test_holes_and_bitmaps_of_supervisely(tmp_path: Path) -> None:
    supervisely(tmp_path)
    content = supervisely_content()
    mask = coco_mask()[5:20, 10:30]
    frame = {
        "exterior": [[20, 22], [40, 22], [40, 38], [20, 38]],
        "interior": [[[25, 25], [35, 25], [35, 35], [25, 35]]],
    }
    alpha = np.zeros((*mask.shape, 4), np.uint8)
    alpha[..., 3] = 255 * mask
    stored = {"data": png(alpha, packed=True), "origin": [10, 5]}
    content["objects"] = [
        {"classTitle": "tree", "geometryType": "bitmap", "bitmap": stored},
        {"classTitle": "car", "geometryType": "polygon", "points": frame},
    ]
    write(tmp_path / "train/ann/one.png.json", content)
    target = first(f"supervisely:{tmp_path}")
    assert torch.equal(target[5:20, 10:30] == 3, torch.from_numpy(mask))
    assert int((target == 2).sum()) == 20 * 16 - 100


def test_boxes_and_numbers_of_yolo(tmp_path: Path) -> None:
    yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    write(tmp_path / "labels/train/one.txt", "2 0.5 0.5 0.1 0.1\n\n0 0 0 0.5 0 0.5 0.5 0 0.5\n")
    opened = open_source(f"yolo:{tmp_path}")
    assert opened.description.classes == ("background", "class_0", "class_1", "class_2")
    assert opened.note == "not drawn: 1 boxes"
    assert int((first(f"yolo:{tmp_path}") == 1).sum()) == 500


# Classes


def described(root: Path, text: str) -> Path:
    """Return a folder whose dataset.yaml describes the COCO files in another."""
    coco(root / "files")
    write(root / "dataset.yaml", f"layout: coco\nroot: files\n{text}")
    return root


def test_classes_are_merged_renamed_ignored_and_dropped(tmp_path: Path) -> None:
    root = described(tmp_path, "merge: {thing: [car, tree], street: [road]}\n")
    assert open_source(root).description.classes == ("background", "street", "thing")
    assert int((first(root) == 1).sum()) == 750
    assert int((first(root) == 2).sum()) == 320 + int((drawn(tree=1) == 1).sum())
    write(root / "dataset.yaml", "layout: coco\nroot: files\nignore: [road]\ndrop: [tree]\n")
    assert open_source(root).description.classes == ("background", "car")
    assert first(root).flatten().bincount()[[0, 1, 255]].tolist() == [930, 320, 750]


def test_classes_may_be_ordered_and_all_pixels_labelled(tmp_path: Path) -> None:
    root = described(tmp_path, "classes: [tree, car, road]\nuncovered: ignore\n")
    assert open_source(root).description.classes == ("tree", "car", "road")
    assert first(root)[0].tolist() == [255] * 50
    write(root / "dataset.yaml", "layout: coco\nroot: files\nuncovered: road\n")
    assert open_source(root).description.classes == ("road", "car", "tree")
    assert int((first(root) == 0).sum()) == 2000 - 320 - int((drawn(tree=1) == 1).sum())


def test_overlap_can_be_ignored(tmp_path: Path) -> None:
    root = described(tmp_path, "overlap: ignore\n")
    content = coco_content(("one", "two"))
    content["annotations"][0]["segmentation"] = [[0, 0, 50, 0, 50, 10, 0, 10]]
    write(root / "files/annotations/instances_train2017.json", content)
    target = first(root)
    assert (target[5:10, 10:30] == 255).all()
    assert (target[10:20, 10:30] == 2).all()


def test_classes_of_masks_are_merged_ignored_and_dropped(make_shapes: Any, tmp_path: Path) -> None:
    root = make_shapes(tmp_path, train=1)
    before = first(root)
    classes = "classes: [ground, box, nothing]\n"
    write(root / "dataset.yaml", f"{classes}merge: {{all: [nothing, ground]}}\n")
    assert open_source(root).description.classes == ("all", "box")
    assert torch.equal(first(root), before)
    write(root / "dataset.yaml", f"{classes}ignore: [ground]\n")
    assert open_source(root).description.classes == ("box", "nothing")
    assert torch.equal(first(root), torch.where(before == 1, 0, 255))
    write(root / "dataset.yaml", f"{classes}drop: [box]\n")
    assert open_source(root).description.classes == ("ground", "nothing")
    assert (first(root) == 0).all()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("merge: {vehicle: [car, bus]}", r"merge, ignore and drop to name classes .* found bus"),
        ("drop: [car]\nignore: [car]", r"each once, but found car"),
        (
            "classes: [background, road]",
            r"only shapes of `classes`, but found car, tree: list them",
        ),
        ("uncovered: sky\nclasses: [road, car, tree]", r"`uncovered`.*ignore or one of road, car"),
        ("palette: [[0, 0, 0]]", r"Unknown key `palette`"),
        ("overlap: above", r"`overlap`"),
    ],
)
def test_wrong_descriptions(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=expected):
        open_source(described(tmp_path, text))


# Wrong files: (file, how it is changed, what is said)

_T = "train2017"
_COCO = f"annotations/instances_{_T}.json"
_PANOPTIC = f"annotations/panoptic_{_T}.json"


def changed(*keys: Any, to: Any) -> Callable[[Any], Any]:
    """Return a function that changes an entry of JSON."""

    def change(content: Any) -> Any:
        place = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = to
        return content

    return change


def replaced(old: str, new: str) -> Callable[[Any], Any]:
    return lambda content: json.loads(json.dumps(content).replace(old, new))


POLYGON = ("annotations", 0, "segmentation")
WRONG_JSON: dict[str, tuple[str, str, Callable[[Any], Any], str]] = {
    "an image is missing": (
        "coco",
        _COCO,
        replaced("one.png", "gone.png"),
        r"missing or ambiguous.*gone\.png",
    ),
    "outside of the folder": (
        "coco",
        _COCO,
        changed("images", 0, "file_name", to="../../etc/passwd"),
        r"missing or ambiguous.*passwd",
    ),
    "unknown category": (
        "coco",
        _COCO,
        changed("annotations", 0, "category_id", to=99),
        r"annotation 3: the file has no entry for `category_id` 99",
    ),
    "unknown image": (
        "coco",
        _COCO,
        changed("annotations", 0, "image_id", to=99),
        r"no entry for `image_id` 99",
    ),
    "an image twice": ("coco", _COCO, changed("images", 1, "id", to=0), r"image id 0 occurs twice"),
    "no categories": (
        "coco",
        _COCO,
        lambda c: {k: c[k] for k in ("images", "annotations")},
        r"expected `categories` to be a list, but found nothing",
    ),
    "a list": ("coco", _COCO, lambda c: [c], r"expected an object, but found \[\{"),
    "an odd number of coordinates": (
        "coco",
        _COCO,
        changed(*POLYGON, to=[[1, 2, 3, 4, 5, 6, 7]]),
        r"annotation 3: expected pairs of numbers",
    ),
    "coordinates that are no numbers": (
        "coco",
        _COCO,
        changed(*POLYGON, to=[["a", "b", "c", "d"]]),
        r"expected pairs of numbers, but found \['a'",
    ),
    "coordinates that are infinite": (
        "coco",
        _COCO,
        changed(*POLYGON, to=[[1, 2, float("inf"), 4, 5, 6]]),
        r"expected points in pixels, but found inf",
    ),
    "coordinates that are not known": (
        "coco",
        _COCO,
        changed(*POLYGON, to=[[1, 2, float("nan"), 4, 5, 6]]),
        r"expected points in pixels, but found nan",
    ),
    "another size": (
        "coco",
        _COCO,
        replaced('"width": 50', '"width": 60'),
        r"Expected an image of 60x40, as the file states, but one\.png has 50x40",
    ),
    "a size of nothing": (
        "coco",
        _COCO,
        replaced('"width": 50', '"width": 0'),
        r"expected a size of 1 to 2\^30 pixels, but found 0x40",
    ),
    "a size beyond memory": (
        "coco",
        _COCO,
        replaced('"width": 50', '"width": 99999999999'),
        r"expected a size of 1 to",
    ),
    "run lengths of another size": (
        "coco",
        _COCO,
        changed(*POLYGON, to={"size": [9, 9], "counts": [81]}),
        r"for the size \[40, 50\], not \[9, 9\]",
    ),
    "run lengths that are too short": (
        "coco",
        _COCO,
        changed(*POLYGON, to={"size": [40, 50], "counts": [81]}),
        r"with the sum 50x40 = 2000, but their sum is 81",
    ),
    "negative run lengths": (
        "coco",
        _COCO,
        changed(*POLYGON, to={"size": [40, 50], "counts": [2005, -5]}),
        r"non-negative run lengths",
    ),
    "damaged text of run lengths": (
        "coco",
        _COCO,
        changed(*POLYGON, to={"size": [40, 50], "counts": "~~"}),
        r"run lengths as text, but it is damaged",
    ),
    "endless text of run lengths": (
        "coco",
        _COCO,
        changed(*POLYGON, to={"size": [40, 50], "counts": "o" * 99}),
        r"but it is damaged|one is too long",
    ),
    "a shape without label": (
        "labelme",
        "train/one.json",
        changed("shapes", 0, "label", to=None),
        r"shape 0: expected `label` to be a text, but found nothing",
    ),
    "a mask that is no PNG": (
        "labelme",
        "train/one.json",
        changed(
            "shapes",
            0,
            to={"label": "car", "shape_type": "mask", "points": [[0, 0], [3, 3]], "mask": "AAAA"},
        ),
        r"shape 0: expected a PNG in Base64",
    ),
    "a mask larger than the image": (
        "labelme",
        "train/one.json",
        changed(
            "shapes",
            0,
            to={
                "label": "car",
                "shape_type": "mask",
                "points": [[0, 0], [3, 3]],
                "mask": png(np.ones((90, 9), bool)),
            },
        ),
        r"shape 0: expected at most 50x40, but found 9x90",
    ),
    "an export without annotations": (
        "label-studio",
        "train.json",
        lambda c: [{"image": "one.png"}],
        r"export it as JSON, not as JSON-MIN",
    ),
    "a damaged brush": (
        "label-studio",
        "train.json",
        changed(
            0,
            "annotations",
            1,
            "result",
            0,
            to={
                "type": "brushlabels",
                "original_width": 50,
                "original_height": 40,
                "value": {"rle": [0, 0, 31, 64, 57], "brushlabels": ["car"]},
            },
        ),
        r"a brush of 50x40, but it is damaged",
    ),
    "two labels of a shape": (
        "label-studio",
        "train.json",
        changed(0, "annotations", 1, "result", 0, "value", "polygonlabels", to=["car", "bus"]),
        r"one label for each shape",
    ),
    "a bitmap that is no PNG": (
        "supervisely",
        "train/ann/one.png.json",
        changed(
            "objects",
            0,
            to={
                "classTitle": "car",
                "geometryType": "bitmap",
                "bitmap": {"origin": [0, 0], "data": "eJwDAAAAAAE="},
            },
        ),
        r"object 0: expected a PNG in Base64",
    ),
    "a segment of an unknown category": (
        "coco-panoptic",
        _PANOPTIC,
        changed("annotations", 0, "segments_info", 0, "category_id", to=99),
        r"annotation of image 0: the file has no entry for `category_id` 99",
    ),
    "an annotation of an unknown image": (
        "coco-panoptic",
        _PANOPTIC,
        changed("annotations", 0, "image_id", to=99),
        r"the file has no entry for `image_id` 99",
    ),
    "no PNG": (
        "coco-panoptic",
        _PANOPTIC,
        changed("annotations", 0, "file_name", to="gone.png"),
        r"expected gone\.png in the folder panoptic_train2017, but found no file",
    ),
    "a segment that the PNG has and the file has not": (
        "coco-panoptic",
        _PANOPTIC,
        changed("annotations", 0, "segments_info", to=[]),
        r"one\.png: Expected the segments of `segments_info`, but found 3",
    ),
    "two annotations of an image": (
        "coco-panoptic",
        _PANOPTIC,
        changed("annotations", 1, "image_id", to=0),
        r"Expected one image per stem and split, but found several: 1 \(one\)",
    ),
    "a PNG of another size": (
        "coco-panoptic",
        _PANOPTIC,
        replaced('"width": 50', '"width": 60'),
        r"Expected RGB of 60x40, as the file states, but found RGB of 50x40|"
        r"Expected an image of 60x40",
    ),
    "instances instead of segments": (
        "coco-panoptic",
        _PANOPTIC,
        lambda c: coco_content(("one", "two")),
        r"expected `segments_info` to be a list, but found nothing",
    ),
    "an object without points": (
        "supervisely",
        "train/ann/one.png.json",
        changed("objects", 0, "points", to=[]),
        r"object 0: expected `points` to be an object",
    ),
}

WRONG_TEXT: dict[str, tuple[str, str, str, str]] = {
    "not JSON": (
        "coco",
        _COCO,
        '{"images": [',
        r"instances_train2017\.json: Not a file of the format",
    ),
    "nested too deep": ("coco", _COCO, "[" * 200_000, r"nested too deep"),
    "empty": ("labelme", "train/one.json", "", r"one\.json: Not a file of the format labelme"),
    "a class beyond the list": (
        "yolo",
        "labels/train/one.txt",
        "7 0 0 1 0 1 1",
        r"line 1: expected the number of a class, 0\.\.2, not '7'",
    ),
    "points in pixels": (
        "yolo",
        "labels/train/one.txt",
        "0 0 0 40 0 40 30",
        r"line 1: expected relative coordinates",
    ),
    "an odd number": (
        "yolo",
        "labels/train/one.txt",
        "0 0 0 1 0 1 1 0.5",
        r"line 1: expected pairs of numbers",
    ),
    "not XML": ("cvat", "annotations.xml", "<annotations><image", r"not XML"),
    "entities": (
        "cvat",
        "annotations.xml",
        '<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>',
        r"without DOCTYPE and entities",
    ),
    "a video": (
        "cvat",
        "annotations.xml",
        "<annotations><track/></annotations>",
        r"video tracks: export it as `CVAT for images`",
    ),
    "another XML": (
        "cvat",
        "annotations.xml",
        "<annotation/>",
        r"expected <annotations>, but found <annotation>",
    ),
    "a side that is no number": (
        "cvat",
        "annotations.xml",
        '<annotations><image name="a" width="x" height="1"/></annotations>',
        r"image 'a': expected width to be a whole number, not 'x'",
    ),
    "nothing at all": (
        "cvat",
        "annotations.xml",
        "<annotations/>",
        r"Expected annotated images, but found none",
    ),
}


def assert_said(source: str, expected: str) -> None:
    """Training stops and the check ends with the error, both of which name the file."""
    with pytest.raises(DataError, match=expected):
        first(source)
    report = check_dataset(source)
    assert report.errors
    assert all(problem.remedy for problem in report.errors)


@pytest.mark.parametrize("case", WRONG_JSON)
def test_wrong_json(case: str, tmp_path: Path) -> None:
    name, file, change, expected = WRONG_JSON[case]
    source = ALL_TREES[name](tmp_path)
    write(tmp_path / file, change(json.loads((tmp_path / file).read_text(encoding="utf-8"))))
    assert_said(source, expected)


@pytest.mark.parametrize("case", WRONG_TEXT)
def test_wrong_text(case: str, tmp_path: Path) -> None:
    name, file, text, expected = WRONG_TEXT[case]
    source = TREES[name](tmp_path)
    write(tmp_path / file, text)
    assert_said(source, expected)


@pytest.mark.parametrize(
    ("segmentation", "road", "note"),
    [
        ([[-20, 25, 90, 25, 90, 70, -20, 70]], 750, ""),
        ([[0, 25, 50, 40, 50, 25, 0, 40]], 375, ""),
        ([[0, 25, 50, 25]], 0, "not drawn: 1 shapes without area"),
        ([[0, 0, 10, 10, 20, 20]], 0, "not drawn: 1 shapes without area"),
        ([[60, 0, 70, 0, 70, 10]], 0, "not drawn: 1 shapes outside their image"),
        ([], 0, "not drawn: 1 boxes and points"),
    ],
    ids=["partly outside", "crosses itself", "two points", "a line", "outside", "none"],
)
def test_rules_of_odd_polygons(segmentation: Any, road: int, note: str, tmp_path: Path) -> None:
    source = coco(tmp_path)
    content = changed(*POLYGON, to=segmentation)(coco_content(("one", "two")))
    write(tmp_path / _COCO, content)
    assert open_source(source).note == note
    assert int((first(source) == 1).sum()) == pytest.approx(road, abs=10)
    assert not check_dataset(source).errors


def test_an_image_that_the_tool_rotated(tmp_path: Path) -> None:
    source = labelme(tmp_path)
    path = tmp_path / "train" / "one.png"
    image, exif = Image.open(path), Image.Exif()
    exif[274] = 6
    image.save(path, exif=exif)
    assert_said(source, r"The EXIF tag of one\.png rotates it")


def test_images_of_one_stem(tmp_path: Path) -> None:
    source = supervisely(tmp_path)
    shutil.copytree(tmp_path / "train", tmp_path / "train_b")
    assert_said(source, r"one image per stem and split, but found several: 1 \(one\)")


def test_a_folder_without_files(tmp_path: Path) -> None:
    for name in ALL_TREES:
        with pytest.raises(DataProblemsError, match=r"annotation files \(.*but found none"):
            open_source(f"{name}:{tmp_path}")


@pytest.mark.parametrize("name", ["coco", "labelme"])
def test_files_without_any_shape(name: str, tmp_path: Path) -> None:
    source = TREES[name](tmp_path)
    for path in tmp_path.rglob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        write(path, content | {"annotations": [], "shapes": []})
    assert_said(source, r"Expected polygons or masks, but found none in any image")


def test_what_a_newcomer_mistypes(tmp_path: Path) -> None:
    coco(tmp_path)
    with pytest.raises(DataError, match=r"gone.json: .*found neither a folder nor a file"):
        open_source(f"coco:{tmp_path}/gone.json")
    with pytest.raises(DataError, match=r"'cocoo'. Did you mean coco.*Known are .*, coco, .*hf;"):
        open_source(f"cocoo:{tmp_path}")
    (tmp_path / "annotations").rename(tmp_path / "labels")
    with pytest.raises(DataError, match=r"name the format, such as coco:"):
        open_source(tmp_path)
    swapped = replaced('"height": 40, "width": 50', '"height": 50, "width": 40')
    write(tmp_path / "labels/instances_train2017.json", swapped(coco_content(("one", "two"))))
    with pytest.raises(DataError, match=r"Check whether height and width"):
        first(f"coco:{tmp_path}")


def test_training_says_what_is_not_drawn(tiny_config: Any, tmp_path: Path) -> None:
    source = coco(tmp_path / "data")
    content = changed(*POLYGON, to=[])(coco_content(("one", "two")))
    write(tmp_path / "data" / _COCO, content)
    config = tiny_config("optim.steps=2", source=source)
    said: list[str] = []
    start_training(config, directory=tmp_path / "run", say=said.append)
    assert "labels: not drawn: 1 boxes and points" in said
