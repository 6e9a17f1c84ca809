"""Trained models on disk: run directories, checkpoints and exported files."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from softiou.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn

    from softiou.checkpoints import TrainedModel, Weights
    from softiou.configuration import Config
    from softiou.evaluation import EvaluationResult

RunLike: TypeAlias = "Trained | Path | str"


class Trained:
    """A run directory, checkpoint or exported file that is read on first use; see `Run`."""

    def __init__(self, path: Path | str, model: "nn.Module | None" = None) -> None:
        self.path = Path(path)
        self.model = model
        self.evaluation: EvaluationResult | None = None
        self._read: dict[tuple[Path, int, str], TrainedModel] = {}

    @property
    def directory(self) -> Path | None:
        """The run directory; None for an exported file or a checkpoint outside a run directory."""
        from softiou.checkpoints import run_directory

        if not self.path.is_dir():
            return run_directory(self.path)
        return self.path if (self.path / "config.yaml").is_file() else None

    @property
    def config(self) -> "Config":
        """The settings of the run; raises CheckpointError if there is no run directory."""
        from softiou.configuration import load_config

        return load_config(file=self.require_directory() / "config.yaml")

    def require_directory(self) -> Path:
        """Return the run directory; raise CheckpointError if there is none."""
        if self.directory is None:
            raise CheckpointError(f"{self.path} is not in a run directory, which is required.")
        return self.directory

    def load_model(self, weights: "Weights" = "student") -> "TrainedModel":
        """Return the model; it is cached until the checkpoint changes."""
        from softiou.checkpoints import find_checkpoint, load_trained
        from softiou.exporting import is_exported

        if is_exported(self.path):
            raise CheckpointError(
                f"{self.path} is an exported file, which can only predict. Use the run or "
                "checkpoint that it was exported from."
            )
        file = find_checkpoint(self.path)
        key = (file, file.stat().st_mtime_ns, weights)
        if key not in self._read:
            self._read = {key: load_trained(file, weights=weights, model=self.model)}
        return self._read[key]


def as_trained(run: RunLike) -> Trained:
    """Return a `Trained` as it is, and open a path as one."""
    return run if isinstance(run, Trained) else Trained(run)
