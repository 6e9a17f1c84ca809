"""Run directories: created once, never overwritten, and found again to resume."""

from pathlib import Path
from typing import Any

from softiou.checkpoints import read_checkpoint
from softiou.configuration.files import load_config, save_config
from softiou.configuration.sections import Config
from softiou.errors import CheckpointError, ConfigError, RunExistsError


def new_run(config: Config, directory: Path, *, command: str) -> None:
    """Make a run directory and write the resolved configuration into it.

    Args:
        config: Resolved configuration.
        directory: Where.
        command: What started the run, for the first line of config.yaml.

    Raises:
        RunExistsError: The directory holds something already.
    """
    refuse_existing(directory)
    directory.mkdir(parents=True, exist_ok=True)
    save_config(config, directory / "config.yaml", header=command)


def refuse_existing(directory: Path) -> None:
    """Raise when a run would be written into something else.

    Raises:
        RunExistsError: The directory holds something already.
    """
    if directory.is_file() or (directory.is_dir() and any(directory.iterdir())):
        raise RunExistsError(
            f"{directory} already exists and is not empty; nothing was changed. Continue it with "
            f"`softiou {_verb(directory)} --resume {directory}`, or choose another directory with "
            "--run."
        )


def _verb(directory: Path) -> str:
    """Return the verb that resumes the run in a directory; train if its settings are unreadable."""
    try:
        return load_config(file=directory / "config.yaml").verb
    except ConfigError:
        return "train"


def config_of(directory: Path) -> Config:
    """Return the configuration of a run.

    Raises:
        CheckpointError: The directory holds no run.
    """
    try:
        return load_config(file=directory / "config.yaml")
    except ConfigError as error:
        raise CheckpointError(f"{directory} cannot be resumed: {error}") from error


def resumable(directory: Path) -> tuple[Config, Path | None, dict[str, Any]]:
    """Return the configuration of a run, its last checkpoint and what that holds.

    Without a checkpoint they are None and empty.

    Raises:
        CheckpointError: The directory holds no run, or the checkpoint is damaged.
    """
    config = config_of(directory)
    last = directory / "checkpoints" / "last.ckpt"
    if not last.is_file():
        return config, None, {}
    return config, last, read_checkpoint(last)


def next_free_run(name: str) -> Path:
    """Return the first of runs/NAME-001, runs/NAME-002, ... that does not exist."""
    number = 1
    while (directory := Path("runs") / f"{name}-{number:03d}").exists():
        number += 1
    return directory
