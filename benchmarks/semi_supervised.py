"""Compare the time of a semi-supervised step with its parts, interleaved in one process.

    python -m benchmarks.semi_supervised DATA --split SPLIT

The parts are forward and backward of the labelled batch, the same of the unlabelled batch (with
random labels), and the forward pass of the teacher; the step should take at most 1.1 times their
sum.
Writes benchmarks/results/semi_supervised/cpu.json.
"""

import argparse
import json
from collections.abc import Callable
from datetime import date
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor

from benchmarks._machine import ROOT, current_commit, machine
from benchmarks.loss_measures import interleaved_seconds
from softiou._files import write_atomically
from softiou._memory import keep_freed_memory
from softiou.configuration import load_config
from softiou.data import (
    Augmentation,
    StrongColours,
    TrainingStream,
    UnlabeledStream,
    collate,
    open_dataset,
    open_unlabeled,
)
from softiou.inference import autocast
from softiou.recipes import SemiSupervisedRecipe
from softiou.training.resolving import resolve

RESULT = ROOT / "benchmarks" / "results" / "semi_supervised" / "cpu.json"
CROP_PX = (192, 256)
BATCH = 8
MODEL = (
    "model.architecture=deeplabv3plus",
    "model.encoder=mobilenet_v2",
    "model.encoder_weights=none",
    f"data.crop_px={list(CROP_PX)}",
    f"data.batch_size={BATCH}",
    "optim.steps=100",
    "precision=bf16",
)
METHODS = {
    "soft, 0.25 CE + 0.75 JML": ("semi_supervised.pseudo_labels=soft",),
    "hard, CE": ("semi_supervised.pseudo_labels=hard", "loss.cross_entropy=1"),
}


def main() -> None:
    """Measure every method and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data")
    parser.add_argument("--split", required=True)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    keep_freed_memory()  # as training does
    content = {
        "commit": current_commit(),
        "date": date.today().isoformat(),
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "model": "deeplabv3plus mobilenet_v2, bf16",
        "batches": f"{BATCH} labelled and {BATCH} unlabelled crops of {CROP_PX[0]}x{CROP_PX[1]}",
        "methods": {
            name: measure(options.data, options.split, settings, rounds=options.rounds)
            for name, settings in METHODS.items()
        },
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    write_atomically((json.dumps(content, indent=1) + "\n").encode(), RESULT)
    print(json.dumps(content["methods"], indent=1))


def measure(data: str, split: str, settings: tuple[str, ...], *, rounds: int) -> dict[str, Any]:
    """Return the seconds of the step and of its parts, and the ratio to their sum."""
    dataset = open_dataset(data, split)
    images = open_unlabeled(data, split)
    config = load_config(source=data, overrides=[*MODEL, *settings])
    config = resolve(config, dataset, unlabeled=len(images))
    if config.semi_supervised is None:
        raise RuntimeError("the settings have no section semi_supervised")
    torch.manual_seed(0)
    recipe = SemiSupervisedRecipe(config, dataset.description, encoder_weights="none")
    recipe.train()
    optimizer = torch.optim.AdamW(recipe.model.parameters(), lr=1e-4)
    augmentation = Augmentation(CROP_PX, scale=(0.5, 1.5))
    labelled = TrainingStream(dataset, augmentation, seed=0)
    unlabeled = UnlabeledStream(images, augmentation, StrongColours(), views=1, seed=0)
    batch: Any = {
        "labelled": collate([labelled[draw] for draw in range(BATCH)]),
        "unlabeled": collate([unlabeled[draw] for draw in range(BATCH)]),
    }

    def step() -> None:
        _backward(lambda: recipe.parts(batch)["loss"])
        optimizer.step()
        optimizer.zero_grad()
        recipe.teacher.update_parameters(recipe.model)

    def supervised(pictures: Tensor) -> Callable[[], None]:
        def part() -> None:
            target = batch["labelled"]["target"]
            _backward(lambda: recipe.loss(recipe.model(pictures), target))
            optimizer.zero_grad()

        return part

    parts = {
        "labelled": supervised(batch["labelled"]["image"]),
        "unlabelled": supervised(batch["unlabeled"]["strong"][:, 0]),
        "teacher": lambda: recipe._teacher_logits(batch["unlabeled"]["image"]),
    }
    seconds = interleaved_seconds({"step": step, **parts}, rounds=rounds, device="cpu")
    ratios = [
        whole / sum(others)
        for whole, *others in zip(seconds["step"], *(seconds[name] for name in parts), strict=True)
    ]
    low, _, high = quantiles(ratios, n=4)
    return {
        "seconds": {name: median(found) for name, found in seconds.items()},
        "ratio": {"median": median(ratios), "quartiles": [low, high]},
    }


def _backward(loss: Callable[[], Tensor]) -> None:
    with autocast(torch.device("cpu"), "bf16"):
        value = loss()
    value.backward()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
