"""Images with what was said of them: the best and the worst of an evaluation."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from softiou.reports.collect import Evaluation, Example
from softiou.reports.formatting import View
from softiou.reports.image_files import Colour
from softiou.reports.pictures import (
    colourize,
    is_class,
    jpeg_uri,
    mark_mistakes,
    png_uri,
    present_classes,
)


def example_view(example: Example, evaluation: Evaluation) -> View:
    """An image of an evaluation: target, prediction and mistakes, as far as the files are there."""
    palette = [score.colour for score in evaluation.classes]
    stem, image, target, preds = example.score.stem, example.image, example.target, example.preds
    drawn = [
        photograph("Image", f"Image {stem}", image),
        drawing("Target", f"Target classes of {stem}", target, palette),
        drawing("Prediction", f"Predicted classes of {stem}", preds, palette),
    ]
    if image is not None and target is not None and preds is not None:
        marked = mark_mistakes(image, target, preds, palette)
        drawn.append(photograph("Mistakes", f"Wrong pixels of {stem} in red", marked))
    score = example.score
    return {
        "stem": stem,
        "note": f"mIoU {percent(score.miou)} % · accuracy {percent(score.accuracy)} %",
        "pictures": [picture for picture in drawn if picture is not None],
        "classes": [
            (evaluation.classes[index].name, palette[index])
            for index in present_classes(target, preds, palette=palette)
        ],
        "hatched": "ignored" if has_hatching(target, palette=palette) else "",
    }
