"""The data of the gallery for the script of the page: classes, scores, images, pictures.

Each run is called a side: a report has one, a comparison two or more.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

import matplotlib as mpl

from softiou.evaluation.schema import Evaluation, ImageScores
from softiou.metrics.registry import IMAGE_METRICS, ImageMetricInfo
from softiou.reports.formatting import View, counted
from softiou.reports.gallery import FOLDER, LEVELS, UNCERTAINTY_LEVELS, GalleryImage, Packed, pack
from softiou.reports.pictures import MISTAKE

RAMP = "inferno"  # perceptually uniform, for any colour vision


_BETTER = {True: "high", False: "low", None: ""}  # the terms of gallery.js


Scores: TypeAlias = Sequence[ImageScores]  # scores of one image, for each run


@dataclass(frozen=True)
class Sort:
    """A sort order of the images: a value, and which is better, "high", "low" or ""."""

    name: str
    better: str
    read: Callable[[Scores], float | None]
    gain: bool = False


def score_sort(name: str, metric: ImageMetricInfo, side: int, *, gain: bool = False) -> Sort:
    """Sort the images by a score of one run, or by its gain over the first run."""

    def read(sides: Scores) -> float | None:
        value, first = sides[side].score(metric.key), sides[0].score(metric.key)
        if not gain:
            return value
        return None if first is None or value is None else value - first

    return Sort(name, _BETTER[metric.higher_is_better], read, gain)


def suspect_share(sides: Scores) -> float:
    """Return the share of the image, in per cent, in suspect regions of the first run."""
    height, width = sides[0].size or (1, 1)
    return 100 * sum(one.weight for one in sides[0].suspects) / (height * width)


def gallery_view(evaluation: Evaluation, run_dir: Path) -> View:
    """Return the gallery of one run, the worst image first, for a page in its directory."""
    images = [
        GalleryImage(one.stem, (run_dir / FOLDER,), (one,), rank=one.miou)
        for one in evaluation.images
    ]
    metrics = _measured(images)
    sorts = [score_sort(metric.label, metric, side=0) for metric in metrics]
    if any(one.suspects for one in evaluation.images):
        sorts.append(Sort("Suspect labels", "low", suspect_share))
    packed = pack(images, len(evaluation.classes))
    return _view(packed, evaluation, metrics, sorts, sides=("",), folders=(FOLDER,))


def paired_gallery_view(
    runs: Sequence[tuple[str, Evaluation, Path]], page_dir: Path | None = None
) -> View:
    """Return the gallery of several runs on the same images, sorted by the gain in mIoU."""
    names = [name for name, _, _ in runs]
    sides = range(len(runs))
    miou = IMAGE_METRICS[0]
    first = score_sort("", miou, side=1, gain=True)
    by_stem = [{one.stem: one for one in evaluation.images} for _, evaluation, _ in runs]
    folders = tuple(run_dir / FOLDER for _, _, run_dir in runs)
    images = []
    for stem in by_stem[0]:
        if all(stem in scores for scores in by_stem):
            shown = tuple(scores[stem] for scores in by_stem)
            images.append(GalleryImage(stem, folders, shown, rank=first.read(shown)))
    metrics = _measured(images)
    gains = [
        score_sort(
            f"{metric.label}: {names[side]} \N{MINUS SIGN} {names[0]}", metric, side, gain=True
        )
        for side in sides[1:]
        for metric in metrics
    ]
    plain = [score_sort(f"mIoU: {names[side]}", miou, side) for side in sides]
    first_run = runs[0][1]
    packed = pack(images, len(first_run.classes))
    urls = [] if page_dir is None else [_relative(folder, page_dir) for folder in folders]
    return _view(packed, first_run, metrics, gains + plain, sides=names, folders=urls)


def _relative(folder: Path, page_dir: Path) -> str:
    """Return the relative URL of a folder from a page."""
    return quote(Path(os.path.relpath(folder.resolve(), page_dir.resolve())).as_posix())


def _measured(images: Sequence[GalleryImage]) -> list[ImageMetricInfo]:
    """Return the metrics for which at least one image has a value."""
    return [
        metric
        for metric in IMAGE_METRICS
        if any(one.score(metric.key) is not None for image in images for one in image.scores)
    ]


def _view(
    packed: Packed,
    evaluation: Evaluation,
    metrics: Sequence[ImageMetricInfo],
    sorts: Sequence[Sort],
    *,
    sides: Sequence[str],
    folders: Sequence[str],
) -> View:
    colormap = mpl.colormaps[RAMP].resampled(UNCERTAINTY_LEVELS)
    shown = [
        picture
        | {
            "scores": [
                [_rounded(one.score(metric.key)) for one in image.scores] for metric in metrics
            ],
            "sorts": [_rounded(sort.read(image.scores)) for sort in sorts],
            "classes": _classes(image.scores),
            "size": image.scores[0].size,
            "bins": _gaps(image.scores[0]),
        }
        for image, picture in zip(packed.images, packed.pictures, strict=True)
    ]
    return {
        "sides": sides,
        "note": _note(packed),
        "data": {
            "classes": [
                {"name": name, "colour": colour}
                for name, colour in zip(evaluation.classes, evaluation.palette, strict=True)
            ],
            "sides": list(sides),
            "folders": list(folders),
            "scores": [
                {"name": metric.label, "better": _BETTER[metric.higher_is_better]}
                for metric in metrics
            ],
            "sorts": [
                {"name": sort.name, "better": sort.better, "gain": sort.gain} for sort in sorts
            ],
            "mistake": MISTAKE,
            "ramp": [
                [round(255 * channel) for channel in colormap(level)[:3]]
                for level in range(UNCERTAINTY_LEVELS)
            ],
            "images": shown,
        },
    }


def _classes(sides: Sequence[ImageScores]) -> list[list[float | None]]:
    """Return, per class in target or prediction: index, share of the target, IoU of each run.

    Sorted by the share of the target.
    """
    counts = [one.counts or {} for one in sides]
    present = {index: row[2] for one in counts for index, row in one.items()}
    total = max(1, sum(present.values()))
    return [
        [index, round(100 * pixels / total, 2), *(_iou(one.get(index)) for one in counts)]
        for index, pixels in sorted(present.items(), key=lambda item: (-item[1], item[0]))
    ]


def _gaps(score: ImageScores) -> list[tuple[int, float]]:
    """Return the confidence bins of an image, and the sums of |confidence - accuracy|."""
    if score.bins is None:
        return []
    columns = zip(score.bins.count, score.bins.confidence, score.bins.correct, strict=True)
    return [
        (index, round(abs((confidence or 0) - (correct or 0)), 1))
        for index, (count, confidence, correct) in enumerate(columns)
        if count
    ]


def _iou(counts: tuple[int, int, int] | None) -> float | None:
    """Return the IoU in per cent; None for a class in neither target nor prediction."""
    if counts is None:
        return None
    true_positives, predicted, present = counts
    union = predicted + present - true_positives
    return _rounded(100 * true_positives / union) if union else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _note(packed: Packed) -> str:
    """Return a sentence on how the pictures were reduced; "" if they were not."""
    notes = []
    longest = packed.level.long_side_px
    if longest < LEVELS[0].long_side_px:
        notes.append(f"Pictures are at most {longest} pixels long, so that the page stays small.")
    if packed.left_out:
        notes.append(
            f"{counted(packed.left_out, 'image')} of {len(packed.images) + packed.left_out:,} "
            f"{'is' if packed.left_out == 1 else 'are'} left out: the worst, the best and an even "
            "sample of the others stay."
        )
    return " ".join(notes)
