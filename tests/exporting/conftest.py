"""A model in each format; tests must not write beside them."""

import pytest

from exporting.exported_models import draw, trained_model
from softiou.checkpoints import TrainedModel
from softiou.exporting import (
    FORMATS,
    SUFFIXES,
    Exported,
    Format,
    Report,
    export_model,
    open_exported,
)
from softiou.models import ModelSpec
from softiou.temperature import LogitScaling

Files = dict[Format, Report]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """A network of a hundred thousand weights, at stride 16, with a head for training alone."""
    spec = ModelSpec("deeplabv3plus", "tu-test_efficientnet", 3, auxiliary=True)
    return trained_model(draw(spec), tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def sharp() -> LogitScaling:
    """Makes the even probabilities of a random model differ, and changes masks."""
    return LogitScaling("vector", (30.0, 20.0, 40.0), (0.5, -0.5, 0.25))


@pytest.fixture(scope="session")
def files(
    small: TrainedModel, sharp: LogitScaling, tmp_path_factory: pytest.TempPathFactory
) -> Files:
    """The small model in each format, calibrated."""
    folder = tmp_path_factory.mktemp("files") / "new"
    return {
        to: export_model(small, folder / f"model{SUFFIXES[to]}", to=to, scaling=sharp)
        for to in FORMATS
    }


@pytest.fixture(scope="session")
def opened(files: Files) -> dict[Format, Exported]:
    """The files, ready to run in float32."""
    return {
        to: open_exported(report.path, precision="fp32", trust=True) for to, report in files.items()
    }
