"""Evaluate a model on a data set; write evaluation.json, thumbnails and example images.

`Evaluation` describes evaluation.json field by field, and `read_evaluation` reads it. The other
files are: - evaluation.safetensors: the sums of each image, see
`softiou.resampling.ImageStatistics`; the metadata has the field `created` of the evaluation. -
gallery/: STEM.image.jpg, STEM.target.png and STEM.preds.png (class indices), and
STEM.uncertainty.png (1 - confidence, in grey), at most 320 px, of at most 1000 evenly spaced
images. - examples/: the best and the worst images in full size.

Names are imported on first use, because the schema needs no torch.
"""

from typing import TYPE_CHECKING

from softiou._lazy import lazy_names as _lazy_names

if TYPE_CHECKING:
    from softiou.evaluation.content import to_json
    from softiou.evaluation.pictures import Example
    from softiou.evaluation.saving import save_evaluation
    from softiou.evaluation.schema import Evaluation, read_evaluation
    from softiou.evaluation.scoring import EvaluationResult, evaluate

__all__ = [
    "Evaluation",
    "EvaluationResult",
    "Example",
    "evaluate",
    "read_evaluation",
    "save_evaluation",
    "to_json",
]

__getattr__, __dir__ = _lazy_names(
    __name__,
    {
        "content": "to_json",
        "pictures": "Example",
        "saving": "save_evaluation",
        "schema": "Evaluation read_evaluation",
        "scoring": "EvaluationResult evaluate",
    },
)
