"""Writing an evaluation beside a run, so that nothing is lost and nothing is half there."""

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from softiou._files import write_atomically
from softiou.evaluation.content import to_json
from softiou.evaluation.scoring import Evaluation

FILE, GALLERY = "evaluation.json", "gallery"
# What says that an evaluation is of the same thing as an earlier one, which it may replace.
_SAME = ("data", "split", "checkpoint", "labels", "inference")


def save_evaluation(evaluation: Evaluation, run: Path) -> Path | None:
    """Write evaluation.json, examples/ and gallery/ into a run directory, each file atomically.

    Returns:
        Where an earlier evaluation of other data or another checkpoint was moved to, None if there
        was none: nothing is lost.
    """
    kept = _keep_earlier(evaluation, run)
    palette = evaluation.description.palette
    shown = {e.stem: e for e in (*evaluation.best, *evaluation.worst)}
    for stem, example in shown.items():
        for ending, content in example.files(palette).items():
            path = run / "examples" / f"{stem}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(content, path)
    _replace_gallery(evaluation, run)
    write_atomically(to_json(evaluation.content).encode(), run / FILE)
    return kept


def _replace_gallery(evaluation: Evaluation, run: Path) -> None:
    """Write the thumbnails into a new folder, which then takes the place of the old one."""
    run.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=run, prefix=f".{GALLERY}-") as temporary:
        new, old = Path(temporary) / "new", Path(temporary) / "old"
        new.mkdir()
        for stem, thumbnail in evaluation.thumbnails.items():
            for ending, content in thumbnail.items():
                path = new / f"{stem}.{ending}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        if (run / GALLERY).exists():
            (run / GALLERY).rename(old)
        new.rename(run / GALLERY)


def _keep_earlier(evaluation: Evaluation, run: Path) -> Path | None:
    """Move an evaluation of something else out of the way, with its gallery."""
    path = run / FILE
    try:
        earlier: Any = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        earlier = {}
    if not isinstance(earlier, dict):
        earlier = {}
    if all(earlier.get(key) == evaluation.content[key] for key in _SAME):
        return None
    stamp = datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y%m%dT%H%M%S.%f")
    split = Path(str(earlier.get("split", "unknown"))).stem  # a split may be the file of a list
    if (run / GALLERY).is_dir():
        (run / GALLERY).rename(run / f"{GALLERY}-{split}-{stamp}")
    kept = path.with_name(f"evaluation-{split}-{stamp}.json")
    path.rename(kept)
    return kept
