"""Measure large GeoTIFFs: crops per second, and time and memory of start and prediction.

    python -m benchmarks.scenes                  # four scenes, some GiB in a temporary folder
    python -m benchmarks.scenes --predict RUN    # also predicts them with a run of four bands

Scenes have four 16-bit bands, and an 8-bit mask in a TIFF with the same layout, all deflated: in
tiles of 512 or 256 pixels, or in strips, the default of GDAL; one has its mask in a PNG. A new
process opens each as a training does, and loads random crops of 512 x 512 with all transforms.
Rates are per processor time of one thread. Writes benchmarks/results/loading/scenes.json, or --out.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rasterio
import torch
from PIL import Image
from rasterio.transform import from_origin
from rasterio.windows import Window

import softiou
from benchmarks._machine import ROOT, measured_on, save
from softiou.checking import check_dataset
from softiou.data import Augmentation, Bands, TrainingStream, open_dataset, verify_readable
from softiou.data.fractions import count_pixels
from softiou.training.resolving import _crop

RESULT = ROOT / "benchmarks" / "results" / "loading" / "scenes.json"
PLACE: dict[str, Any] = {"crs": "EPSG:32631", "transform": from_origin(500_000, 5_000_000, 10, 10)}
TILES = {n: {"tiled": True, "blockxsize": n, "blockysize": n} for n in (512, 256)}
SCENES: dict[str, dict[str, Any]] = {
    "tiles of 512": TILES[512],
    "tiles of 256": TILES[256],
    "strips": {},
    "tiles of 256, mask in a PNG": TILES[256],
}
BANDS = (1, 2, 3, 4)
CROP_PX = (512, 512)
_ROWS = 512  # rows written at a time


def write_scene(root: Path, side_px: int, how: dict[str, Any], *, png: bool = False) -> None:
    """Write a data set of one scene: fields of 16 pixels with noise, and classes in squares."""
    random = np.random.default_rng(0)
    for kind, bands, dtype, cell in (("images", 4, "uint16", 16), ("masks", 1, "uint8", 64)):
        path = root / "train" / kind / "scene.tif"
        path.parent.mkdir(parents=True)
        about = {**PLACE, **how, "height": side_px, "width": side_px, "dtype": dtype}
        with rasterio.open(
            path, "w", driver="GTiff", count=bands, compress="deflate", **about
        ) as to:
            for top in range(0, side_px, _ROWS):
                rows = min(_ROWS, side_px - top)
                highest = 3000 if kind == "images" else 5
                cells = (bands, rows // cell + 1, side_px // cell + 1)
                coarse = random.integers(0, highest, cells)
                values = coarse.repeat(cell, 1).repeat(cell, 2)[:, :rows, :side_px]
                if kind == "images":
                    values = values + random.integers(0, 64, values.shape)
                to.write(values.astype(dtype), window=Window(0, top, side_px, rows))
    if png:
        with rasterio.open(path) as file:
            Image.fromarray(file.read(1)).save(path.with_suffix(".png"))
        path.unlink()
    (root / "dataset.yaml").write_text("classes: [a, b, c, d, e]\n", encoding="utf-8")


def peak_mib() -> float:
    """Return the peak resident memory of this process in MiB (Linux only).

    `ru_maxrss` would include the program that has started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure(root: Path, crops: int) -> dict[str, float]:
    """Open a data set as a training does, and load crops; return times, rates and memory."""
    start_mib, found = peak_mib(), {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        begin = time.process_time()
        result = work()
        found[name] = round(time.process_time() - begin, 2)
        return result

    dataset = timed("ranges, s", lambda: open_dataset(root, "train", bands=Bands(BANDS)))
    timed("file check, s", lambda: verify_readable(dataset))
    timed("size of the crop, s", lambda: _crop(dataset))
    stream = TrainingStream(dataset, Augmentation(CROP_PX, bands=True), seed=0)

    def draw() -> None:
        for number in range(crops):
            stream[number]

    stream[crops]  # the first crop opens the files
    timed("crops, s", draw)
    found["crops a second"] = round(crops / found.pop("crops, s"), 1)
    found |= {"imports, MiB": round(start_mib), "peak, MiB": round(peak_mib())}
    timed("class counts, s", lambda: count_pixels(dataset, [0]))
    found["peak with class counts, MiB"] = round(peak_mib())
    return found


def checked(root: Path) -> dict[str, float]:
    """Check every pixel, as softiou check does."""
    begin = time.process_time()
    check_dataset(str(root), bands=Bands(BANDS))
    seconds = round(time.process_time() - begin, 2)
    return {"softiou check, s": seconds, "softiou check, peak MiB": round(peak_mib())}


def predicted(root: Path, run: Path) -> dict[str, float]:
    """Predict the scene in windows, and compare its georeference with that of the mask."""
    image, out = root / "train" / "images" / "scene.tif", root / "masks"
    start_mib, begin = peak_mib(), time.process_time()
    settings: dict[str, Any] = {"window": 1024, "overlap": 0, "batch_size": 1}
    softiou.predict(run, image, progress=False, **settings).save(out)
    seconds = time.process_time() - begin
    with rasterio.open(image) as before, rasterio.open(out / "scene.tif") as mask:
        same = (before.crs, before.transform, before.shape) == (
            mask.crs,
            mask.transform,
            mask.shape,
        )
    return {
        "prediction, s": round(seconds),
        "imports, MiB": round(start_mib),
        "peak, MiB": round(peak_mib()),
        "same place": same,
    }


def in_a_process(work: str, root: Path, value: object) -> dict[str, Any]:
    """Run one of the functions above in a new process."""
    options = ["--work", work, "--data", str(root), "--value", str(value)]
    command = [sys.executable, "-m", "benchmarks.scenes", *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    """Measure all scenes and write the result, or measure one scene in a subprocess."""
    parser = argparse.ArgumentParser(description="Large GeoTIFFs: loading, memory, prediction.")
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--crops", type=int, default=60)
    parser.add_argument("--predict", type=Path, help="run of four bands")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=[*SCENES])
    for name in ("--work", "--data", "--value"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.work:
        root = Path(options.data)
        works: dict[str, Callable[[], dict[str, float]]] = {
            "measure": lambda: measure(root, int(options.value)),
            "checked": lambda: checked(root),
            "predicted": lambda: predicted(root, Path(options.value)),
        }
        print(json.dumps(works[options.work]()))
        return
    content: dict[str, Any] = {
        **measured_on(),
        "side_px": options.side,
        "crop_px": CROP_PX,
        "scenes": {},
    }
    for name in options.scenes:
        with TemporaryDirectory() as folder:
            root = Path(folder)
            write_scene(root, options.side, SCENES[name], png="PNG" in name)
            found = in_a_process("measure", root, options.crops)
            found |= in_a_process("checked", root, "")
            if options.predict and "PNG" not in name:
                found["predicted"] = in_a_process("predicted", root, options.predict.resolve())
        print(name, found, flush=True)
        content["scenes"][name] = found
        save(options.out, content)


if __name__ == "__main__":
    main()
