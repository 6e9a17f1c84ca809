"""How many images a second a process loads for training, beside a plain loop that does the same.

    python -m benchmarks.loading

Both read a JPEG and a mask (PNG), draw a scale, a crop, a mirroring and colours, and stack eight of
them. The loop is Pillow and torchvision's functions, written down once, without checks, messages or
reproducible draws. Times are of the processor, on one thread: rounds of the two in turn, and their
medians. Writes benchmarks/results/loading/cpu.json.
"""

import argparse
import json
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from benchmarks._machine import ROOT, current_commit, machine, processor
from softiou._files import write_atomically
from softiou.data import Augmentation, TrainingStream, collate, open_dataset

RESULT = ROOT / "benchmarks" / "results" / "loading" / "cpu.json"
BATCH, COLOUR = 8, 0.3
SCALE = (0.5, 2.0)
# (width, height) of the images and (height, width) of the crops: CamVid's, and Cityscapes'.
SIZES = {"480x360": ((480, 360), (192, 256)), "2048x1024": ((2048, 1024), (512, 512))}


def write_images(root: Path, size: tuple[int, int], count: int) -> None:
    """Write a data set of smooth random images, whose JPEGs are as large as those of a street."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for folder in ("images", "masks"):
            (root / split / folder).mkdir(parents=True)
        for index in range(count if split == "train" else 1):
            coarse = random.integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
            image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
            image.save(root / split / "images" / f"{split}{index}.jpg", quality=90)
            labels = random.integers(0, 11, (size[1] // 40, size[0] // 40), np.uint8)
            mask = Image.fromarray(labels).resize(size, Image.Resampling.NEAREST)
            mask.save(root / split / "masks" / f"{split}{index}.png")
    names = ", ".join(f"class_{index}" for index in range(11))
    (root / "dataset.yaml").write_text(f"classes: [{names}]\n", encoding="utf-8")


def ours(root: Path, crop_px: tuple[int, int]) -> Callable[[int], Any]:
    """Return what loads the batch of a number with softiou."""
    augmentation = Augmentation(crop_px, scale=SCALE, colour=COLOUR)
    stream = TrainingStream(open_dataset(root, "train"), augmentation, seed=0)
    return lambda number: collate([stream[BATCH * number + index] for index in range(BATCH)])


def plain(root: Path, crop_px: tuple[int, int]) -> Callable[[int], Any]:
    """Return what loads the batch of a number in a loop of Pillow and torchvision."""
    images = sorted((root / "train" / "images").iterdir())
    masks = sorted((root / "train" / "masks").iterdir())
    colours = v2.ColorJitter(COLOUR, COLOUR, COLOUR)
    random = np.random.default_rng(0)

    def sample() -> tuple[Tensor, Tensor]:
        index = random.integers(len(images))
        image = F.pil_to_tensor(Image.open(images[index]).convert("RGB"))
        mask = F.pil_to_tensor(Image.open(masks[index]))
        scale = random.uniform(*SCALE)
        height, width = (round(side / scale) for side in crop_px)
        rows, columns = image.shape[1] - height, image.shape[2] - width
        top = int(random.integers(min(0, rows), max(0, rows) + 1))
        left = int(random.integers(min(0, columns), max(0, columns) + 1))
        image = F.resized_crop(image, top, left, height, width, list(crop_px), antialias=True)
        nearest = InterpolationMode.NEAREST
        mask = F.resized_crop(mask, top, left, height, width, list(crop_px), nearest)
        if random.random() < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        return colours(image), mask[0].long()

    def batch(number: int) -> tuple[Tensor, Tensor]:
        pictures, labels = zip(*[sample() for _ in range(BATCH)], strict=True)
        return torch.stack(pictures), torch.stack(labels)

    return batch


def measure(size: tuple[int, int], crop_px: tuple[int, int], rounds: int) -> dict[str, float]:
    """Return images a second of the two, and their ratio."""
    with TemporaryDirectory() as folder:
        write_images(Path(folder), size, count=16)
        loaders = {"softiou": ours(Path(folder), crop_px), "loop": plain(Path(folder), crop_px)}
        seconds: dict[str, list[float]] = {name: [] for name in loaders}
        for number in range(rounds + 1):
            for name, load in loaders.items():
                begin = time.process_time()
                load(number)
                seconds[name].append(time.process_time() - begin)
    # The first round opens what the others find.
    rates = {name: BATCH / median(found[1:]) for name, found in seconds.items()}
    return rates | {"ratio": rates["softiou"] / rates["loop"]}


def main() -> None:
    """Measure all sizes and write the result."""
    parser = argparse.ArgumentParser(description="Loading for training, beside a plain loop.")
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    found = {}
    for name, (size, crop_px) in SIZES.items():
        measured = measure(size, crop_px, rounds)
        found[name] = {key: round(value, 2) for key, value in measured.items()}
        print(name, found[name], flush=True)
    content = {
        "commit": current_commit(),
        "date": str(date.today()),
        "machine": machine(),
        "processor": processor(),
        "unit": "images per second of one core's time, crops of 192x256 and 512x512",
        "rounds": rounds,
        "images": found,
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    write_atomically((json.dumps(content, indent=1) + "\n").encode(), RESULT)


if __name__ == "__main__":
    main()
