"""Small evaluation.json files of schema version 2, with metrics that a test chooses."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from softiou.comparison.reading import statistics_of_images
from softiou.evaluation.schema import ImageScores
from softiou.metrics import CalibrationBins, OverlapMasses
from softiou.resampling import ImageStatistics

CLASSES = ("road", "car", "sky")
NUM_BINS = 15


def make_evaluation(
    *,
    skill: float = 0.8,
    num_images: int = 40,
    seed: int = 0,
    hardness_seed: int = 0,
    **changes: Any,
) -> dict[str, Any]:
    """Return an evaluation of images that are equally hard for every model.

    Args:
        skill: Share of the pixels that are right, before the hardness of each image.
        num_images: How many.
        seed: Of what the model makes of them.
        hardness_seed: Of the images.
        **changes: Other values of the entries.
    """
    world, model = np.random.default_rng(hardness_seed), np.random.default_rng(seed)
    images = [_image(f"s{n:02d}", skill, world, model) for n in range(num_images)]
    content = {
        "schema_version": 2,
        "softiou_version": "0.1.0",
        "created": f"2025-06-01T14:03:{seed % 60:02d}+00:00",
        "data": "streets",
        "split": "test",
        "checkpoint": "best.ckpt",
        "labels": "hard",
        "num_images": num_images,
        "classes": list(CLASSES),
        "palette": [[10, 20, 30], [40, 50, 60], [70, 80, 90]],
        "ignore_index": 255,
        "per_class": [
            {
                "name": name,
                "iou": 50.0,
                "iou_c": 50.0,
                "dice": 50.0,
                "target_pixels": 9,
                "images": 1,
            }
            for name in CLASSES
        ],
        "reliability": {"edges": [0, 1], "count": [9], "confidence": [0.5], "accuracy": [0.5]},
        "examples": {"best": [], "worst": []},
        "metrics": dict.fromkeys(
            ("miou_d", "miou_i", "miou_c_q10", "accuracy", "ece_d", "nll", "bece_d"), 50.0
        ),
        "images": images,
    }
    return content | changes


def _image(
    stem: str, skill: float, world: np.random.Generator, model: np.random.Generator
) -> dict[str, Any]:
    present = world.integers(100, 1000, len(CLASSES)) * (world.random(len(CLASSES)) < 0.9)
    hardness = world.uniform(0.5, 1.0)
    share = np.clip(skill * hardness + model.normal(0, 0.02, len(CLASSES)), 0, 1)
    right = np.floor(present * share).astype(int)
    predicted = right + np.roll(present - right, 1)
    pixels, correct = int(present.sum()), int(right.sum())
    count, confidence, hits = np.zeros((3, NUM_BINS))
    count[12], confidence[12], hits[12] = pixels, 0.82 * pixels, correct
    return {
        "stem": stem,
        "miou": 50.0,
        "accuracy": 100 * correct / max(pixels, 1),
        "truth": f"{abs(hash_of(stem)):016x}",
        "size": [32, 48],
        "counts": {
            str(c): [int(right[c]), int(predicted[c]), int(present[c])]
            for c in range(len(CLASSES))
            if predicted[c] or present[c]
        },
        "bins": {
            "count": count.astype(int).tolist(),
            "confidence": confidence.tolist(),
            "correct": hits.tolist(),
        },
        "brier": float(pixels - correct),
        "nll": float(pixels - correct) / 2,
        "pixels": pixels,
    }


def hash_of(stem: str) -> int:
    """Return a number that is the same in every process."""
    return int.from_bytes(stem.encode(), "big")


def write_run(
    run: Path,
    content: dict[str, Any],
    *,
    seed: int | None = None,
    settings: dict[str, Any] | None = None,
    sums: ImageStatistics | None = None,
) -> Path:
    """Write evaluation.json into a folder, config.yaml where there is a seed, sums where given."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "evaluation.json").write_text(json.dumps(content, allow_nan=False))
    if seed is not None:
        config = {"data": {"source": "streets", "workers": seed}, "loss": {"kind": "jaccard"}}
        (run / "config.yaml").write_text(yaml.safe_dump(config | (settings or {}) | {"seed": seed}))
    if sums is not None:
        write_sums(run, sums.tensors(), created=content["created"])
    return run


def write_sums(
    run: Path, tensors: dict[str, Tensor], *, created: str, schema_version: str = "1"
) -> None:
    """Write evaluation.safetensors beside an evaluation."""
    metadata = {"evaluation": created, "schema_version": schema_version}
    save_file(tensors, run / "evaluation.safetensors", metadata=metadata)


def statistics_of(
    images: Sequence[dict[str, Any]], *, num_classes: int = len(CLASSES)
) -> ImageStatistics:
    """Return the sums of images as evaluation.json lists them; scores may be missing."""
    unscored = {"stem": "a", "miou": None, "accuracy": None}
    scores = [ImageScores.model_validate(unscored | image) for image in images]
    return statistics_of_images(scores, num_classes=num_classes)


def make_sums(content: dict[str, Any]) -> ImageStatistics:
    """Return sums of the images of an evaluation, with parts that its JSON does not keep."""
    listed = statistics_of(content["images"])
    predicted, present = listed.counts.predicted.double(), listed.counts.present.double()
    count, confidence, correct = torch.zeros(3, *present.shape, NUM_BINS, dtype=torch.float64)
    count[..., 12], confidence[..., 12], correct[..., 12] = predicted, 0.82 * predicted, present
    wrong = present - listed.counts.true_positives
    return replace(
        listed,
        class_bins=CalibrationBins(count.long(), confidence, correct),
        masses=OverlapMasses(predicted, present, wrong + predicted - listed.counts.true_positives),
        energy=wrong.sum(1) / present.sum(1),
    )


def write_runs(
    folder: Path, name: str, seeds: Sequence[int], *, skill: float, **changes: Any
) -> list[Path]:
    """Write runs of one configuration and several seeds."""
    return [
        write_run(
            folder / f"{name}-{seed}",
            make_evaluation(skill=skill, seed=100 * seed + len(name), **changes),
            seed=seed,
            settings={"loss": {"kind": name}},
        )
        for seed in seeds
    ]
