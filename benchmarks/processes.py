"""Two processes with four images each against one with eight: how far apart their weights get.

    python -m benchmarks.processes

Each verb learns the embedded digits for 20 steps, with the optimiser, the rate and the schedule of
the recipes, and with every part of a batch that images have in common: mixing, views of dropped
features, aligned classes, correlations, an auxiliary head. Dropout of the network is off, since
processes draw it for themselves. The same in float64 tells a difference of the arithmetic from one
of the training; one process against itself, with another number of threads or with weights that
begin 1e-7 apart, tells how much of a difference the network makes of rounding.
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
IMAGES = 8  # of a step
CROP = "data.crop_px=[64, 64]"
TEACHER = "TEACHER"  # in place of its run

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
        name: Of its folder.
        settings: Those of a configuration, as text.
        exact: Whether it is in float64.
        smooth: Whether SiLU takes the place of ReLU.
        moved: How far apart the weights begin, relatively.
        threads: Of each process.
    """

    name: str
    settings: list[str]
    exact: bool = False
    smooth: bool = False
    moved: float = 0.0
    threads: int = 1


class Watch(Callback):
    """Changes the network as a case needs it, and keeps the weights of some steps."""

    def __init__(self, folder: Path, case: Case) -> None:
        self.folder, self.case = folder, case

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Switch dropout off, make a teacher as exact as the run, and bend no activation."""
        recipe: Any = pl_module
        trainer.limit_val_batches = 1  # nobody looks at it
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
    """Train all cases in this process, which may be one of several that share each batch."""
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
    """Write what `python -m benchmarks.processes DATA FOLDER` is to train."""
    folder.mkdir(parents=True)
    (folder / "cases.json").write_text(json.dumps([asdict(case) for case in cases]))


def train_by_two(data: str, cases: list[Case], folder: Path) -> None:
    """Train all cases in two processes."""
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
    """Return what both do: each verb, with the optimiser of the recipes and without magnifiers."""
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
    """Return the differences of every case by what is compared with one process of one thread."""
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
    """Measure and write the file, or be one of two processes."""
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
