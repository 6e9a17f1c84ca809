"""Lightning's loggers by name, for the setting `loggers`."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import Logger

from softiou.configuration.resolved import ResolvedConfig
from softiou.configuration.sections import LoggerName
from softiou.errors import ConfigError

PROJECT = "softiou"
_PACKAGES: dict[LoggerName, str] = {"wandb": "wandb", "mlflow": "mlflow"}


def check_installed(names: Sequence[LoggerName]) -> None:
    """Raise when the package of a logger is not installed.

    Raises:
        ConfigError: Names the package, and how to install it.
    """
    for name in names:
        package = _PACKAGES.get(name)
        if package is not None and find_spec(package) is None:
            raise ConfigError(
                f"loggers: {name} needs the package {package}, which is not installed: "
                f"pip install {package}. Or leave it out of `loggers`."
            )


@contextmanager
def named_loggers(config: ResolvedConfig, run: Path, *, step: int) -> Iterator[list[Logger]]:
    """Yield the loggers that a configuration names, and close them in the end.

    - tensorboard, csv: files in RUN/tensorboard and RUN/csv (RUN/csv_from_STEP after a resumption)
    - wandb: the project softiou (or WANDB_PROJECT), files in RUN/wandb; the mode is WANDB_MODE
    - mlflow: the experiment softiou at MLFLOW_TRACKING_URI, by default RUN/mlflow.db

    Args:
        config: Logged as hyperparameters, too.
        run: The run directory.
        step: At which a run resumes; 0 for a new one.
    """
    loggers = [_logger(name, config, run, step) for name in config.loggers]
    try:
        yield loggers
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish()  # or the next run of this process would go there, too


def _logger(name: LoggerName, config: ResolvedConfig, run: Path, step: int) -> Logger:
    if name == "tensorboard":
        return TensorBoardLogger(run, name="", version="tensorboard", purge_step=step or None)
    if name == "csv":
        # Lightning's CSVLogger deletes what a folder holds already.
        return CSVLogger(run, name="", version=f"csv_from_{step}" if step else "csv")
    values = config.model_dump(mode="json")
    if name == "wandb":
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        return WandbLogger(name=run.name, project=project, save_dir=run, config=values)
    store = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(run / 'mlflow.db').resolve()}"
    logger = MLFlowLogger(experiment_name=PROJECT, run_name=run.name, tracking_uri=store)
    logger.log_hyperparams(values)
    return logger
