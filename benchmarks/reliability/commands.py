"""Run commands of softiou in forked processes, which need not import anything."""

import os
import random
import resource
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from softiou.errors import SoftiouError

MOST_SECONDS = 60.0
TINY = [
    *("model.architecture=linknet", "model.encoder=tu-test_efficientnet"),
    *("model.encoder_weights=none", "data.crop_px=[32,32]", "data.batch_size=2"),
    *("data.scale=[1,1]", "data.colour=0", "optim.learning_rate=0.01", "precision=fp32"),
    *("loggers=[]", "data.workers=0"),
]


@dataclass
class Figure:
    """A row of the table: a property, the number of trials, and the failures."""

    name: str
    must: int
    tried: int = 0
    failures: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0  # including earlier runs of the program
    begun: float = field(default_factory=time.monotonic)

    def count(self, reason: str, kind: str = "") -> None:
        """Record a trial and its kind; the reason is empty if it succeeded."""
        self.tried += 1
        if kind:
            trials = self.details.setdefault("trials", {})
            trials[kind] = trials.get(kind, 0) + 1
        if reason:
            self.failures.append(reason[:600])
            print(f"  {self.name}: {reason[:600]}", flush=True)

    def as_dict(self) -> dict[str, Any]:
        """Return the content of the results file."""
        return {
            "figure": self.name,
            "must": self.must,
            "tried": self.tried,
            "passed": self.tried - len(self.failures),
            "failures": self.failures,
            "details": self.details,
            "seconds": round(self.seconds + time.monotonic() - self.begun, 1),
        }

    def go_on(self, stored: dict[str, Any]) -> None:
        """Add the counts of an earlier run of the program."""
        self.tried, self.failures = stored["tried"], stored["failures"]
        self.details, self.seconds = stored["details"], stored["seconds"]


Words = list[str] | Callable[[], object]


class Command:
    """`softiou WORDS`, or a function, in a new process group.

    Args:
        words: Arguments of the command line; or a function to call instead, whose errors are
            printed as on the command line.
        folder: The working directory.
        before: Called in the new process first, for instance to limit its resources.
    """

    def __init__(
        self, words: Words, folder: Path, before: Callable[[], None] = lambda: None
    ) -> None:
        self.words = words
        self.output = folder / f".output-{random.getrandbits(48):x}"
        self.begun = time.monotonic()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(folder, before)

    def _run(self, folder: Path, before: Callable[[], None]) -> None:
        status = 99
        try:
            os.setsid()
            os.chdir(folder)
            file = os.open(self.output, os.O_CREAT | os.O_WRONLY, 0o666)
            os.dup2(file, 1)
            os.dup2(file, 2)
            os.close(file)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            before()
            if callable(self.words):
                self.words()
                status = 0
            else:
                sys.argv = ["softiou", *self.words]
                from softiou.__main__ import main

                main()
        except (SoftiouError, TypeError, ValueError) as error:  # of a function
            status = 2
            print(error)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def wait(self, seconds: float = MOST_SECONDS * 4) -> int | None:
        """Return the exit status, negative for a signal; None after a time limit, and kill it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        self.kill()
        return None

    def kill(self) -> None:
        """Kill only the process, as the system does; its children must end by themselves."""
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass

    def text(self) -> str:
        """Return the output so far."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def said(self, words: str, seconds: float = MOST_SECONDS) -> bool:
        """Wait until the output contains some words; return whether it does."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if words in self.text():
                return True
            time.sleep(0.01)
        return False

    def __str__(self) -> str:
        if callable(self.words):
            return getattr(self.words, "__name__", "a function")
        return shlex.join(["softiou", *self.words])


def run(
    words: Words, folder: Path, before: Callable[[], None] = lambda: None
) -> tuple[int | None, str]:
    """Run a command to its end; return status and output."""
    command = Command(words, folder, before)
    status = command.wait()
    return status, command.text()


def must_run(words: list[str], folder: Path) -> None:
    """Run a command that must succeed.

    Raises:
        RuntimeError: The command failed.
    """
    status, text = run(words, folder)
    if status != 0:
        raise RuntimeError(f"{shlex.join(words)} ended with {status}:\n{text}")


def limit(kind: int, value: int) -> Callable[[], None]:
    """Return a function that limits a resource of the process."""
    return lambda: resource.setrlimit(kind, (value, value))


def mount(folder: Path, options: str) -> None:
    """Mount a file system in memory, or change the options of an existing one."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True)


def write_data(root: Path, sizes: dict[str, int], *, seed: int = 0) -> Path:
    """Write images of a red box on a dark background, 40 x 48 pixels, and their masks."""
    generator = np.random.default_rng(seed)
    for split, size in sizes.items():
        for index in range(size):
            image = generator.integers(0, 60, (40, 48, 3))
            mask = np.zeros((40, 48), np.uint8)
            top, left = generator.integers(0, 20, 2)
            mask[top : top + 18, left : left + 18] = 1
            image[mask == 1, 0] += 180
            for kind, pixels in (("images", image.astype(np.uint8)), ("masks", mask)):
                path = root / split / kind / f"{split}{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    text = yaml.safe_dump({"classes": ["ground", "box", "nothing"]})
    (root / "dataset.yaml").write_text(text, encoding="utf-8")
    return root


def import_all() -> None:
    """Import all modules that the commands need, before processes are forked."""
    torch.set_num_threads(1)
    for package in ("cli", "jobs", "evaluation", "reports", "data.layouts"):
        home = import_module(f"softiou.{package}")
        for module in iter_modules(home.__path__):
            import_module(f"softiou.{package}.{module.name}")
    for name in (
        *("softiou.training", "softiou.recipes", "softiou.exporting", "softiou.checking"),
        *("softiou.labelling", "softiou.comparison", "softiou.soft_labels", "softiou.calibration"),
        *("segmentation_models_pytorch", "timm", "matplotlib.pyplot", "blosc2", "rich.table"),
        *("matplotlib.backends.backend_svg", "safetensors.torch", "softiou.metrics.native"),
    ):
        import_module(name)
