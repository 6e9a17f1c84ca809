"""The gallery as the page's script reads it: classes, scores, and the images with their pictures.

One side for each run: a report has one, a comparison two or more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

from softiou.evaluation.schema import Evaluation, ImageScores
from softiou.metrics.registry import IMAGE_METRICS, ImageMetricInfo
from softiou.reports.formatting import View, counted
from softiou.reports.gallery import FOLDER, LEVELS, UNCERTAINTY_LEVELS, GalleryImage, Packed, pack
from softiou.reports.pictures import MISTAKE

RAMP = "inferno"  # perceptually even, for any colour vision


_BETTER = {True: "high", False: "low", None: ""}  # as gallery.js names the better end


@dataclass(frozen=True)
class Sort:
    """An order of the images: by a score of one side, or by its gain over the first side."""

    name: str
    metric: ImageMetricInfo
    side: int
    gain: bool = False

    def read(self, sides: Sequence[ImageScores]) -> float | None:
        """The value of one image."""
        value = sides[self.side].score(self.metric.key)
        if not self.gain:
            return value
        first = sides[0].score(self.metric.key)
        return None if first is None or value is None else value - first


def gallery_view(evaluation: Evaluation, run_dir: Path) -> View:
    """The gallery of one run, the worst image first.

    Raises:
        DataError: A thumbnail is broken.
    """
    images = [
        GalleryImage(one.stem, (run_dir / FOLDER,), (one,), rank=one.miou)
        for one in evaluation.images
    ]
    metrics = _measured(images)
    sorts = [Sort(metric.label, metric, side=0) for metric in metrics]
    packed = pack(images, len(evaluation.classes))
    return _view(packed, evaluation, metrics, sorts, sides=("",))


def paired_gallery_view(runs: Sequence[tuple[str, Evaluation, Path]]) -> View:
    """The gallery of several runs on the same images, sorted by the gain of the second in mIoU.

    Args:
        runs: Name, evaluation and directory of each; only images that all of them scored are shown.

    Raises:
        DataError: A thumbnail is broken.
    """
    names = [name for name, _, _ in runs]
    sides = range(len(runs))
    miou = IMAGE_METRICS[0]
    first = Sort("", miou, side=1, gain=True)
    by_stem = [{one.stem: one for one in evaluation.images} for _, evaluation, _ in runs]
    folders = tuple(run_dir / FOLDER for _, _, run_dir in runs)
    images = []
    for stem in by_stem[0]:
        if all(stem in scores for scores in by_stem):
            shown = tuple(scores[stem] for scores in by_stem)
            images.append(GalleryImage(stem, folders, shown, rank=first.read(shown)))
    metrics = _measured(images)
    gains = [
        Sort(f"{metric.label}: {names[side]} \N{MINUS SIGN} {names[0]}", metric, side, gain=True)
        for side in sides[1:]
        for metric in metrics
    ]
    plain = [Sort(f"mIoU: {names[side]}", miou, side) for side in sides]
    first_run = runs[0][1]
    packed = pack(images, len(first_run.classes))
    return _view(packed, first_run, metrics, gains + plain, sides=names)


def _measured(images: Sequence[GalleryImage]) -> list[ImageMetricInfo]:
    """Return the metrics that at least one image has."""
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
            "scores": [
                {"name": metric.label, "better": _BETTER[metric.higher_is_better]}
                for metric in metrics
            ],
            "sorts": [
                {
                    "name": sort.name,
                    "better": _BETTER[sort.metric.higher_is_better],
                    "gain": sort.gain,
                }
                for sort in sorts
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
    """Of each class in the target or a prediction: index, share of the target, IoU of each side.

    The largest in the target come first.
    """
    counts = [one.counts or {} for one in sides]
    present = {index: row[2] for one in counts for index, row in one.items()}
    total = max(1, sum(present.values()))
    return [
        [index, round(100 * pixels / total, 2), *(_iou(one.get(index)) for one in counts)]
        for index, pixels in sorted(present.items(), key=lambda item: (-item[1], item[0]))
    ]


def _iou(counts: tuple[int, int, int] | None) -> float | None:
    """Per cent; None for a class that is neither present nor predicted."""
    if counts is None:
        return None
    true_positives, predicted, present = counts
    union = predicted + present - true_positives
    return _rounded(100 * true_positives / union) if union else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _note(packed: Packed) -> str:
    """How the pictures were reduced to limit the size of the page; "" if they were not."""
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
