"""Export trained models to files, and run such files.

Running ONNX and torch.export files needs no libraries for models and training.
"""

from softiou.errors import ExportError
from softiou.exporting.files import FORMATS, SUFFIXES, Format, read_weights
from softiou.exporting.metadata import ExportInfo, InputDtype
from softiou.exporting.running import Exported, is_exported, open_exported
from softiou.exporting.tracing import Probabilities, trace
from softiou.exporting.writing import (
    TOLERANCE,
    Report,
    example_images,
    export_model,
    largest_difference,
)

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "TOLERANCE",
    "ExportError",
    "ExportInfo",
    "Exported",
    "Format",
    "InputDtype",
    "Probabilities",
    "Report",
    "example_images",
    "export_model",
    "is_exported",
    "largest_difference",
    "open_exported",
    "read_weights",
    "trace",
]
