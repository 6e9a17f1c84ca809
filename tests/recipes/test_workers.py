"""Loading processes: what they lack is an error or fewer of them, and never a hang."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from softiou.errors import DataError
from softiou.training import workers
from softiou.training.workers import Loader

MEBIBYTE = 1 << 20
MORE_THAN_CORES = "ignore:This DataLoader will create:UserWarning"


class Blocks(Dataset[Any]):
    """Eight samples of a mebibyte; the third one may do something else first."""

    def __init__(self, third: Callable[[], object] = lambda: None) -> None:
        self.third = third

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == 2:
            self.third()
        return torch.full((MEBIBYTE,), index, dtype=torch.uint8)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(text: str) -> Callable[[], None]:
    def raise_it() -> None:
        raise RuntimeError(text)

    return raise_it


@pytest.fixture(autouse=True)
def _much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 64)


def loaded(loader: Loader) -> list[int]:
    return [int(batch[0]) for batch in loader]


def test_samples_come_in_order() -> None:
    for number in (0, 2):
        loader = Loader(Blocks(), batch_size=None, workers=number)
        assert (len(loader), loader.workers) == (8, number)
        assert loaded(loader) == list(range(8))


def test_a_batch_that_cannot_be_sent_is_an_error_at_once() -> None:
    class Unsendable(Blocks):
        def __getitem__(self, index: int) -> Any:
            return np.float64 if index < 2 else (lambda: index)  # which cannot be pickled

    with pytest.raises(Exception, match=r"[Pp]ickle"):
        list(Loader(Unsendable(), batch_size=None, workers=1))


@pytest.mark.parametrize(
    ("third", "message"),
    [
        (die, "a loading process was killed.*data.workers=0"),
        (
            fail("unable to allocate shared memory(shm) for file </x>: No space left on device"),
            "/dev/shm is full.*--shm-size",
        ),
        (fail("received 0 items of ancdata"), "too few file descriptors.*ulimit -n"),
    ],
)
def test_what_the_system_refuses_is_said(third: Callable[[], None], message: str) -> None:
    with pytest.raises(DataError, match=message):
        loaded(Loader(Blocks(third), batch_size=None, workers=1))


def test_a_lost_connection_ends_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch watches those that are left, and would raise an error of its own at any time."""
    receive: Any = _MultiProcessingDataLoaderIter._try_get_data
    started: list[Any] = []

    def broken(batches: Any, timeout: float = 5) -> Any:
        if batches._rcvd_idx < 2:
            return receive(batches, timeout)
        started.extend(batches._workers)
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(_MultiProcessingDataLoaderIter, "_try_get_data", broken)
    with pytest.raises(DataError, match="a loading process was killed") as kept:
        loaded(Loader(Blocks(), batch_size=None, workers=2))
    assert isinstance(kept.value.__cause__, ConnectionResetError)
    assert [process.is_alive() for process in started] == [False, False]


def test_errors_of_the_data_set_stay_what_they_are() -> None:
    for number in (0, 1):
        with pytest.raises(RuntimeError, match="my own"):
            loaded(Loader(Blocks(fail("my own")), batch_size=None, workers=number))


def test_a_batch_that_never_comes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_PATIENCE_S", 1)
    with pytest.raises(DataError, match="no batch has arrived for 1 s"):
        loaded(Loader(Blocks(lambda: time.sleep(20)), batch_size=None, workers=1))


@pytest.mark.filterwarnings(MORE_THAN_CORES)
@pytest.mark.parametrize(
    ("mebibytes", "batch_size", "number"),
    # Half of it, in batches: two for each process, and one in use.
    [(3000, None, 9), (64, None, 9), (38, None, 8), (64, 4, 3), (8, None, 1), (1, None, 0)],
)
def test_as_many_processes_as_shared_memory_has_room_for(
    mebibytes: int, batch_size: int | None, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_free_shared_memory", lambda: mebibytes * MEBIBYTE)
    said: list[str] = []
    loader = Loader(Blocks(), batch_size=batch_size, workers=9, say=said.append)
    assert loader.workers == number
    line = f"workers  {number} instead of 9: there are only {mebibytes} MiB in /dev/shm"
    assert said == ([] if number == 9 else [f"{line} (docker: --shm-size)"])


@pytest.mark.filterwarnings(MORE_THAN_CORES)
def test_as_many_processes_as_cores_and_descriptors_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(workers, "cores", lambda: 2)
    assert Loader(Blocks(), workers=1000, say=said.append).workers == 8
    monkeypatch.setattr(workers, "_free_descriptors", lambda: 112)
    assert Loader(Blocks(), workers=8, say=said.append).workers == 2
    monkeypatch.setattr(workers, "_free_descriptors", lambda: 20)
    assert Loader(Blocks(), workers=1, say=said.append).workers == 0
    assert said == [
        "workers  8 instead of 1000: there are only 2 cores",
        "workers  2 instead of 8: there are only 112 file descriptors (ulimit -n)",
        "workers  0 instead of 1: there are only 20 file descriptors (ulimit -n)",
    ]


def test_a_low_limit_of_descriptors_is_raised() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        free = workers._free_descriptors()
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert soft == min(4096, before[1])
    assert 0 < free < soft


LOAD = """
import os, time
from torch.utils.data import Dataset
from softiou.training.workers import Loader

class Slow(Dataset):
    def __len__(self):
        return 9
    def __getitem__(self, index):
        print(os.getpid(), flush=True)
        time.sleep(60)

next(iter(Loader(Slow(), batch_size=None, workers=1)))
"""


def test_loading_processes_end_with_their_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", LOAD], stdout=subprocess.PIPE, text=True) as main:
        assert main.stdout is not None
        worker = int(main.stdout.readline())
        main.kill()
        main.wait()
        status = Path(f"/proc/{worker}/status")
        for _ in range(50):
            if not status.exists() or "State:\tZ" in status.read_text():
                return
            time.sleep(0.02)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("The loading process lives on.")
