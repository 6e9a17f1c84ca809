"""Measure stored soft labels and training steps of distillation; one JSON file per machine.

    python -m benchmarks.distillation shared/data/camvid --teacher RUN

Store: bytes per pixel, the error of the stored probabilities, and the time to read a random crop.
Steps: forward, backward and update of a student, in interleaved rounds, with hard and smoothed
labels, with a teacher network and with stored soft labels.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor

from benchmarks._machine import ROOT, measured_on, save
from benchmarks.loss_measures import interleaved_seconds
from softiou.checkpoints import TrainedModel, load_trained
from softiou.configuration import load_config
from softiou.configuration.resolved import ResolvedConfig
from softiou.data import (
    Augmentation,
    Batch,
    ImageDataset,
    ImageSample,
    SegmentationDataset,
    View,
    collate,
    open_dataset,
    open_images,
)
from softiou.inference import autocast
from softiou.labelling import cell_probs, label, logits_stride, make_manifest
from softiou.metrics import SoftScores
from softiou.models import ModelSpec, SegmentationModel
from softiou.recipes import DistillationRecipe, SupervisedRecipe
from softiou.recipes.base import Recipe
from softiou.soft_labels import Quantisation, SoftLabelReader, SoftLabelStore
from softiou.targets import Target, sparse, teacher, to_probs
from softiou.training.resolving import resolve

RESULTS = ROOT / "benchmarks" / "results" / "distillation"
READ_PX = (240, 320)
# A teacher of twice the student's cost, to measure time; its predictions do not matter.
TIMED_TEACHER = ("deeplabv3plus", "resnet34")
STUDENT_MODEL = ("fpn", "tu-regnetx_002")
STUDENT = [
    f"model.architecture={STUDENT_MODEL[0]}",
    f"model.encoder={STUDENT_MODEL[1]}",
    "model.encoder_weights=none",
    "data.crop_px=[192, 256]",
    "data.scale=[0.5, 1.5]",
    "data.batch_size=8",
    "precision=bf16",
]


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", help="data set folder")
    parser.add_argument("--teacher", type=Path, required=True, help="run directory or checkpoint")
    parser.add_argument("--images", type=int, default=50, help="images in the store, evenly spread")
    parser.add_argument("--rounds", type=int, default=15, help="of the steps")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--name", default="cpu", help="of the results file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    trained = load_trained(options.teacher)
    images, _ = open_images(options.data, "train")
    numbers = range(0, len(images), max(1, len(images) // options.images))
    stride = logits_stride(trained.model)
    with tempfile.TemporaryDirectory() as folder:
        kept = (Quantisation(), Quantisation(stride), Quantisation(stride, mass=0.93, levels=32))
        stores = [
            _label(trained, images, numbers, Path(folder) / str(number), quantisation)
            for number, quantisation in enumerate(kept)
        ]
        content = {
            **measured_on(),
            "threads": options.threads,
            "data": Path(options.data).name,
            "images": len(numbers),
            "store": [measure_store(store, trained.model, images, numbers) for store in stores],
            "steps": measure_steps(options.data, trained, stores[1], rounds=options.rounds),
        }
    save(RESULTS / f"{options.name}.json", content)
    print(json.dumps(content, indent=1))


def _label(
    trained: TrainedModel,
    images: ImageDataset,
    numbers: range,
    path: Path,
    quantisation: Quantisation,
) -> SoftLabelStore:
    manifest = make_manifest(trained, quantisation, data="benchmark")
    store = SoftLabelStore.create(path, manifest)
    samples = [images[number] for number in numbers]
    for _ in label(trained.model, samples, store, folder="train", precision="fp32"):
        pass
    return store


def measure_store(
    store: SoftLabelStore, model: SegmentationModel, images: ImageDataset, numbers: range
) -> dict[str, Any]:
    """Return size, accuracy and reading time of a store."""
    reader = SoftLabelReader(store, "train")
    num_classes = len(store.manifest.classes)
    nearness = SoftScores(num_classes)
    pixels, seconds = 0, []
    chance = random.Random(0)
    for number in numbers:
        sample = images[number]
        height, width = (int(side) for side in sample["image"].shape[-2:])
        pixels += height * width
        whole = View(0, 0, height, width, (height, width))
        stored = _probs(reader, sample, whole, num_classes)
        exact = cell_probs(model, sample["image"], stride=1, precision="fp32").unsqueeze(0)
        nearness.update(exact, stored)
        top = chance.randint(0, height - READ_PX[0])
        left = chance.randint(0, width - READ_PX[1])
        crop = View(top, left, *READ_PX, READ_PX, flip=chance.random() < 0.5)
        start = time.perf_counter()
        reader.read(sample["stem"], crop, sample["image"])
        seconds.append(time.perf_counter() - start)
    scores = nearness.compute()
    return asdict(store.manifest.quantisation) | {
        "bytes_per_pixel": store.size_bytes("train") / pixels,
        "dense_fp16_bytes_per_pixel": 2 * num_classes,
        "soft_iou": 100 * float(scores["soft_iou_d"]),
        "soft_iou_per_image": 100 * float(scores["soft_iou_i"]),
        "read_crop_px": READ_PX,
        "read_ms_median": 1000 * median(seconds),
        "read_ms_quartiles": [1000 * q for q in quantiles(seconds, n=4)[::2]],
    }


def _probs(reader: SoftLabelReader, sample: ImageSample, view: View, num_classes: int) -> Tensor:
    """Return the soft labels of a crop as probabilities (1, C, h, w)."""
    read = reader.read(sample["stem"], view, sample["image"])
    if "soft_logits" in read:
        target: Target = teacher(read["soft_logits"].unsqueeze(0), size=view.crop_px)
    else:
        target = sparse(read["soft_indices"].unsqueeze(0), read["soft_weights"].unsqueeze(0))
    return to_probs(target, num_classes=num_classes)[0]


@dataclass(frozen=True)
class Way:
    """A way to train the student: settings, and whether batches contain soft labels."""

    settings: tuple[str, ...] = ()
    stored: bool = False


def measure_steps(
    data: str, trained: TrainedModel, store: SoftLabelStore, *, rounds: int
) -> dict[str, Any]:
    """Return the seconds per step of each way, and the ratios of pairs of ways."""
    dataset = open_dataset(data, "train")
    num_classes = len(trained.description.classes)
    teacher = SegmentationModel(ModelSpec(*TIMED_TEACHER, num_classes)).eval()
    named = "distillation.teacher=benchmark"
    ways = {
        "hard": Way(),
        "boundary": Way(("labels=boundary",)),
        "gaussian": Way(("labels=gaussian",)),
        "uniform": Way(("labels=uniform",)),
        "online": Way((named, "distillation.teacher_precision=bf16")),
        "store": Way((named,), stored=True),
    }
    numbers = [dataset.stems.index(stem) for stem in store.stems("train")[:8]]
    batches = {
        stored: _batch(dataset, numbers, store if stored else None) for stored in (False, True)
    }
    steps = {}
    for name, way in ways.items():
        config = resolve(load_config(source=data, overrides=[*STUDENT, *way.settings]), dataset)
        steps[name] = _step(
            config, trained, batches[way.stored], teacher=None if way.stored else teacher
        )
    student = SegmentationModel(ModelSpec(*STUDENT_MODEL, num_classes)).eval()
    steps["teacher, without gradients"] = _forward(teacher, batches[False])
    steps["student, without gradients"] = _forward(student, batches[False])
    seconds = interleaved_seconds(steps, rounds=rounds, device="cpu")
    pairs = (
        ("store", "online"),
        ("boundary", "hard"),
        ("gaussian", "hard"),
        ("uniform", "hard"),
        ("store", "hard"),
        ("teacher, without gradients", "student, without gradients"),
    )
    return {
        "seconds": {name: median(found) for name, found in seconds.items()},
        "ratios": {
            f"{one} / {other}": _ratio(seconds[one], seconds[other]) for one, other in pairs
        },
    }


def _ratio(one: list[float], other: list[float]) -> dict[str, Any]:
    """Return median and quartiles of the ratios in each round."""
    ratios = [a / b for a, b in zip(one, other, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    return {"median": median(ratios), "quartiles": [low, high]}


def _batch(dataset: SegmentationDataset, numbers: list[int], store: SoftLabelStore | None) -> Batch:
    reader = None if store is None else SoftLabelReader(store, "train")
    augmentation = Augmentation((192, 256), scale=(0.5, 1.5))
    return collate([augmentation(dataset[number], reader) for number in numbers])


def _step(
    config: ResolvedConfig,
    trained: TrainedModel,
    batch: Batch,
    *,
    teacher: SegmentationModel | None,
) -> Callable[[], None]:
    torch.manual_seed(0)
    recipe: Recipe
    if config.distillation is not None:
        recipe = DistillationRecipe(
            config, trained.description, teacher=teacher, encoder_weights="none"
        )
    else:
        recipe = SupervisedRecipe(config, trained.description, encoder_weights="none")
    optimizer = torch.optim.AdamW(recipe.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        with autocast(torch.device("cpu"), "bf16"):
            loss = recipe.parts(batch)["loss"]
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _forward(model: SegmentationModel, batch: Batch) -> Callable[[], None]:
    @torch.no_grad()
    def forward() -> None:
        with autocast(torch.device("cpu"), "bf16"):
            model(batch["image"])

    return forward


if __name__ == "__main__":
    main()
