"""Errors that callers may want to catch; everything else is a plain ValueError or TypeError."""


class SoftiouError(Exception):
    """Base of the errors below: a mistake in the input, with a message that names the way out."""


class DataError(SoftiouError, ValueError):
    """A data set on disk cannot be used: names the file, what was found and how to mend it."""


class ConfigError(SoftiouError, ValueError):
    """A configuration is wrong: lists every mistake at once, with dotted keys."""


class CheckpointError(SoftiouError, ValueError):
    """A checkpoint or weights file is missing, unreadable or does not fit the model or the data."""


class RunExistsError(SoftiouError, FileExistsError):
    """The run directory already holds a run; nothing was overwritten."""


class ExportError(SoftiouError, ValueError):
    """A model cannot be exported, or what was written does not compute the same."""
