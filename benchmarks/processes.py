"""Compare the weights after training with two processes (2 x 4 images) and one (8 images).

    python -m benchmarks.processes

Each training method runs for 20 steps on the embedded digits, with the optimiser, learning rate and
schedule of the recipes, and with everything that combines the images of a batch: mixing, dropped
features, class alignment, correlations, an auxiliary head. Dropout is off, because each process has
its own random numbers. Running in float64 separates rounding errors from other differences. One
process compared with itself, with another number of threads or with initial weights changed by
1e-7, shows how much the network amplifies rounding errors.
Writes benchmarks/results/processes/cpu.json.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from benchmarks._machine import PATHS, ROOT, measured_on, save
from softiou._processes import world_size
from softiou.configuration import load_config
from softiou.training import CustomParts, fitting, start_training

RESULT = ROOT / "benchmarks" / "results" / "processes" / "cpu.json"
STEPS, SHOWN = 20, (1, 2, 5, 10, 20)
IMAGES = 8  # per step
CROP = "data.crop_px=[64, 64]"
TEACHER = "TEACHER"  # placeholder for its run directory

BASE = ("model.encoder_weights=none", "optim.validations=1", "data.workers=0", "precision=fp32")
MIXED = ("cut_mix=0.5", "class_mix=0.5", "align=0.5")
VERBS = {
    "train": ("labels.kind=boundary", "loss.auxiliary=0.4"),
    "distill": (
        f"distillation.teacher={TEACHER}",
        "distillation.unlabeled=true",
        "distillation.strong=all",
        "distillation.channel_wise=3",
        "distillation.correlation=1",
        *(f"distillation.{setting}" for setting in MIXED),
    ),
    "semi": (
        "semi_supervised.views=2",
        "semi_supervised.feature_dropout=0.5",
        *(f"semi_supervised.{setting}" for setting in MIXED),
    ),
}


@dataclass(frozen=True)
class Case:
    """A training that one process, or several together, can do.

    Attributes:
        name: Name of its folder.
        settings: Settings of the configuration as text.
        exact: Whether to use float64.
        smooth: Whether to replace ReLU by SiLU.
        moved: Relative change of the initial weights.
        threads: Threads per process.
    """

    name: str
    settings: list[str]
    exact: bool = False
    smooth: bool = False
    moved: float = 0.0
    threads: int = 1


class Watch(Callback):
    """Modifies the network for a case, and saves the weights after some steps."""

    def __init__(self, folder: Path, case: Case) -> None:
        self.folder, self.case = folder, case

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Disable dropout, and apply precision and activation of the case."""
        recipe: Any = pl_module
        trainer.limit_val_batches = 1  # its result is not used
        for module in list(recipe.modules()):
            if isinstance(module, _DropoutNd):
                module.p = 0.0
            for name, child in module.named_children():
                if self.case.smooth and isinstance(child, nn.ReLU | nn.ReLU6):
                    setattr(module, name, nn.SiLU())
        teacher = getattr(getattr(recipe, "teacher", None), "model", None)
        if self.case.exact and isinstance(teacher, nn.Module):
            teacher.double()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weights in recipe.model.parameters():
                draws = torch.randn(weights.shape, generator=generator).to(weights.dtype)
                weights.mul_(1 + self.case.moved * draws)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Write the weights and buffers of the network."""
        if trainer.is_global_zero and trainer.global_step in SHOWN:
            weights = {name: x.double() for name, x in pl_module.model.state_dict().items()}
            torch.save(weights, self.folder / f"{trainer.global_step}.pt")


def train(data: str, cases: list[Case], folder: Path) -> None:
    """Train all cases in this process, which may be one of several."""
    for case in cases:
        fitting._PRECISIONS["fp32"] = "64-true" if case.exact else "32-true"  # type: ignore[assignment]
        torch.set_num_threads(case.threads)
        settings = [*case.settings, f"data.batch_size={IMAGES // world_size()}"]
        own = folder / case.name
        own.mkdir(parents=True, exist_ok=True)
        start_training(
            load_config(source=data, overrides=settings),
            directory=own / "run",
            custom=CustomParts(callbacks=[Watch(own, case)]),
        )
    fitting._PRECISIONS["fp32"] = "32-true"


def write_cases(cases: list[Case], folder: Path) -> None:
    """Write the cases that `python -m benchmarks.processes DATA FOLDER` trains."""
    folder.mkdir(parents=True)
    (folder / "cases.json").write_text(json.dumps([asdict(case) for case in cases]))


def train_by_two(data: str, cases: list[Case], folder: Path) -> None:
    """Train all cases with two processes."""
    write_cases(cases, folder)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "benchmarks.processes", data, str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": PATHS}
    environment |= {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)


def differences(one: Path, other: Path) -> dict[int, float]:
    """Return the largest difference of weights and buffers after some steps."""
    found = {}
    for step in SHOWN:
        if (one / f"{step}.pt").exists():
            first, second = (torch.load(run / f"{step}.pt") for run in (one, other))
            pairs = [(x, second[name]) for name, x in first.items()]
            found[step] = max(float((x - y).abs().max()) for x, y in pairs)
    return found


def cases_of(teacher: Path) -> list[Case]:
    """Return the cases: each training method, with several optimisers and activations."""
    cases = []
    for verb, own in VERBS.items():
        settings = [one.replace(TEACHER, str(teacher)) for one in (*BASE, *own)]
        settings += [CROP, f"optim.steps={STEPS}"]
        settings += ["data.train_split=1_16"] if verb != "train" else []
        cases += [
            Case(f"{verb}, adamw, float32", settings),
            Case(f"{verb}, adamw, float64", settings, exact=True),
            Case(f"{verb}, sgd, float32", [*settings, "optim.optimizer=sgd"]),
            Case(f"{verb}, sgd, SiLU, float32", [*settings, "optim.optimizer=sgd"], smooth=True),
        ]
    return cases


def measure(work: Path) -> dict[str, Any]:
    """Return the differences of every case from one process with one thread."""
    train("digits", [Case("teacher", [*BASE, CROP, f"optim.steps={STEPS}"])], work)
    cases = cases_of(work / "teacher" / "run")
    rounded = [case for case in cases if case.name.endswith("adamw, float32")]
    moved = [replace(case, name=f"{case.name}, moved", moved=1e-7) for case in rounded]
    threads = [replace(case, name=f"{case.name}, threads", threads=2) for case in rounded]
    with ThreadPoolExecutor() as others:
        together = others.submit(train_by_two, "digits", cases, work / "two")
        train("digits", [*cases, *moved, *threads], work)
        together.result()
    compared: dict[str, Callable[[str], Path]] = {
        "two processes": lambda name: work / "two" / name,
        "one process, two threads": lambda name: work / f"{name}, threads",
        "one process, weights 1e-7 apart": lambda name: work / f"{name}, moved",
    }
    return {
        case.name: {
            key: differences(work / case.name, place(case.name))
            for key, place in compared.items()
            if place(case.name).exists()
        }
        for case in cases
    }


def main() -> None:
    """Measure and write the file, or run as one of two processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", nargs="?")
    parser.add_argument("folder", nargs="?", type=Path)
    options = parser.parse_args()
    if options.folder:
        cases = json.loads((options.folder / "cases.json").read_text())
        train(options.data, [Case(**case) for case in cases], options.folder)
        return
    with TemporaryDirectory() as work:
        results = measure(Path(work))
    content = {
        **measured_on(),
        "images": IMAGES,
        "steps": STEPS,
        "largest_difference_after_steps": results,
    }
    save(RESULT, content)


if __name__ == "__main__":
    main()
