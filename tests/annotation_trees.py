"""Tiny data sets in each format of annotation files: the same shapes in the same two images."""

import base64
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (40, 50)  # H, W
CAR = [[10.0, 5.0], [30.0, 5.0], [30.0, 20.5], [10.0, 20.5]]
ROAD = [[0.0, 25.0], [50.0, 25.0], [50.0, 40.0], [0.0, 40.0]]
TREE = [[3.0, 2.0], [8.0, 12.0], [1.0, 14.0]]
SHAPES = {"road": ROAD, "car": CAR, "tree": TREE}
IMAGES = {"train": ("one", "two"), "val": ("three",)}


def write_image(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_images(root: Path, form: str) -> None:
    """Write all images; `form` has {split} and {stem}."""
    for split, stems in IMAGES.items():
        for seed, stem in enumerate(stems):
            write_image(root / form.format(split=split, stem=stem), seed + len(split))


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def coco_content(stems: tuple[str, ...]) -> dict[str, Any]:
    ids = {"road": 3, "car": 7, "tree": 90}  # with gaps
    flat = {name: [value for point in points for value in point] for name, points in SHAPES.items()}
    return {
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
        "images": [
            {"id": n, "file_name": f"{stem}.png", "height": 40, "width": 50}
            for n, stem in enumerate(stems)
        ],
        "annotations": [
            {
                "id": 10 * n + ids[name],
                "image_id": n,
                "category_id": ids[name],
                "segmentation": [points],
                "iscrowd": 0,
            }
            for n in range(len(stems))
            for name, points in flat.items()
        ],
    }


def coco(root: Path) -> str:
    write_images(root, "{split}2017/{stem}.png")
    for split, stems in IMAGES.items():
        write(root / f"annotations/instances_{split}2017.json", coco_content(stems))
    return f"coco:{root}"


def labelme_content(stem: str) -> dict[str, Any]:
    return {
        "version": "5.5.0",
        "imagePath": f"{stem}.png",
        "imageData": None,
        "imageHeight": 40,
        "imageWidth": 50,
        "shapes": [
            {"label": name, "points": points, "shape_type": "polygon", "group_id": None}
            for name, points in SHAPES.items()
        ],
    }


def labelme(root: Path) -> str:
    write_images(root, "{split}/{stem}.png")
    for split, stems in IMAGES.items():
        for stem in stems:
            write(root / split / f"{stem}.json", labelme_content(stem))
    return f"labelme:{root}"


def yolo_content() -> str:
    lines = []
    for number, points in enumerate(SHAPES.values()):
        shares = " ".join(f"{x / 50:.6f} {y / 40:.6f}" for x, y in points)
        lines.append(f"{number} {shares}\n")
    return "".join(lines)


def yolo(root: Path) -> str:
    write_images(root, "images/{split}/{stem}.png")
    write(root / "data.yaml", "path: .\nnames: {0: road, 1: car, 2: tree}\n")
    for split, stems in IMAGES.items():
        for stem in stems:
            write(root / f"labels/{split}/{stem}.txt", yolo_content())
    return f"yolo:{root}"


def cvat_image(stem: str, split: str, inner: str = "") -> str:
    shapes = "".join(
        f'<polygon label="{name}" points="{";".join(f"{x},{y}" for x, y in points)}" z_order="0"/>'
        for name, points in SHAPES.items()
    )
    subset = {"train": "Train", "val": "Validation"}[split]
    about = f'id="0" name="{stem}.png" subset="{subset}" width="50" height="40"'
    return f"<image {about}>{inner or shapes}</image>"


def cvat_content(*images: str) -> str:
    labels = "".join(f"<label><name>{name}</name></label>" for name in SHAPES)
    meta = f"<version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"
    return (
        f'<?xml version="1.0" encoding="utf-8"?><annotations>{meta}{"".join(images)}</annotations>'
    )


def cvat(root: Path) -> str:
    write_images(root, "images/{stem}.png")
    images = [cvat_image(stem, split) for split, stems in IMAGES.items() for stem in stems]
    write(root / "annotations.xml", cvat_content(*images))
    return f"cvat:{root}"


def label_studio_task(stem: str) -> dict[str, Any]:
    results = [
        {
            "type": "polygonlabels",
            "original_width": 50,
            "original_height": 40,
            "image_rotation": 0,
            "value": {
                "points": [[100 * x / 50, 100 * y / 40] for x, y in points],
                "closed": True,
                "polygonlabels": [name],
            },
        }
        for name, points in SHAPES.items()
    ]
    return {
        "id": 1,
        "data": {"image": f"/data/upload/1/0a1b2c3d-{stem}.png"},
        "annotations": [{"was_cancelled": True, "result": []}, {"result": results}],
    }


def label_studio(root: Path) -> str:
    write_images(root, "images/{stem}.png")
    for split, stems in IMAGES.items():
        write(root / f"{split}.json", [label_studio_task(stem) for stem in stems])
    return f"label-studio:{root}"


def supervisely_content() -> dict[str, Any]:
    return {
        "size": {"height": 40, "width": 50},
        "tags": [],
        "objects": [
            {
                "classTitle": name,
                "geometryType": "polygon",
                "points": {"exterior": points, "interior": []},
            }
            for name, points in SHAPES.items()
        ],
    }


def supervisely(root: Path) -> str:
    write_images(root, "{split}/img/{stem}.png")
    classes = [{"title": name, "shape": "polygon", "color": "#FF0000"} for name in SHAPES]
    write(root / "meta.json", {"classes": classes, "tags": []})
    for split, stems in IMAGES.items():
        for stem in stems:
            write(root / split / "ann" / f"{stem}.png.json", supervisely_content())
    return f"supervisely:{root}"


def png(mask: np.ndarray[Any, Any], *, packed: bool = False) -> str:
    """Return a mask as a PNG in Base64, compressed once more for Supervisely."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    content = zlib.compress(buffer.getvalue()) if packed else buffer.getvalue()
    return base64.b64encode(content).decode()


PANOPTIC_IDS = {"background": 70_000, "road": 3, "car": 260, "tree": 5}  # of the segments


def painted() -> np.ndarray[Any, Any]:
    """Return the names of the shapes by number, 0 for background, of each pixel (H, W)."""
    numbers = np.zeros(SIZE, np.int64)
    numbers[25:] = 1
    numbers[5:20, 10:30] = 2
    numbers[4:12, 2:6] = 3
    return numbers


def panoptic_content(stems: tuple[str, ...]) -> dict[str, Any]:
    """Describe `painted`, whose car is two segments, one of them a crowd, in a file."""
    ids = {"background": 1, "road": 3, "car": 7, "tree": 90}
    segments = [
        {"id": PANOPTIC_IDS[name], "category_id": ids[name], "iscrowd": 0, "area": area}
        for name, area in zip(ids, np.bincount(painted().ravel()).tolist(), strict=True)
    ]
    segments[2]["area"] -= 15 * 4
    segments.append({"id": 999, "category_id": 7, "iscrowd": 1, "area": 15 * 4})
    return {
        "categories": [{"id": n, "name": name, "isthing": 0} for name, n in ids.items()],
        "images": coco_content(stems)["images"],
        "annotations": [
            {"image_id": n, "file_name": f"{stem}.png", "segments_info": segments}
            for n, stem in enumerate(stems)
        ],
    }


def panoptic_ids() -> np.ndarray[Any, Any]:
    """Return the id of each pixel (H, W)."""
    ids: np.ndarray[Any, Any] = np.array([*PANOPTIC_IDS.values()])[painted()]
    ids[5:20, 26:30] = 999
    return ids


def panoptic(root: Path) -> str:
    """Write the images and the PNGs under the same names, in other folders."""
    write_images(root, "{split}2017/{stem}.png")
    ids = panoptic_ids()
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    for split, stems in IMAGES.items():
        place = root / f"annotations/panoptic_{split}2017"
        write(place.with_suffix(".json"), panoptic_content(stems))
        place.mkdir()
        for stem in stems:
            Image.fromarray(rgb).save(place / f"{stem}.png")
    return f"coco-panoptic:{root}"


TREES: dict[str, Callable[[Path], str]] = {
    "coco": coco,
    "labelme": labelme,
    "yolo": yolo,
    "cvat": cvat,
    "label-studio": label_studio,
    "supervisely": supervisely,
}
ALL_TREES = {**TREES, "coco-panoptic": panoptic}
