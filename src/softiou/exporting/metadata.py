"""The metadata of an exported file, as equal strings in all formats.

    softiou_format   version of these strings, 1
    softiou_version  version that wrote the file
    classes          JSON list of names; a name's position is the class index
    palette          JSON list of [red, green, blue], 0..255
    ignore_index     label value of ignored pixels; never predicted
    input            JSON: name, dtype ("uint8" or "float32"), range, colours, layout, smallest_px;
                     for chosen bands, the range is null, and values are those of the image files
    output           JSON: name, dtype, range, layout
    calibration      JSON: kind, scale, bias of the logits; or null
    temperature      T of z / T, 1 without calibration; missing for other kinds of calibration
    model            JSON: architecture, encoder and other settings of the network
    source           JSON: sha256, weights ("student" or "teacher") and step of the checkpoint

ONNX files store them in `metadata_props`, safetensors in `__metadata__`, and torch.export in the
extra file `softiou.json`, as a JSON object.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import softiou
from softiou._reading import parse_json
from softiou._validation import validated
from softiou.data import Bands, DatasetDescription
from softiou.errors import CheckpointError
from softiou.temperature import LogitScaling

FORMAT_VERSION = 1
INPUT, OUTPUT = "images", "probs"

InputDtype = Literal["uint8", "float32"]


@dataclass(frozen=True)
class ExportInfo:
    """The metadata of an exported file.

    Attributes:
        description: Names and colours of the classes.
        model: `ModelSpec` as plain values.
        scaling: Scaling of the logits included in the file, or None.
        input_dtype: "uint8" for RGB in [0, 255], "float32" for RGB in [0, 1] or for bands.
        smallest_px: Smallest height and width of an input image.
        checkpoint_sha256: SHA-256 of the exported checkpoint.
        weights: "student" or "teacher".
        step: Number of optimiser steps of the checkpoint.
    """

    description: DatasetDescription
    model: dict[str, Any]
    scaling: LogitScaling | None
    input_dtype: InputDtype
    smallest_px: int
    checkpoint_sha256: str
    weights: str
    step: int

    @property
    def bands(self) -> Bands | None:
        """Return the bands of the input; None for RGB."""
        return Bands.from_dict(self.model.get("bands"))


def to_strings(info: ExportInfo) -> dict[str, str]:
    """Convert the metadata to strings."""
    largest = 255 if info.input_dtype == "uint8" else 1
    values: dict[str, Any] = {
        **info.description.as_dict(),
        "input": {
            "name": INPUT,
            "dtype": info.input_dtype,
            "range": [0, largest] if info.bands is None else None,
            "colours": "RGB" if info.bands is None else list(info.bands.numbers),
            "layout": "NCHW",
            "smallest_px": info.smallest_px,
        },
        "output": {"name": OUTPUT, "dtype": "float32", "range": [0, 1], "layout": "NCHW"},
        "calibration": None if info.scaling is None else asdict(info.scaling),
        "model": info.model,
        "source": {"sha256": info.checkpoint_sha256, "weights": info.weights, "step": info.step},
    }
    if info.scaling is None or info.scaling.kind == "temperature":
        values["temperature"] = 1.0 if info.scaling is None else 1 / info.scaling.scale[0]
    strings = {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}
    return {
        "softiou_format": str(FORMAT_VERSION),
        "softiou_version": softiou.__version__,
        **strings,
    }


def from_strings(strings: Mapping[str, str], *, file: str) -> ExportInfo:
    """Parse the strings of `to_strings`; errors name the file."""
    if "softiou_format" not in strings:
        raise CheckpointError(
            f"{file} was not written by `softiou export`: it has no list of classes. Export the "
            "run or checkpoint again."
        )
    try:
        version = int(strings["softiou_format"])
        if version <= FORMAT_VERSION:
            return _parse({name: _value(text) for name, text in strings.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{file}: the metadata is damaged: {error!r}. Export it again."
        ) from error
    raise CheckpointError(
        f"{file} has the format {version}, newer than the supported one ({FORMAT_VERSION}). "
        "Update softiou."
    )


def _value(text: str) -> Any:
    """Parse JSON; keep other strings, which other programs may have added."""
    try:
        return parse_json(text)
    except ValueError:
        return text


def _parse(values: dict[str, Any]) -> ExportInfo:
    """Build the metadata from plain values; raise KeyError, TypeError or ValueError."""
    return validated(
        ExportInfo,
        {
            "description": values,
            "model": values["model"],
            "scaling": values["calibration"],
            "input_dtype": values["input"]["dtype"],
            "smallest_px": values["input"]["smallest_px"],
            "checkpoint_sha256": values["source"]["sha256"],
            "weights": values["source"]["weights"],
            "step": values["source"]["step"],
        },
    )
