"""Deprecated: the module moved to `softiou.exporting`; old names work until 0.3.

As an attribute of the package, `softiou.export` is the function that exports a run.
"""

from softiou._moved import callable_module, moved_names

__all__: list[str] = []

__getattr__ = moved_names(
    __name__,
    {
        "softiou.exporting": "FORMATS SUFFIXES TOLERANCE ExportError ExportInfo Exported Format "
        "InputDtype Probabilities Report example_images export_model is_exported "
        "largest_difference open_exported read_weights trace"
    },
)
callable_module(__name__, "softiou.jobs", "export")
