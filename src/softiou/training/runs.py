"""Create run directories, never overwrite them, and open them again to resume."""

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
    """Create and lock a run directory, and write the resolved configuration into it.

    Files left by a process that was killed before it wrote a configuration are removed.
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
    """Lock a run directory to resume it, and remove temporary files of killed processes."""
    config_of(directory)
    with only_writer(directory):
        remove_stale(directory)
        remove_stale(directory / "checkpoints")
        yield


def refuse_existing(directory: Path) -> None:
    """Raise a RunExistsError if the directory exists and is not empty."""
    hidden = (LOCK, ".tmp-")
    if directory.is_file() or (
        directory.is_dir() and not all(p.name.startswith(hidden) for p in directory.iterdir())
    ):
        raise RunExistsError(
            f"{directory} already exists and is not empty; nothing was changed. Resume it with "
            f"`softiou {_verb(directory)} --resume {directory}`, or choose another directory with "
            "--out."
        )


def _verb(directory: Path) -> str:
    """Return the command that resumes a run; "train" if its configuration cannot be read."""
    try:
        return load_config(file=directory / "config.yaml").verb
    except ConfigError:
        return "train"


def config_of(directory: Path) -> Config:
    """Return the configuration of a run.

    Raises:
        CheckpointError: The directory is not a run.
    """
    if not (directory / "config.yaml").exists():
        raise CheckpointError(
            f"{directory} cannot be resumed: it has no config.yaml, so it is not a run, or was "
            f"interrupted before the training began. Start it with --out {directory}."
        )
    try:
        return load_config(file=directory / "config.yaml")
    except ConfigError as error:
        raise CheckpointError(f"{directory} cannot be resumed: {error}") from error


def finished_at(directory: Path) -> int | None:
    """Return the last step of a run that is completely trained and evaluated; None otherwise."""
    config = config_of(directory)
    last = directory / ("comparison.json" if config.method else "evaluation.json")
    # A lock means that a process is working on the run, or was killed while writing its report.
    if (directory / LOCK).exists() or not last.is_file():
        return None
    return end_of_training(directory, config.optim)


def resumable(directory: Path) -> tuple[Config, Path | None, dict[str, Any]]:
    """Return the configuration of a run, its last checkpoint and the content of that checkpoint.

    If there is no checkpoint, these are None and an empty dictionary.
    """
    config = config_of(directory)
    last = directory / "checkpoints" / "last.ckpt"
    return (config, last, read_checkpoint(last)) if last.is_file() else (config, None, {})


def next_free_run(name: str) -> Path:
    """Create and return the first of runs/NAME-001, runs/NAME-002, ... that does not exist.

    Processes that call it at the same time get different directories.
    """
    Path("runs").mkdir(exist_ok=True)
    for number in count(1):
        directory = Path("runs") / f"{name}-{number:03d}"
        with suppress(FileExistsError):
            directory.mkdir()
            return directory
    raise RuntimeError("No free run directory.")
