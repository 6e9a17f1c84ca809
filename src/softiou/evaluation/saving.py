"""Write an evaluation into a run directory, atomically, and keep earlier ones."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors.torch import save

from softiou._files import atomic_folder, file_name, write_atomically
from softiou._reading import read_json
from softiou.evaluation.content import to_json
from softiou.evaluation.schema import FILE
from softiou.evaluation.scoring import EvaluationResult

SUMS = "evaluation.safetensors"
EXAMPLES, GALLERY = "examples", "gallery"
# An earlier evaluation with equal entries is replaced; others are kept.
_IDENTITY = ("data", "split", "checkpoint", "checkpoint_sha256", "labels", "inference")

_Pictures = Iterable[tuple[str, Mapping[str, bytes]]]


def save_evaluation(evaluation: EvaluationResult, run: Path) -> Path | None:
    """Write examples/, gallery/, the sums and finally the JSON into a run directory.

    Each folder and file is written atomically.

    Returns:
        Path that an earlier evaluation of other data or another checkpoint was moved to; None if
        there was none.
    """
    run.mkdir(parents=True, exist_ok=True)
    kept = _keep_earlier(evaluation, run)
    palette = evaluation.description.palette
    shown = {e.stem: e for e in (*evaluation.best, *evaluation.worst)}
    _replace(run / EXAMPLES, ((stem, e.files(palette)) for stem, e in shown.items()))
    _replace(run / GALLERY, evaluation.thumbnails.items())
    tensors = {name: x.contiguous() for name, x in evaluation.statistics.tensors().items()}
    created = evaluation.content["created"]
    metadata = {"schema_version": "1", "evaluation": created}
    write_atomically(save(tensors, metadata=metadata), run / SUMS)
    write_atomically(to_json(evaluation.content).encode(), run / FILE)
    return kept


def _replace(folder: Path, pictures: _Pictures) -> None:
    """Write images into a new folder, which then replaces the old one."""
    with atomic_folder(folder, replace=True) as new:
        for stem, contents in pictures:
            for ending, content in contents.items():
                path = new / file_name(stem, f".{ending}")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)


def _keep_earlier(evaluation: EvaluationResult, run: Path) -> Path | None:
    """Rename an earlier evaluation with another identity, including its files."""
    path = run / FILE
    try:
        earlier: Any = read_json(path)
    except FileNotFoundError:
        return None
    except ValueError:
        earlier = {}
    if not isinstance(earlier, dict):
        earlier = {}
    if all(earlier.get(key) == evaluation.content[key] for key in _IDENTITY):
        return None
    stamp = datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y%m%dT%H%M%S.%f")
    split = Path(str(earlier.get("split", "unknown"))).stem  # a split may be the path of a list
    for name in (EXAMPLES, GALLERY, SUMS, FILE):
        part = run / name
        if part.exists():
            part.rename(run / f"{part.stem}-{split}-{stamp}{part.suffix}")
    return run / f"evaluation-{split}-{stamp}.json"
