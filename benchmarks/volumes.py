"""Measure reading slices of volumes: slices per second and memory, for NIfTI and DICOM.

    python -m benchmarks.volumes            # 400 MB in a temporary folder

The volume is like a CT of 512 x 512 x 200 voxels in 16 bits: noise in a body, air around it. A new
process reads slices with a neighbour on each side in random order, as a training does, without
crops. Rates are per processor time of one thread; memory is the peak in addition to that before the
first slice. Writes benchmarks/results/loading/volumes.json, or --out.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import nibabel
import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from benchmarks._machine import ROOT, current_commit, machine
from softiou._files import write_atomically
from softiou.data import Bands
from softiou.data.bands import BandImage
from softiou.data.volumes import slices_of

RESULT = ROOT / "benchmarks" / "results" / "loading" / "volumes.json"
SIZE = (200, 512, 512)
FILES = ("case.nii", "case.nii.gz", "series")
HIDDEN = "sys.modules['indexed_gzip'] = None"  # as if it were not installed


def write_volumes(root: Path, size: tuple[int, int, int] = SIZE) -> None:
    """Write a volume (Z, Y, X) in each format."""
    random = np.random.default_rng(0)
    values = np.full(size, -1000, np.int16)
    body = values[:, size[1] // 6 : -size[1] // 6, size[2] // 6 : -size[2] // 6]
    body[:] = random.normal(40, 15, body.shape)
    for name in FILES[:2]:
        image = nibabel.Nifti1Image(values.T, np.diag([-0.7, -0.7, 2, 1]))
        nibabel.save(image, root / name)
    (root / FILES[2]).mkdir()
    series = generate_uid()
    for z, pixels in enumerate(values):
        one = pydicom.Dataset()
        one.file_meta = pydicom.dataset.FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = CTImageStorage
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = generate_uid()
        one.SeriesInstanceUID, one.PixelSpacing = series, [0.7, 0.7]
        one.ImageOrientationPatient, one.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 2 * z]
        one.Rows, one.Columns = pixels.shape
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
        one.RescaleSlope, one.RescaleIntercept = 1, -1024
        one.PixelData = (pixels.astype(np.int32) + 1024).astype("<u2").tobytes()
        one.save_as(root / FILES[2] / f"{z:03d}.dcm", enforce_file_format=True)


def measure(path: Path, seconds: float) -> dict[str, float]:
    """Read slices in random order, all of them once or for some seconds."""
    bands = Bands((1, 2, 3), ((-160, 240),) * 3, neighbours=1, axis="z")
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak memory
    before, start = _peak_mib(), time.process_time()
    slices = [*slices_of(path, "case", "z").values()]
    opened = time.process_time() - start
    start, read = time.process_time(), 0
    for number in np.random.default_rng(0).permutation(len(slices)):
        BandImage(slices[number], bands)[:, :]
        read += 1
        if time.process_time() - start > seconds:
            break
    spent = time.process_time() - start
    return {
        "opening, ms": round(1000 * opened, 1),
        "slices a second": round(read / spent, 1),
        "memory over the start, MiB": round(_peak_mib() - before, 1),
    }


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _in_a_process(path: Path, seconds: float, first: str = "") -> dict[str, float]:
    code = f"import json, sys\nfrom pathlib import Path\n{first}\n"
    code += "from benchmarks.volumes import measure\n"
    code += f"print(json.dumps(measure(Path({str(path)!r}), {seconds})))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    return cast(dict[str, float], json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure each format, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        write_volumes(Path(folder))
        found = {name: _in_a_process(Path(folder) / name, given.seconds) for name in FILES}
        plain = _in_a_process(Path(folder) / FILES[1], given.seconds, HIDDEN)
        found["case.nii.gz without indexed_gzip"] = plain
    about = {"date": str(date.today()), "commit": current_commit(), "machine": machine()}
    content = {**about, "size": SIZE, "bands": 3, "files": found}
    write_atomically((json.dumps(content, indent=2) + "\n").encode(), given.out)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
