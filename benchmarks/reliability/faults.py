"""Faults of disk and system: is the error clear, and is the result the same after the repair?

They need root, to mount file systems in memory; otherwise they are skipped.
"""

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.reliability.commands import TINY, Command, Figure, limit, mount, must_run, run
from benchmarks.reliability.comparing import difference_of_runs

_NEW_MOUNTS = 0x20000  # CLONE_NEWNS of sched.h
STEPS = ["optim.steps=16", "optim.validations=4", *TINY]
FOUR, EIGHT = "step      4/", "step      8/"  # lines after 4 and 8 steps
Fault = Callable[[Path, list[str]], tuple[str, list[str]]]


def try_faults(
    figure: Figure, work: Path, data: Path, names: Sequence[str], deadline: float
) -> None:
    """Cause each fault during a training, repair it, resume, and compare with a normal run."""
    try:
        _own_mounts()
    except (OSError, subprocess.CalledProcessError):
        figure.details = {"left_out": "needs root, and file systems of its own"}
        return
    reference = work / "untroubled"
    words = ["train", str(data), *STEPS]
    must_run([*words, "--out", str(reference)], work)
    for name in names[figure.tried :]:
        if time.monotonic() > deadline:
            break
        home = work / name.replace(" ", "-")
        home.mkdir()
        figure.count(_trial(name, FAULTS[name], home, words, reference), name)
        for folder in (home / "run", home):
            subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


def _trial(name: str, fault: Fault, home: Path, words: list[str], reference: Path) -> str:
    """Cause a fault, repair it and resume; return what is wrong."""
    text, expected = fault(home, [*words, "--out", str(home / "run")])
    missing = [one for one in expected if one not in text]
    if "Traceback" in text or "should not happen" in text or missing:
        return f"{name}: expected {missing} of {expected}, but got {text[-500:]}"
    status, text = run(["train", "--resume", str(home / "run")], home)
    wrong = text[-300:] if status else difference_of_runs(home / "run", reference)
    return f"{name}: after the cure {wrong}" if wrong else ""


def _own_mounts() -> None:
    """Create a mount namespace for this process."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True, capture_output=True)


def _begun(home: Path, words: list[str]) -> None:
    """Train for a while, and stop with Ctrl-C."""
    command = Command(words, home)
    command.said(FOUR)
    os.kill(command.pid, signal.SIGINT)
    command.wait()


def _resume(home: Path) -> list[str]:
    return ["train", "--resume", str(home / "run")]


def full_disk(home: Path, words: list[str]) -> tuple[str, list[str]]:
    """The disk fills between two checkpoints."""
    mount(home, "size=64m")
    command = Command(words, home)
    command.said(FOUR)
    filler = home / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1 << 20)):
            pass
    command.wait()
    text = command.text()
    filler.unlink()
    return text, ["No space left on device", str(home / "run"), "softiou train --resume"]


def quota(home: Path, words: list[str]) -> tuple[str, list[str]]:
    """The file size limit is below that of a checkpoint."""
    _, text = run(words, home, limit(resource.RLIMIT_FSIZE, 20_000))
    return text, ["File too large", ".ckpt", "softiou train --resume"]


def read_only(home: Path, words: list[str]) -> tuple[str, list[str]]:
    """The disk becomes read-only, as failing disks do."""
    mount(home / "run", "size=64m")
    _begun(home, words)
    mount(home / "run", "remount,ro,size=64m")
    _, text = run(_resume(home), home)
    mount(home / "run", "remount,rw,size=64m")
    return text, ["Read-only file system", str(home / "run"), "choose another path"]


def no_permission(home: Path, words: list[str]) -> tuple[str, list[str]]:
    """The run belongs to another user."""
    _begun(home, words)
    (home / "run").chmod(0o555)
    _, text = run(_resume(home), home, _obey_permissions)
    (home / "run").chmod(0o755)
    return text, ["Permission denied", str(home / "run"), "Change its permissions"]


def _obey_permissions() -> None:
    """Drop the capabilities that let root ignore permissions."""
    libc, header = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, twice
    libc.capget(header, sets)
    sets[0] &= ~0b1110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
    libc.capset(header, sets)


def small_shm(home: Path, words: list[str]) -> tuple[str, list[str]]:
    """The shared memory is smaller than two batches."""

    def shrink() -> None:
        _own_mounts()
        mount(Path("/dev/shm"), "size=16k")

    status, text = run([*words, "data.workers=2"], home, shrink)
    return f"{status} {text}", ["0 ", "workers  0 instead of 2", "/dev/shm"]


def shm_fills(home: Path, words: list[str]) -> tuple[str, list[str]]:
    """The shared memory is sufficient at the start, and full later."""

    def shrink() -> None:
        _own_mounts()
        mount(Path("/dev/shm"), "size=16m")
        if os.fork() == 0:  # in the same mounts
            while not any(home.glob("run/checkpoints/last.ckpt")):
                time.sleep(0.01)
            with suppress(OSError):
                Path("/dev/shm/filler").write_bytes(bytes(17 << 20))
            os._exit(0)

    _, text = run([*words, "data.workers=2"], home, shrink)
    return text, ["/dev/shm", "--shm-size"]  # an error, or fewer processes


def few_descriptors(home: Path, words: list[str]) -> tuple[str, list[str]]:
    """At most 24 files may be open."""
    status, text = run([*words, "data.workers=2"], home, limit(resource.RLIMIT_NOFILE, 24))
    return f"{status} {text}", ["0 ", "workers  0 instead of 2", "ulimit -n"]


def killed_worker(home: Path, words: list[str]) -> tuple[str, list[str]]:
    """The system kills a loading process."""
    command = Command([*words, "data.workers=1"], home)
    command.said("run   ")
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
    for _ in range(4000):
        workers = [pid for pid in children.read_text().split() if _loads(pid)]
        if workers:
            os.kill(int(workers[0]), signal.SIGKILL)
            break
        time.sleep(0.005)
    command.wait()
    return command.text(), ["a loading process was killed", "softiou train --resume"]


def _loads(pid: str) -> bool:
    """Return whether a process is a loading process."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith("pt_data_worker")
    except OSError:
        return False


def clock_jump(home: Path, words: list[str]) -> tuple[str, list[str]]:
    """The clock is set back by a year, and the process is killed."""
    real = time.time

    def back() -> None:
        time.time = lambda: real() - 3e7

    command = Command(words, home, back)
    command.said(EIGHT)
    command.kill()
    return command.text(), []


FAULTS: dict[str, Fault] = {
    "full disk": full_disk,
    "file too large": quota,
    "read-only": read_only,
    "no permission": no_permission,
    "tiny shm": small_shm,
    "shm fills": shm_fills,
    "few descriptors": few_descriptors,
    "killed worker": killed_worker,
    "clock jump": clock_jump,
}
