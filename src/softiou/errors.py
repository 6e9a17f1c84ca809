"""Exceptions that callers may want to catch; all others are ValueError or TypeError."""


class SoftiouError(Exception):
    """Base class: invalid input, with a message that says how to correct it."""


class DataError(SoftiouError, ValueError):
    """A data set is invalid; the message names the file, the value and the remedy."""


class ConfigError(SoftiouError, ValueError):
    """A configuration is invalid; the message lists all mistakes with dotted keys."""


class CheckpointError(SoftiouError, ValueError):
    """A checkpoint or weights file is missing, unreadable or does not fit the model or the data."""


class RunExistsError(SoftiouError, FileExistsError):
    """The run directory already contains a run; nothing was overwritten."""


class ExportError(SoftiouError, ValueError):
    """A model cannot be exported, or the exported file computes something else."""
