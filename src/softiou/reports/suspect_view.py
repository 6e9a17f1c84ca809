"""The section of the page on labels that may be wrong."""

from collections.abc import Sequence
from urllib.parse import quote

from softiou.evaluation.schema import Evaluation, ImageScores, Suspect
from softiou.reports.formatting import View

LARGEST = 24


def ranked_suspects(images: Sequence[ImageScores]) -> list[tuple[ImageScores, Suspect]]:
    """Return the regions of all images, those with the most confident pixels first."""
    found = [(image, suspect) for image in images for suspect in image.suspects]
    return sorted(found, key=lambda pair: -pair[1].weight)


def suspect_view(evaluation: Evaluation) -> View | None:
    """Return the first regions as rows; None where there are none."""
    ranked = ranked_suspects(evaluation.images)
    if not ranked:
        return None
    pairs = list(zip(evaluation.classes, evaluation.palette, strict=True))
    classes = [{"name": name, "colour": colour} for name, colour in pairs]
    return {
        "rows": [
            {
                "stem": image.stem,
                "link": f"#image={quote(image.stem, safe='')}&box={','.join(map(str, one.box))}",
                "target": classes[one.target],
                "preds": classes[one.preds],
                "pixels": one.pixels,
                "confidence": one.confidence,
            }
            for image, one in ranked[:LARGEST]
        ],
        "count": len(ranked),
    }
