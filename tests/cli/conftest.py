"""The command line in this process, and a run to use it on."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from softiou import _screen
from softiou.cli import main


@dataclass(frozen=True)
class Result:
    """What a command ended with and printed."""

    status: int | str | None
    out: str
    err: str

    def assert_refused(self, *parts: str) -> None:
        """One clean message on stderr, nothing on stdout, status 2."""
        assert self.status == 2
        assert self.out == ""
        assert self.err.startswith("softiou: ")
        assert "Traceback" not in self.err
        for part in parts:
            assert part in self.err


@pytest.fixture
def softiou(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Result]:
    """Return a function that runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["softiou", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        _screen.set_verbosity(0)  # of this process, which other tests share
        streams = capsys.readouterr()
        return Result(stop.value.code, streams.out, streams.err)

    return run


@pytest.fixture
def run_copy(trained: Any, tmp_path: Path) -> Path:
    """A trained run that a test may write into."""
    return Path(shutil.copytree(trained.directory, tmp_path / "run"))
