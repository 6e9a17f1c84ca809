"""Data loading processes that do not hang, are not too many, and have clear errors."""

import multiprocessing.queues
import os
import pickle
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader, Dataset

from softiou._processes import cores, end_with_parent
from softiou._signals import raise_if_received
from softiou.errors import DataError

SHARED = Path("/dev", "shm")
_PLENTY = 4 << 30  # bytes of free shared memory that are enough for any number of processes
_PER_PROCESS, _OTHERS = 24, 64  # open file descriptors of a loading process, and of all else
_PER_CORE = 4  # most loading processes for each core
_PATIENCE_S = 600  # time limit for one batch
_LOST = (EOFError, ConnectionError, FileNotFoundError)  # errors of a connection to a dead process


class Loader:
    """A `torch.utils.data.DataLoader` that checks its resources.

    If a process dies, or shared memory or file descriptors run out, it raises a DataError with a
    solution; in some of these cases the DataLoader of torch waits forever. If shared memory, file
    descriptors or cores are not sufficient for `workers` processes, it starts fewer and prints a
    line. `settings` are arguments of the DataLoader.
    """

    def __init__(
        self,
        samples: Dataset[Any],
        *,
        workers: int,
        say: Callable[[str], None] = lambda line: None,
        **settings: Any,
    ) -> None:
        self.workers = workers
        self._samples, self._settings, self._say = samples, settings, say
        self._settle()

    def __len__(self) -> int:
        return len(DataLoader(self._samples, **self._settings))

    def __iter__(self) -> Iterator[Any]:
        self._settle()
        batches: Any = None
        try:
            loader: DataLoader[Any] = DataLoader(
                self._samples,
                num_workers=self.workers,
                worker_init_fn=_start,
                timeout=_PATIENCE_S if self.workers else 0,
                **self._settings,
            )
            batches = iter(loader)
            for batch in batches:
                raise_if_received()
                yield batch
        except (RuntimeError, OSError, EOFError) as error:
            if self.workers and (clear := loading_error(error)):
                if batches is not None:  # otherwise torch reports the dead process again later
                    with suppress(RuntimeError):
                        batches._shutdown_workers()
                raise clear from error
            raise

    def _settle(self) -> None:
        """Lower the number of processes to what the current resources allow."""
        if self.workers:
            self.workers = _affordable(self.workers, self._samples, self._settings, self._say)


def loading_error(error: Exception) -> DataError | None:
    """Return a DataError for a failure of the loading processes; None for any other error."""
    if not (reason := _reason(error)):
        return None
    return DataError(
        f"Loading failed: {reason} Fewer loading processes need fewer resources: data.workers=0 in "
        "training, or workers=0 in softiou label, uses none."
    )


def _reason(error: Exception) -> str:
    """Return what went wrong in the loading processes; "" for any other error."""
    text = str(error)
    ours = not text.startswith("Caught ")  # errors raised by the data set begin with it
    if "No space left on device" in text and ("shared memory" in text or ours):
        return f"the shared memory {SHARED} is full. Enlarge it (docker: --shm-size=8g)."
    if "Too many open files" in text or "ancdata" in text:
        return "there are too few file descriptors. Raise the limit (ulimit -n 4096)."
    if (ours and isinstance(error, _LOST)) or re.search(
        "DataLoader worker.*(exited|killed by signal)", text
    ):
        return "a loading process was killed, as the system does when the memory is exhausted."
    if "timed out after" in text:
        return f"no batch has arrived for {_PATIENCE_S} s. Check the disk of the data set."
    return ""


def _affordable(
    workers: int, samples: Dataset[Any], settings: dict[str, Any], say: Callable[[str], None]
) -> int:
    """Return the number of loading processes that the resources allow, at most `workers`."""
    bounds = {f"{cores()} cores": _PER_CORE * cores()}
    free = _free_descriptors()
    bounds[f"{free} file descriptors (ulimit -n)"] = max(0, free - _OTHERS) // _PER_PROCESS
    room = _free_shared_memory()
    if room < _PLENTY:
        first = next(iter(settings.get("sampler") or (0,)))
        batch = len(pickle.dumps(samples[first])) * (settings.get("batch_size") or 1)
        # Each process prepares two batches, and one is in use; half of the memory is left free.
        bounds[f"{room >> 20} MiB in {SHARED} (docker: --shm-size)"] = (room // 2 // batch - 1) // 2
    reason = min(bounds, key=lambda name: bounds[name])
    if workers <= bounds[reason]:
        return workers
    fewer = max(0, bounds[reason])
    say(f"workers  {fewer} instead of {workers}: there are only {reason}")
    return fewer


def _free_shared_memory() -> int:
    """Return the free bytes of shared memory; a large number if unknown."""
    try:
        space = os.statvfs(SHARED)
    except (OSError, AttributeError):  # macOS, Windows
        return _PLENTY
    return space.f_bavail * space.f_frsize


def _free_descriptors() -> int:
    """Raise the limit of open files (up to 4096), and return how many more can be opened."""
    if os.name == "nt":
        return _PLENTY
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < min(hard, 4096):
        soft = min(hard, 4096)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    used = Path("/proc/self/fd")
    return soft - (len(list(used.iterdir())) if used.is_dir() else 0)


def _start(worker: int) -> None:
    """Set up a loading process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is sent to these processes, too
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent()
    # By default a batch that cannot be sent is dropped, and the main process waits forever.
    queue: Any = multiprocessing.queues.Queue
    queue._on_queue_feeder_error = _send_error


def _send_error(queue: Any, error: Exception, batch: Any) -> None:
    """Send the error that is being handled instead of the batch."""
    wrapper: Any = ExceptionWrapper
    queue.put((batch[0], wrapper(where="in DataLoader worker process")))
