"""Convert the Semantic Boundaries Dataset to masks of VOC's trainaug.

References:
    B. Hariharan et al. Semantic Contours from Inverse Detectors. ICCV 2011.
"""

import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from softiou._files import write_atomically
from softiou.data.layouts.voc import voc_colour
from softiou.fetching.downloading import Archive

# URL and checksum as in torchvision.datasets.SBDataset.
SBD = Archive(
    "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/"
    "benchmark.tgz",
    "benchmark.tgz",
    "md5",
    "82b4d87ceb2ed10f6038a1cba92111cb",
)
MASKS, LIST = "SegmentationClassAug", "ImageSets/Segmentation/trainaug.txt"


def write_trainaug(sbd: Path, voc: Path, *, beside: Path) -> int:
    """Write the masks and the list of trainaug, and return the number of images.

    It has the images of SBD and of VOC's train that are not in VOC's val. Images of both get the
    mask of VOC, which is finer. The masks are written to `beside`, on the same disk, and moved when
    complete.
    """
    lists = voc / "ImageSets" / "Segmentation"
    train, held_out = _stems(lists / "train.txt"), _stems(lists / "val.txt")
    coarse = (_stems(sbd / "train.txt") | _stems(sbd / "val.txt")) - held_out - train
    folder = beside / MASKS
    folder.mkdir()
    for stem in train:
        shutil.copyfile(voc / "SegmentationClass" / f"{stem}.png", folder / f"{stem}.png")
    with ThreadPoolExecutor() as pool:
        list(pool.map(partial(_convert, sbd / "cls", folder), sorted(coarse)))
    folder.rename(voc / MASKS)
    stems = sorted(train | coarse)
    write_atomically("".join(f"{stem}\n" for stem in stems).encode(), voc / LIST)
    return len(stems)


def _convert(source: Path, folder: Path, stem: str) -> None:
    """Write one mask as a palette image like those of VOC."""
    image = Image.fromarray(_read_mat(source / f"{stem}.mat"))
    image.putpalette([value for index in range(256) for value in voc_colour(index)])
    image.save(folder / f"{stem}.png")


def _read_mat(path: Path) -> NDArray[np.uint8]:
    """Return the class indices (H, W) in a file of SBD."""
    from scipy.io import loadmat

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some files have duplicate variables
        content = loadmat(str(path))["GTcls"]
    mask: NDArray[np.uint8] = content["Segmentation"][0, 0].astype(np.uint8)
    return mask


def _stems(path: Path) -> set[str]:
    return set(path.read_text(encoding="utf-8").split())
