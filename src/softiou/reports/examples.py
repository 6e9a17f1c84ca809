"""Images with targets and predictions, shown side by side.

Sizes: H, W image height and width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softiou._files import file_name
from softiou.evaluation.schema import Colour, Evaluation, ImageScores
from softiou.reports import pictures
from softiou.reports.formatting import View, counted, percent
from softiou.reports.pseudo_labels import LEAST_RATIO, PseudoLabelExample, PseudoLabels


@dataclass(frozen=True, eq=False)
class ExamplePictures:
    """The pictures of an image, at most 640 px long; None if there is no file."""

    score: ImageScores
    image: NDArray[np.uint8] | None  # (H, W, 3)
    target: NDArray[np.int64] | None  # (H, W); indices out of range are ignored pixels
    preds: NDArray[np.int64] | None  # (H, W)


def read_example(folder: Path, score: ImageScores) -> ExamplePictures:
    """Open the pictures of one image, downscaled to 640 px; raise a DataError if damaged."""
    image = pictures.open_image(folder / file_name(score.stem, ".image.jpg"))
    target, preds = (
        pictures.open_index_map(folder / file_name(score.stem, f".{suffix}"))
        for suffix in ("target.png", "preds.png")
    )
    size = pictures.display_size((image, target, preds))
    return ExamplePictures(
        score=score,
        image=pictures.pixels(image, size),
        target=pictures.class_indices(target, size),
        preds=pictures.class_indices(preds, size),
    )


def example_view(example: ExamplePictures, evaluation: Evaluation) -> View:
    """Return image, target, prediction and mistakes, if the files exist."""
    palette = evaluation.palette
    score, image, target, preds = example.score, example.image, example.target, example.preds
    drawn = [
        _photograph("Image", f"Image {score.stem}", image),
        _drawing("Target", f"Target classes of {score.stem}", target, palette),
        _drawing("Prediction", f"Predicted classes of {score.stem}", preds, palette),
    ]
    if image is not None and target is not None and preds is not None:
        marked = pictures.mark_mistakes(image, target, preds, palette)
        drawn.append(_photograph("Mistakes", f"Wrong pixels of {score.stem} in orange", marked))
    return {
        "stem": score.stem,
        "note": f"mIoU {percent(score.miou)} % · accuracy {percent(score.accuracy)} %",
        "pictures": [picture for picture in drawn if picture is not None],
        "missing": "The pictures of this image are missing from the examples folder.",
        "classes": _legend(evaluation.classes, palette, target, preds),
        "hatched": "ignored" if _left_out(palette, target) else "",
    }


def pseudo_label_example_view(example: PseudoLabelExample, found: PseudoLabels) -> View:
    """Return the views of teacher and student and their pseudo-labels, if the files exist."""
    palette, stem = found.palette, example.stem
    # The maps cannot be drawn without colours.
    pseudo, mixed = (example.pseudo, example.mixed) if palette else (None, None)
    drawn = (
        _photograph("Weak view", f"Weak view of {stem}", example.weak),
        _drawing("Pseudo-labels", f"Pseudo-labels of {stem}", pseudo, palette),
        _photograph("Strong view", f"Strong view of {stem}, after mixing", example.strong),
        _drawing(
            "Pseudo-labels of the strong view", f"Pseudo-labels of {stem}, mixed", mixed, palette
        ),
    )
    return {
        "stem": stem,
        "note": "",
        "pictures": [picture for picture in drawn if picture is not None],
        "missing": "The pictures of this image are missing or broken.",
        "classes": _legend([one.name for one in found.classes], palette, pseudo, mixed),
        "hatched": "left out" if _left_out(palette, pseudo, mixed) else "",
    }


def _photograph(title: str, alt: str, pixels: NDArray[np.uint8] | None) -> View | None:
    return None if pixels is None else _picture(title, alt, pixels, pictures.jpeg_uri(pixels))


def _drawing(
    title: str, alt: str, indices: NDArray[np.int64] | None, palette: Sequence[Colour]
) -> View | None:
    if indices is None:
        return None
    drawn = pictures.colourize(indices, palette)
    return _picture(title, alt, drawn, pictures.png_uri(drawn))


def _picture(title: str, alt: str, pixels: NDArray[np.uint8], uri: str) -> View:
    height, width, _ = pixels.shape
    return {"title": title, "alt": alt, "height": height, "width": width, "uri": uri}


def _legend(
    names: Sequence[str], palette: Sequence[Colour], *maps: NDArray[np.int64] | None
) -> list[tuple[str, Colour]]:
    """Return names and colours of the classes in any of the maps, sorted by size."""
    present = pictures.present_classes(*maps, palette=palette)
    return [(names[index], palette[index]) for index in present]


def _left_out(palette: Sequence[Colour], *maps: NDArray[np.int64] | None) -> bool:
    """Return whether any of the maps has ignored pixels, which are hatched."""
    return any(one is not None and not pictures.is_class(one, palette).all() for one in maps)


def pseudo_label_view(found: PseudoLabels) -> View:
    """Return an explanation, a row per class, and the pictures of the last validation."""
    return {
        "kept": found.kept,
        "verdict": _verdict(found),
        "first_step": f"{found.first_step:,}",
        "last_step": f"{found.last_step:,}",
        "rows": [
            {"shares": shares, "colour": colour}
            for shares, colour in zip_longest(found.classes, found.palette)
        ],
        "undefined": any(shares.ratio is None for shares in found.classes),
        "pictures_step": None if found.pictures_step is None else f"{found.pictures_step:,}",
        "examples": [pseudo_label_example_view(example, found) for example in found.examples],
    }


def _verdict(found: PseudoLabels) -> str:
    """Return a sentence on the number of classes that have almost vanished."""
    gone, least = sum(one.vanished for one in found.classes), f"{100 * LEAST_RATIO:.0f} %"
    if not gone:
        return f"No class has vanished: each keeps at least {least} of its share of the labels."
    return (
        f"{gone} of {counted(len(found.classes), 'class', 'classes')} "
        f"{'has' if gone == 1 else 'have'} almost vanished: less than {least} of the share of the "
        f"labels. The table marks {'it' if gone == 1 else 'them'}."
    )
