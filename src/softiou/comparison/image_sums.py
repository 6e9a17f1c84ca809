"""What an evaluation keeps of every image: evaluation.safetensors, or evaluation.json alone.

Sizes: N images, C classes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from softiou.metrics import ImageStatistics

SUMS_VERSION = "1"


def read_sums(file: Path, content: Mapping[str, Any]) -> ImageStatistics:
    """Read the sums of an evaluation over every image, in the order of their stems.

    Args:
        file: Its evaluation.json, beside which the tensors lie: a file of the same name that ends
            in .safetensors.
        content: Of evaluation.json.

    Returns:
        What the tensors hold, if they are of this very evaluation; otherwise the part of it that
        the entry `images` has, too. A file of tensors that is damaged, missing or of another
        evaluation is no error: it allows intervals of a few more figures, no other values.

    Raises:
        KeyError, TypeError, ValueError, IndexError, AttributeError: Entries of another kind.
    """
    images, num_classes = content["images"], len(content["classes"])
    told = ImageStatistics.from_images(images, num_classes=num_classes)
    kept = _read_tensors(file.with_suffix(".safetensors"), created=content.get("created"))
    statistics = kept if kept is not None and _same_counts(kept, told) else told
    order = sorted(range(len(images)), key=lambda index: str(images[index]["stem"]))
    return statistics.apply(lambda x: x[torch.tensor(order)])


def _read_tensors(file: Path, *, created: object) -> ImageStatistics | None:
    """Return what a file of tensors holds; None where it is of no use."""
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            if created is None or metadata.get("evaluation") != created:
                return None
            if metadata.get("schema_version") != SUMS_VERSION:
                return None
            names = opened.keys()
            return ImageStatistics.from_tensors({name: opened.get_tensor(name) for name in names})
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def _same_counts(one: ImageStatistics, other: ImageStatistics) -> bool:
    """Say whether two are of the same images in the same order, and of the same predictions."""
    theirs = other.counts.tensors()
    return all(torch.equal(x, theirs[name]) for name, x in one.counts.tensors().items())
