"""Create the Lightning loggers named in the setting `loggers`."""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import Logger

from softiou._files import write_atomically
from softiou._processes import is_first
from softiou.configuration.resolved import ResolvedConfig
from softiou.configuration.sections import LoggerName
from softiou.errors import ConfigError

PROJECT = "softiou"
_STORE = "MLFLOW_TRACKING_URI"
_PACKAGES: dict[LoggerName, str] = {"wandb": "wandb", "mlflow": "mlflow"}


def check_installed(names: Sequence[LoggerName]) -> None:
    """Raise a ConfigError if the package of a logger is not installed."""
    for name in names:
        package = _PACKAGES.get(name)
        if package is not None and find_spec(package) is None:
            raise ConfigError(
                f"loggers: {name} needs the package {package}, which is not installed: "
                f"pip install {package}. Or remove it from `loggers`."
            )


@contextmanager
def named_loggers(config: ResolvedConfig, run: Path, *, step: int) -> Iterator[list[Logger]]:
    """Yield the loggers named in a configuration, and close them at the end.

    - tensorboard, csv: files in RUN/tensorboard and RUN/csv (RUN/csv_from_STEP after resuming)
    - wandb: the project softiou (or WANDB_PROJECT), files in RUN/wandb; the mode is WANDB_MODE
    - mlflow: the experiment softiou at MLFLOW_TRACKING_URI, by default RUN/mlflow.db
    """
    store = os.environ.get(_STORE)
    loggers = [_logger(name, config, run, step) for name in config.loggers]
    try:
        yield loggers
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish()  # or the next run of this process would log there, too
        if store is None:
            os.environ.pop(_STORE, None)  # set by mlflow; the next run would log there, too


def _logger(name: LoggerName, config: ResolvedConfig, run: Path, step: int) -> Logger:
    if name == "tensorboard":
        return TensorBoardLogger(run, name="", version="tensorboard", purge_step=step or None)
    if name == "csv":
        # Lightning's CSVLogger deletes existing files in its folder, so a resumed run has its own.
        return CSVLogger(run, name="", version=f"csv_from_{step}" if step else "csv")
    values = config.model_dump(mode="json")
    record = run / f"{name}_run.txt"  # the id of the logger's run, which a resumed run continues
    known = record.read_text(encoding="utf-8") if step and record.is_file() else None
    if name == "wandb":
        known = known or secrets.token_hex(4)
        if is_first():
            write_atomically(known.encode(), record)
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        return WandbLogger(name=run.name, id=known, project=project, save_dir=run, config=values)
    store = os.environ.get(_STORE) or f"sqlite:///{(run / 'mlflow.db').resolve()}"
    logger = MLFlowLogger(
        experiment_name=PROJECT, run_name=run.name, tracking_uri=store, run_id=known
    )
    if known is None and is_first():
        logger.log_hyperparams(values)
        write_atomically(str(logger.run_id).encode(), record)
    return logger
