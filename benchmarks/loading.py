"""Measure how many images per second a process loads for training, compared with plain loops.

    python -m benchmarks.loading

All read a JPEG image and a PNG mask, apply a random scale, crop, flip and colour jitter, and stack
eight samples. One loop uses Pillow and torchvision, the other OpenCV and Albumentations (which
resizes without antialiasing); both have no checks, messages or reproducible random numbers. Times
are processor times of one thread, medians of interleaved rounds. Writes
benchmarks/results/loading/cpu.json.

    python -m benchmarks.loading --start 100000 1000000

measures the start of a training with that many images: seconds, and memory in addition to imports,
until the first sample has been read. The files are links to a few small ones, in a temporary
folder. Each start is a new process; the first one verifies every file, as with `data.verify`, the
others use its cached result. Writes benchmarks/results/loading/start.json.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
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

from benchmarks._machine import PATHS, ROOT, measured_on, save
from softiou.data import Augmentation, TrainingStream, collate, open_dataset

RESULT = ROOT / "benchmarks" / "results" / "loading" / "cpu.json"
BATCH, COLOUR = 8, 0.3
SCALE = (0.5, 2.0)
# (width, height) of the images and (height, width) of the crops: CamVid's, and Cityscapes'.
SIZES = {"480x360": ((480, 360), (192, 256)), "2048x1024": ((2048, 1024), (512, 512))}


def write_images(root: Path, size: tuple[int, int], count: int) -> None:
    """Write smooth random images, whose JPEG files are as large as those of street scenes."""
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
    """Return a function that loads a batch by number with softiou."""
    augmentation = Augmentation(crop_px, scale=SCALE, colour=COLOUR)
    stream = TrainingStream(open_dataset(root, "train"), augmentation, seed=0)
    return lambda number: collate([stream[BATCH * number + index] for index in range(BATCH)])


def plain(root: Path, crop_px: tuple[int, int]) -> Callable[[int], Any]:
    """Return a function that loads a batch by number with Pillow and torchvision."""
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


def opencv(root: Path, crop_px: tuple[int, int]) -> Callable[[int], Any]:
    """Return a function that loads a batch by number with OpenCV and Albumentations."""
    import albumentations
    from albumentations.pytorch import ToTensorV2

    cv2: Any = import_module("cv2")
    cv2.setNumThreads(1)
    images = sorted((root / "train" / "images").iterdir())
    masks = sorted((root / "train" / "masks").iterdir())
    change = (COLOUR, COLOUR, COLOUR, 0)
    transform = albumentations.Compose(
        [
            albumentations.Resize(*crop_px),
            albumentations.HorizontalFlip(),
            albumentations.ColorJitter(*change, p=1),
            ToTensorV2(),
        ]
    )
    random = np.random.default_rng(0)

    def sample() -> tuple[Tensor, Tensor]:
        index = random.integers(len(images))
        image = cv2.cvtColor(cv2.imread(str(images[index])), cv2.COLOR_BGR2RGB)
        mask = cv2.imread(str(masks[index]), cv2.IMREAD_UNCHANGED)
        scale = random.uniform(*SCALE)
        sides, places = [round(side / scale) for side in crop_px], []
        for length, side in zip(mask.shape, sides, strict=True):
            places.append(random.integers(min(0, length - side), max(0, length - side) + 1))
        bounds = zip(places, sides, mask.shape, strict=True)
        window = tuple(slice(max(0, a), min(a + b, c)) for a, b, c in bounds)
        lacks = [b - (part.stop - part.start) for b, part in zip(sides, window, strict=True)]
        before = [min(max(0, -place), lack) for place, lack in zip(places, lacks, strict=True)]
        border = (before[0], lacks[0] - before[0], before[1], lacks[1] - before[1])
        image, mask = (
            cv2.copyMakeBorder(one[window], *border, cv2.BORDER_CONSTANT) for one in (image, mask)
        )
        found = transform(image=image, mask=mask)
        return found["image"], found["mask"].long()

    def batch(number: int) -> tuple[Tensor, Tensor]:
        pictures, labels = zip(*[sample() for _ in range(BATCH)], strict=True)
        return torch.stack(pictures), torch.stack(labels)

    return batch


def measure(size: tuple[int, int], crop_px: tuple[int, int], rounds: int) -> dict[str, float]:
    """Return images per second of all, and the ratios of softiou to the others."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        write_images(root, size, count=16)
        loaders = {"softiou": ours(root, crop_px), "loop": plain(root, crop_px)}
        loaders["albumentations"] = opencv(root, crop_px)
        seconds: dict[str, list[float]] = {name: [] for name in loaders}
        for number in range(rounds + 1):
            for name, load in loaders.items():
                begin = time.process_time()
                load(number)
                seconds[name].append(time.process_time() - begin)
    # The first round opens the files, and is not measured.
    rates = {name: BATCH / median(found[1:]) for name, found in seconds.items()}
    rates["ratio"] = rates["softiou"] / rates["loop"]
    return rates | {"ratio_to_albumentations": rates["softiou"] / rates["albumentations"]}


START = """
import json, resource, sys, time
from softiou.configuration import Config
from softiou.data import Augmentation, TrainingStream, verify_readable
from softiou.recipes.custom import NOTHING_CUSTOM
from softiou.training import trainer
from benchmarks.loading import memory_mb

before, wall, cpu, source = memory_mb(), time.perf_counter(), time.process_time(), sys.argv[1]
config = Config.model_validate({"data": {"source": source}})
data = trainer.open_data(config, NOTHING_CUSTOM)
listed = time.process_time() - cpu
if sys.argv[2] == "first":
    assert verify_readable(data.training) == verify_readable(data.validation) == []
trainer._identity(data.training)
TrainingStream(data.training, Augmentation((64, 64)), seed=0)[0]
print(json.dumps({
    "open_cpu_s": listed,
    "cpu_s": time.process_time() - cpu,
    "wall_s": time.perf_counter() - wall,
    "resident_mb": memory_mb() - before,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000 - before,
}))
"""
LINKS = 50_000  # links to one file; some systems allow at most 65,000


def memory_mb() -> float:
    """Return the resident memory of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def write_links(root: Path, count: int) -> None:
    """Write images and masks as links to a few files, with other sizes in each split."""
    write_images(root / "few", (64, 64), count=-(-count // LINKS))
    (root / "few" / "dataset.yaml").rename(root / "dataset.yaml")
    for split, number in (("train", count), ("val", 100)):
        for kind, ending in (("images", "jpg"), ("masks", "png")):
            (root / split / kind).mkdir(parents=True)
            files = sorted((root / "few" / split / kind).iterdir())
            with files[0].open("ab") as file:
                file.write(split.encode())
            for index in range(number):
                name = f"frame_{index * 7919 % 1_000_003:07d}.{ending}"
                os.link(files[index // LINKS], root / split / kind / name)


def measure_start(count: int, rounds: int) -> dict[str, Any]:
    """Return the medians of several starts, of the first process and of later ones."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        write_links(root, count)
        settings = os.environ | {"SOFTIOU_CACHE": str(root / "cache"), "PYTHONPATH": PATHS}

        def start(rank: str) -> dict[str, float]:
            words = [sys.executable, "-c", START, folder, rank]
            done = subprocess.run(words, env=settings, cwd=ROOT, stdout=subprocess.PIPE, check=True)
            found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
            return found

        result: dict[str, Any] = {"nothing_remembered": start("first")}
        for rank in ("first", "other"):
            starts = [start(rank) for _ in range(rounds)]
            result[rank] = {key: median(one[key] for one in starts) for key in starts[0]}
    return {name: {key: round(v, 2) for key, v in one.items()} for name, one in result.items()}


def main() -> None:
    """Measure all sizes, or the starts, and write the result."""
    parser = argparse.ArgumentParser(description="Loading for training, beside plain loops.")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--start", type=int, nargs="+", help="numbers of images; 3 rounds")
    options = parser.parse_args()
    rounds = options.rounds
    if options.start:
        starts = {}
        for count in options.start:
            starts[str(count)] = measure_start(count, rounds=3)
            print(count, starts[str(count)], flush=True)
        unit = "seconds and MB above the imports, medians of three processes"
        load = round(os.getloadavg()[0], 1)
        found = {"unit": unit, "load": load, "images": starts}
        save(RESULT.with_name("start.json"), measured_on() | found)
        return
    torch.set_num_threads(1)
    found = {}
    for name, (size, crop_px) in SIZES.items():
        measured = measure(size, crop_px, rounds)
        found[name] = {key: round(value, 2) for key, value in measured.items()}
        print(name, found[name], flush=True)
    unit = "images per second of one core's time, crops of 192x256 and 512x512"
    save(RESULT, measured_on() | {"unit": unit, "rounds": rounds, "images": found})


if __name__ == "__main__":
    main()
