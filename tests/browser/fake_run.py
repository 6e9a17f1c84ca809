"""Write a run directory as `softiou evaluate` leaves it, without a model: streets of boxes.

The figures are counted from the thumbnails, so that scores, confusions and pictures agree. Sizes:
H, W of a thumbnail; C classes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Indices = NDArray[np.uint8]

CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign & <b>symbol</b>",
    'fence "</script>"',
    "car",
    "pedestrian",
    "bicyclist",
)
BINS = 15
IGNORED = 255


@dataclass(frozen=True)
class Scene:
    """One image: photograph (H, W, 3), target, prediction (H, W), and confidence in [0, 1]."""

    stem: str
    photo: NDArray[np.uint8]
    target: Indices
    preds: Indices
    confidence: NDArray[np.float64]


def draw_scene(stem: str, *, seed: int, skill: float, num_classes: int = len(CLASSES)) -> Scene:
    """A street of boxes; `skill` in [0, 1] says how well the model does."""
    rng = np.random.default_rng(seed)
    height, width = 240, 320
    target = np.zeros((height, width), np.uint8)
    target[90:] = 1
    target[150:] = 3
    target[150:170, : width // 3] = 4
    for _ in range(14):
        top, left = rng.integers(40, 180), rng.integers(0, 290)
        tall, wide = rng.integers(12, 70), rng.integers(6, 60)
        target[top : top + tall, left : left + wide] = rng.integers(2, num_classes)
    tint = rng.integers(40, 220, (num_classes, 3))
    photo = np.clip(tint[target] + rng.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8)
    photo = np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(1)))
    # The image itself varies, and an outline moves by a few pixels.
    shift = rng.integers(1, 2 + round(12 * (1 - skill)) + int(rng.integers(0, 5)), 2)
    preds = np.roll(target, tuple(shift), (0, 1))
    for _ in range(rng.integers(0, 2 + round(8 * (1 - skill)))):
        top, left = rng.integers(0, 200), rng.integers(0, 260)
        preds[top : top + 36, left : left + 50] = rng.integers(0, num_classes)
    wrong = Image.fromarray(np.where(preds != target, 255, 0).astype(np.uint8))
    near = np.asarray(wrong.filter(ImageFilter.GaussianBlur(4)), dtype=float) / 255
    confidence = np.clip(0.97 - 0.6 * near + rng.normal(0, 0.004, near.shape), 0.1, 1)
    target = target.copy()
    target[-12:] = IGNORED
    return Scene(stem, photo, target, preds, confidence)


def write_run(
    run: Path, scenes: Sequence[Scene], *, classes: Sequence[str] = CLASSES, calibrated: bool = True
) -> None:
    """Write config.yaml, metrics.jsonl, evaluation.json (schema version 2) and gallery/."""
    (run / "gallery").mkdir(parents=True)
    (run / "config.yaml").write_text("# softiou train camvid\nloss:\n  cross_entropy: 0.25\n")
    _write_history(run / "metrics.jsonl")
    palette = _palette(len(classes))
    for scene in scenes:
        _write_pictures(run / "gallery", scene, palette)
    content = evaluation(scenes, classes, palette, calibrated=calibrated)
    (run / "evaluation.json").write_text(json.dumps(content))


def evaluation(
    scenes: Sequence[Scene], classes: Sequence[str], palette: NDArray[np.int64], *, calibrated: bool
) -> dict[str, Any]:
    """The content of evaluation.json."""
    matrices = [_confusion(scene, len(classes)) for scene in scenes]
    confusion = np.sum(matrices, axis=0)
    images = [_image(scene, matrix) for scene, matrix in zip(scenes, matrices, strict=True)]
    iou = _iou(confusion)
    per_image = np.array([_iou(matrix) for matrix in matrices])
    bins = np.sum([_bins(scene) for scene in scenes], axis=0)
    recall = np.diag(confusion) / np.maximum(1, confusion.sum(1))
    dice = 2 * iou / (1 + iou)
    miou_i = [image["miou"] for image in images]
    metrics = {
        "miou_d": 100 * np.nanmean(iou),
        "miou_i": np.mean(miou_i),
        "miou_c": 100 * np.nanmean(_mean_of_images(per_image)),
        "mdice_d": 100 * np.nanmean(dice),
        "mdice_i": None,
        "mdice_c": None,
        "accuracy": 100 * np.trace(confusion) / confusion.sum(),
        "macc": 100 * np.nanmean(recall),
        "miou_i_q10": np.mean(np.sort(miou_i)[: max(1, len(miou_i) // 10)]),
        "miou_c_q10": 31.25,
        "miou_i_q5": np.mean(np.sort(miou_i)[: max(1, len(miou_i) // 20)]),
        "miou_c_q5": 27.5,
        "biou_d": 100 * np.nanmean(iou) * 0.8,
        "ece_d": _ece(bins),
        "ece_i": _ece(bins) * 1.2,
        "cece_d": 2.31,
        "ace_d": _ece(bins) * 0.98,
        "mce_d": 18.9,
        "brier": 17.6,
        "nll": 0.4123,
        "bece_d": 9.41,
    }
    numbers = {name: None if value is None else float(value) for name, value in metrics.items()}
    return {
        "schema_version": 2,
        "softiou_version": "0.1.0",
        "created": "2025-06-01T14:03:22+00:00",
        "data": "data/camvid",
        "split": "test",
        "checkpoint": "checkpoints/best.ckpt",
        "labels": "hard",
        "num_images": len(scenes),
        "classes": list(classes),
        "palette": palette.tolist(),
        "metrics": numbers,
        "intervals": {
            name: [0.95 * value, 1.04 * value]
            for name, value in numbers.items()
            if value is not None
        },
        "bootstrap": {"resamples": 10000, "seed": 0, "level": 95},
        "per_class": [
            {
                "name": name,
                "iou": _percent(iou[index]),
                "iou_c": _percent(np.nanmean([*per_image[:, index], 0])),
                "dice": _percent(dice[index]),
                "target_pixels": int(confusion[index].sum()),
                "images": int(sum(matrix[index].any() for matrix in matrices)),
                "interval": [_percent(0.93 * iou[index]), _percent(1.05 * iou[index])]
                if np.isfinite(iou[index])
                else None,
                "accuracy": _percent(recall[index]),
                "boundary_iou": _percent(0.7 * iou[index]),
                "cece": 1.5 + index / 10,
            }
            for index, name in enumerate(classes)
        ],
        "reliability": _reliability(bins),
        "confusion": confusion.tolist(),
        "images": images,
        "examples": {"best": [], "worst": []},
        "calibrated": _calibrated(numbers, bins) if calibrated else None,
    }


def _calibrated(metrics: dict[str, float | None], bins: NDArray[np.float64]) -> dict[str, Any]:
    names = ("ece_d", "ece_i", "cece_d", "ace_d", "mce_d", "brier", "nll", "bece_d")
    after = bins.copy()
    after[1] = (0.2 * bins[1] + 0.8 * bins[2]) if bins[0].any() else bins[1]
    return {
        "kind": "scalar",
        "path": "checkpoints/temperature.json",
        "metrics": {name: 0.4 * (metrics[name] or 0) for name in names},
        "reliability": _reliability(after),
    }


def _image(scene: Scene, matrix: NDArray[np.int64]) -> dict[str, Any]:
    bins = _bins(scene)
    iou = _iou(matrix)
    present = matrix.sum(1) > 0
    correct, predicted, there = np.diag(matrix), matrix.sum(0), matrix.sum(1)
    return {
        "stem": scene.stem,
        "miou": _percent(np.nanmean(iou[present])),
        "accuracy": _percent(correct.sum() / matrix.sum()),
        "boundary_iou": _percent(0.75 * np.nanmean(iou[present])),
        "ece": _ece(bins),
        "confidence": _percent(bins[1].sum() / bins[0].sum()),
        "truth": "0123456789abcdef",
        "size": [720, 960],
        "counts": {
            str(index): [int(correct[index]), int(predicted[index]), int(there[index])]
            for index in range(len(matrix))
            if predicted[index] or there[index]
        },
        "bins": dict(zip(("count", "confidence", "correct"), bins.tolist(), strict=True)),
        "brier": 1.0,
        "nll": 1.0,
        "pixels": int(matrix.sum()),
    }


def _write_pictures(folder: Path, scene: Scene, palette: NDArray[np.int64]) -> None:
    (folder / scene.stem).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.photo).save(folder / f"{scene.stem}.image.jpg", quality=85)
    for name, indices in (("target", scene.target), ("preds", scene.preds)):
        picture = Image.fromarray(indices)
        picture.putpalette([*palette.flatten().tolist(), *[0] * (768 - palette.size)])
        picture.save(folder / f"{scene.stem}.{name}.png")
    grey = np.round(255 * (1 - scene.confidence)).astype(np.uint8)
    Image.fromarray(grey).save(folder / f"{scene.stem}.uncertainty.png")


def _write_history(path: Path) -> None:
    lines: list[dict[str, Any]] = []
    for step in range(50, 2050, 50):
        part = step / 2000
        lines.append({"step": step, "seconds": step * 0.8, "train/loss": 1.2 - 0.9 * part**0.5})
        if step % 200 == 0:
            iou = 62 * part**0.4
            lines.append({"step": step, "val/miou_d": iou, "val/miou_i": iou - 3, "val/ece_d": 4.0})
    path.write_text("\n".join(map(json.dumps, lines)))


def _palette(num_classes: int) -> NDArray[np.int64]:
    from softiou.data import default_palette

    return np.array(default_palette([""] * num_classes))


def _confusion(scene: Scene, num_classes: int) -> NDArray[np.int64]:
    valid = scene.target != IGNORED
    pairs = scene.target[valid].astype(np.int64) * num_classes + scene.preds[valid]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def _iou(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    correct = np.diag(matrix)
    union = matrix.sum(0) + matrix.sum(1) - correct
    return np.where(union > 0, correct / np.maximum(1, union), np.nan)


def _bins(scene: Scene) -> NDArray[np.float64]:
    """Count, sum of confidence and of right pixels in each bin (3, 15)."""
    valid = scene.target != IGNORED
    confidence = scene.confidence[valid]
    right = (scene.target == scene.preds)[valid].astype(float)
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    weights = (np.ones_like(right), confidence, right)
    return np.array([np.bincount(places, weight, minlength=BINS) for weight in weights])


def _ece(bins: NDArray[np.float64]) -> float:
    return float(100 * np.abs(bins[1] - bins[2]).sum() / bins[0].sum())


def _reliability(bins: NDArray[np.float64]) -> dict[str, Any]:
    def mean(sums: NDArray[np.float64]) -> list[float | None]:
        return [
            float(value / count) if count else None
            for value, count in zip(sums, bins[0], strict=True)
        ]

    return {
        "edges": np.linspace(0, 1, BINS + 1).tolist(),
        "count": bins[0].astype(int).tolist(),
        "confidence": mean(bins[1]),
        "accuracy": mean(bins[2]),
    }


def _mean_of_images(per_image: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of each class over the images that have it, NaN without one (N, C) -> (C,)."""
    there = np.isfinite(per_image)
    sums = np.where(there, per_image, 0).sum(0)
    return np.where(there.any(0), sums / np.maximum(1, there.sum(0)), np.nan)


def _percent(value: float) -> float | None:
    return None if np.isnan(value) else float(100 * value)
