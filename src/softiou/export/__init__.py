"""Export: a trained model as a file for use elsewhere, and what runs such files.

Running ONNX and torch.export files imports neither the libraries that models are built with nor
those that train them.
"""

from softiou.errors import ExportError
from softiou.export.exporting import Report, export_model
from softiou.export.files import FORMATS, SUFFIXES, Format
from softiou.export.metadata import ExportInfo, InputDtype
from softiou.export.running import Exported, is_exported, open_exported
from softiou.export.tracing import Probabilities, trace
from softiou.export.verification import TOLERANCE, example_images, largest_difference
from softiou.export.weights import read_weights

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
