"""Run directories: created once, never overwritten, and found again to resume."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from softiou._files import remove_stale
from softiou._lock import NAME as LOCK
from softiou._lock import only_writer
from softiou.checkpoints import end_of_training, read_checkpoint
from softiou.configuration.files import load_config, save_config
from softiou.configuration.sections import Config
from softiou.errors import CheckpointError, ConfigError, RunExistsError


@contextmanager
def new_run(config: Config, directory: Path, *, command: str) -> Iterator[None]:
    """Take a run directory, write the resolved configuration into it, and hold it.

    What a start has left that was killed before it wrote a configuration is removed.
    """
    refuse_existing(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with only_writer(directory):
        remove_stale(directory)
        refuse_existing(directory)
        save_config(config, directory / "config.yaml", header=command)
        yield


@contextmanager
def existing_run(directory: Path) -> Iterator[None]:
    """Hold a run directory to continue, and remove what killed processes have left in it."""
    config_of(directory)
    with only_writer(directory):
        remove_stale(directory)
        remove_stale(directory / "checkpoints")
        yield


def refuse_existing(directory: Path) -> None:
    """Raise when a run would be written into something else."""
    hidden = (LOCK, ".tmp-")
    if directory.is_file() or (
        directory.is_dir() and not all(p.name.startswith(hidden) for p in directory.iterdir())
    ):
        raise RunExistsError(
            f"{directory} already exists and is not empty; nothing was changed. Continue it with "
            f"`softiou {_verb(directory)} --resume {directory}`, or choose another directory with "
            "--out."
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
    if not (directory / "config.yaml").exists():
        raise CheckpointError(
            f"{directory} cannot be resumed: it has no config.yaml, so that it is no run, or was "
            f"interrupted before the training began. Start it with --out {directory}."
        )
    try:
        return load_config(file=directory / "config.yaml")
    except ConfigError as error:
        raise CheckpointError(f"{directory} cannot be resumed: {error}") from error


def finished_at(directory: Path) -> int | None:
    """Return the last step of a run that is trained, evaluated and let go of; None for others."""
    config = config_of(directory)
    last = directory / ("comparison.json" if config.method else "evaluation.json")
    # The lock is of a process that works on it, or was killed at its report.
    if (directory / LOCK).exists() or not last.is_file():
        return None
    return end_of_training(directory, config.optim)


def resumable(directory: Path) -> tuple[Config, Path | None, dict[str, Any]]:
    """Return the configuration of a run, its last checkpoint and what that holds.

    Without a checkpoint they are None and empty.
    """
    config = config_of(directory)
    last = directory / "checkpoints" / "last.ckpt"
    return (config, last, read_checkpoint(last)) if last.is_file() else (config, None, {})


def next_free_run(name: str) -> Path:
    """Make the first of runs/NAME-001, runs/NAME-002, ... that does not exist, and return it.

    Of several processes that ask at the same time each gets a directory of its own.
    """
    Path("runs").mkdir(exist_ok=True)
    for number in count(1):
        directory = Path("runs") / f"{name}-{number:03d}"
        with suppress(FileExistsError):
            directory.mkdir()
            return directory
    raise RuntimeError("The numbers have come to an end.")
