"""Run directories: made once, never overwritten, found again to resume."""

from pathlib import Path

from softiou.errors import CheckpointError, ConfigError, RunExistsError
from softiou.recipes.config import Config, load_config, save_config


def new_run(config: Config, directory: Path | None, *, command: str) -> Path:
    """Make a run directory and write the resolved configuration into it.

    Args:
        config: Resolved configuration.
        directory: Where; None for the next free `runs/NAME-001`, NAME being the data set's.
        command: What started the run, for the first line of config.yaml.

    Raises:
        RunExistsError: The directory holds something already.
    """
    if directory is None:
        directory = next_free_run(Path(config.data.source).resolve().name)
    elif directory.is_file() or (directory.is_dir() and any(directory.iterdir())):
        raise RunExistsError(
            f"{directory} already exists and is not empty; nothing was changed. Continue it with "
            f"`softiou train --resume {directory}`, or choose another directory with --run."
        )
    directory.mkdir(parents=True, exist_ok=True)
    save_config(config, directory / "config.yaml", header=command)
    return directory


def resumable(directory: Path) -> tuple[Config, Path | None]:
    """Return the configuration of a run and its last checkpoint, None when it has none yet.

    Raises:
        CheckpointError: The directory holds no run.
    """
    try:
        config = load_config(file=directory / "config.yaml")
    except ConfigError as error:
        raise CheckpointError(f"{directory} cannot be resumed: {error}") from error
    last = directory / "checkpoints" / "last.ckpt"
    return config, last if last.is_file() else None


def next_free_run(name: str) -> Path:
    """Return the first of runs/NAME-001, runs/NAME-002, ... that does not exist."""
    number = 1
    while (directory := Path("runs") / f"{name}-{number:03d}").exists():
        number += 1
    return directory
