"""Read the class frequencies and the last pictures of the pseudo-labels of a run.

Sizes: H, W image height and width.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from softiou._reading import read_json
from softiou.errors import DataError
from softiou.evaluation.schema import Colour
from softiou.reports.history import History
from softiou.reports.pictures import class_indices, display_size, open_image, open_index_map, pixels

FOLDER = "pseudo_labels"
LABELS, PSEUDO_LABELS, KEPT = "labels/class/", "pseudo/class/", "pseudo/kept"  # in metrics.jsonl
# As `least` of `softiou.recipes.pseudo_labels.vanished`; importing that would import torch.
LEAST_RATIO = 0.05

# Weak view, pseudo-labels, strong view, mixed pseudo-labels.
Pictures = tuple[Image.Image | None, Image.Image | None, Image.Image | None, Image.Image | None]


@dataclass(frozen=True)
class ClassShares:
    """Frequencies of one class in per cent, between validations; None if undefined."""

    name: str
    labels: float | None  # at the last validation
    first: float | None  # of the pseudo-labels, at the first validation
    last: float | None  # of the pseudo-labels, at the last validation

    @property
    def ratio(self) -> float | None:
        """Return pseudo-labels / labels at the last validation; None if not in the labels."""
        return self.last / self.labels if self.labels and self.last is not None else None

    @property
    def vanished(self) -> bool:
        """Return whether the class has almost vanished from the pseudo-labels."""
        return self.ratio is not None and self.ratio < LEAST_RATIO


@dataclass(frozen=True, eq=False)
class PseudoLabelExample:
    """Pictures of an unlabelled image in training, at most 640 px long; None without a file.

    Indices that are not a class are ignored pixels.
    """

    stem: str
    weak: NDArray[np.uint8] | None  # (H, W, 3), input of the teacher
    pseudo: NDArray[np.int64] | None  # (H, W), its labels
    strong: NDArray[np.uint8] | None  # (H, W, 3), input of the student, after mixing
    mixed: NDArray[np.int64] | None  # (H, W), target of the student


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """Pseudo-labels of a run.

    `kept` is in per cent, at the last validation. `palette` has a colour for each class, or is
    empty if they are unknown; `pictures_step` is None without pictures.
    """

    classes: tuple[ClassShares, ...]
    first_step: int
    last_step: int
    kept: float | None
    palette: tuple[Colour, ...]
    pictures_step: int | None
    examples: tuple[PseudoLabelExample, ...]


def read_pseudo_labels(
    run_dir: Path, history: History, *, colours: Mapping[str, Colour]
) -> PseudoLabels | None:
    """Read the pseudo-labels of a run; return None if it has none.

    Damaged pictures are treated as missing, because they cannot be written again and are not
    essential. If `colours` lacks a class, the colours of the pictures are used.
    """
    lines = {line.name: dict(zip(line.steps, line.values, strict=True)) for line in history.series}
    names = [name.removeprefix(LABELS) for name in lines if name.startswith(LABELS)]
    if not names:
        return None
    steps = lines[LABELS + names[0]]
    first, last = min(steps), max(steps)
    pseudo = {name: lines.get(PSEUDO_LABELS + name, {}) for name in names}
    folder = run_dir / FOLDER
    pictures_step, stems = _read_stems(folder / "pictures.json")
    pictures = [_open_pictures(folder, number) for number in range(len(stems))]
    return PseudoLabels(
        classes=tuple(
            ClassShares(
                name,
                labels=lines[LABELS + name].get(last),
                first=pseudo[name].get(first),
                last=pseudo[name].get(last),
            )
            for name in names
        ),
        first_step=first,
        last_step=last,
        kept=lines.get(KEPT, {}).get(last),
        palette=_palette(names, colours, (one for four in pictures for one in four)),
        pictures_step=pictures_step,
        examples=tuple(map(_example, stems, pictures)),
    )


def _read_stems(path: Path) -> tuple[int | None, list[str]]:
    """Return step and image names of the pictures; None and [] without a valid file."""
    try:
        fields = read_json(path)
        return int(fields["step"]), [str(stem) for stem in fields["stems"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, []


def _open_pictures(folder: Path, number: int) -> Pictures:
    return (
        _open(open_image, folder / f"{number}.weak.jpg"),
        _open(open_index_map, folder / f"{number}.pseudo.png"),
        _open(open_image, folder / f"{number}.strong.jpg"),
        _open(open_index_map, folder / f"{number}.mixed.png"),
    )


def _open(opener: Callable[[Path], Image.Image | None], path: Path) -> Image.Image | None:
    try:
        return opener(path)
    except DataError:
        return None


def _example(stem: str, pictures: Pictures) -> PseudoLabelExample:
    size = display_size(pictures)
    weak, pseudo, strong, mixed = pictures
    return PseudoLabelExample(
        stem,
        weak=pixels(weak, size),
        pseudo=class_indices(pseudo, size),
        strong=pixels(strong, size),
        mixed=class_indices(mixed, size),
    )


def _palette(
    names: list[str], colours: Mapping[str, Colour], pictures: Iterable[Image.Image | None]
) -> tuple[Colour, ...]:
    """Return a colour for each class, or ()."""
    if all(name in colours for name in names):
        return tuple(colours[name] for name in names)
    for picture in pictures:
        channels = picture.getpalette() if picture is not None and picture.mode == "P" else None
        if channels is not None and len(channels) >= 3 * len(names):
            return tuple(
                (channels[start], channels[start + 1], channels[start + 2])
                for start in range(0, 3 * len(names), 3)
            )
    return ()  # with more than 255 classes the pictures have no colours
