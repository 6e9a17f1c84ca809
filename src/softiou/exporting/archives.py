"""torch.export archives (.pt2): read a program without unpickling anything.

`torch.export.load` unpickles objects in an archive. Those that `softiou export` writes hold none,
only raw weights and a graph in JSON. Any other archive is rejected before it is loaded.
"""

import io
import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from softiou.errors import CheckpointError
from softiou.exporting.files import EXTRA_FILE
from softiou.exporting.metadata import ExportInfo, from_strings
from softiou.exporting.tracing import first_line, quiet

# Paths within the folder that is named after the file.
_PLAIN = re.compile(
    r"data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|models/model\.json|data/sample_inputs/model\.pt|extra/softiou\.json"
    r"|archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
)

_BROKEN = (
    AttributeError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


def read_archive(path: Path) -> tuple[ExportInfo, ExportedProgram]:
    """Read a program and its metadata.

    Raises:
        CheckpointError: The file is damaged, holds pickled objects, or was not written by `softiou
            export`.
    """
    info = _read_info(path)
    try:
        with quiet():
            return info, torch.export.load(path)
    except Exception as error:  # torch raises nearly anything
        raise CheckpointError(f"{path} is damaged: {first_line(error)}") from error


def _read_info(path: Path) -> ExportInfo:
    """Read the metadata, and check that nothing would be unpickled."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name.partition("/")[2] for name in archive.namelist()]
            content = dict(zip(members, archive.namelist(), strict=True))
            strings = json.loads(archive.read(content[f"extra/{EXTRA_FILE}"]))
            pickled = [name for name in members if not _PLAIN.fullmatch(name)]
            pickled += [name for name in content if members.count(name) > 1]
            for kind in ("weights", "constants"):
                config = json.loads(archive.read(content[f"data/{kind}/model_{kind}_config.json"]))
                pickled += _unplain(config["config"])
            _check_example(archive.read(content["data/sample_inputs/model.pt"]))
    except KeyError as error:
        raise CheckpointError(
            f"{path} was not written by `softiou export`: {error.args[0]} is missing. Export the "
            "run or checkpoint that it comes from."
        ) from error
    except _BROKEN as error:
        raise CheckpointError(
            f"{path} is damaged, or not an archive of torch.export: {first_line(error)}"
        ) from error
    if pickled:
        raise CheckpointError(
            f"{path} holds objects other than tensors and a graph, which are never loaded from a "
            f"file: {pickled[0]}."
        )
    return from_strings(strings, file=str(path))


def _unplain(config: dict[str, Any]) -> list[str]:
    """Return the entries that are pickled, or not tensors."""
    return [
        name
        for name, entry in config.items()
        if entry["use_pickle"] is not False
        or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"])
    ]


def _check_example(content: bytes) -> None:
    """Raise UnpicklingError unless the example inputs are tensors: torch would load anything."""
    torch.load(io.BytesIO(content), weights_only=True)
