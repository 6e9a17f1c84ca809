"""How commands end: a message and a way out, a status, and never a traceback."""

import errno
import os
import re
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

from softiou import _signals, jobs
from softiou.errors import DataError
from softiou.training.workers import Loader

Run = Callable[..., Any]  # see conftest.py


@pytest.fixture(autouse=True)
def _handlers() -> Any:
    before = [signal.getsignal(number) for number in _signals.STOPPING]
    yield
    for number, handler in zip(_signals.STOPPING, before, strict=True):
        signal.signal(number, handler)
    _signals._received.clear()


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(jobs, "check", fail, raising=False)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space", "a/b"), "a/b: No space. Free space on the disk, or "),
        (
            OSError(errno.EROFS, "Read-only", "a"),
            "a: Read-only. Nothing can be written there: choose another path",
        ),
        (PermissionError(errno.EACCES, "Denied", "a"), "a: Denied. Change its permissions"),
        (OSError(errno.EMFILE, "Too many"), "Too many. Raise the limit of open files.*ulimit -n"),
        (OSError(errno.ELOOP, "Loop", "a"), "a: Loop. It is a symbolic link that leads back"),
        (RuntimeError("Symlink loop from 'a'"), "Symlink loop from 'a'. It is a symbolic link"),
        (OSError("plain"), "plain"),
        (MemoryError("17 GiB"), "Out of memory. 17 GiB"),
        (KeyError("x"), "KeyError: 'x'\nThis should not happen. Run the same .* --debug to see"),
    ],
)
def test_errors_are_messages(
    error: Exception, message: str, softiou: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(error, monkeypatch)
    result = softiou("check", "here")
    result.assert_refused()
    assert re.match(f"softiou: {message}", result.err), result.err


def test_notes_say_how_to_go_on(softiou: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    error = DataError("What is wrong.")
    error.add_note("Continue so.")
    fail_with(error, monkeypatch)
    softiou("check", "here").assert_refused("softiou: What is wrong.\nContinue so.\n")


@pytest.mark.parametrize("words", [("--debug", "check", "here"), ("check", "here", "--debug")])
def test_debug_shows_the_traceback(
    words: tuple[str, ...], softiou: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(ZeroDivisionError("here"), monkeypatch)
    with pytest.raises(ZeroDivisionError):
        softiou(*words)


@pytest.mark.parametrize("number", _signals.STOPPING)
@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("check", ("check", "here")),
        ("compare", ("compare", "a", "b")),
        ("export", ("export", "a", "--to", "onnx")),
        ("label", ("label", "here", "--teacher", "a", "--out", "b")),
        ("load", ("evaluate", "a")),
        ("predict", ("predict", "a", "b")),
    ],
)
def test_signals_end_every_verb_with_a_word_and_a_status(
    number: int, job: str, words: tuple[str, ...], softiou: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)

    monkeypatch.setattr(jobs, job, interrupted, raising=False)
    result = softiou(*words)
    assert result.status == 128 + number
    assert result.err.startswith("softiou: interrupted")
    assert ("SIGTERM" in result.err) == (number == signal.SIGTERM)


def test_a_signal_that_is_swallowed_still_ends_the_command(
    softiou: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swallow() -> None:
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)

    def load_samples(*_: object, **__: object) -> None:
        seen = []
        for sample in Loader(TensorDataset(torch.zeros(3)), batch_size=None, workers=0):
            seen.append(sample)
            swallow()
        pytest.fail(f"It went on for {len(seen)} samples.")

    monkeypatch.setattr(jobs, "check", load_samples, raising=False)
    assert softiou("check", "here").status == 130

    def swallowed_in_the_end(*_: object, **__: object) -> None:
        swallow()

    monkeypatch.setattr(jobs, "export", swallowed_in_the_end, raising=False)
    result = softiou("export", "a", "--to", "onnx")
    assert result.status == 130
    assert result.err.startswith("softiou: interrupted;")
