"""Download and unpack data sets, or explain how to get them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from softiou.data.layouts.tables import ORIGINS
from softiou.data.problems import data_error
from softiou.errors import DataError
from softiou.fetching.downloading import Archive, WatchChunks, download, unpacked
from softiou.fetching.sbd import LIST, MASKS, SBD, write_trainaug

# URL and checksum as in torchvision.datasets.VOCSegmentation.
VOC = Archive(
    "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    "VOCtrainval_11-May-2012.tar",
    "md5",
    "6cd6e144f989b92b3379bac3b3de84fd",
)
# URL from sceneparsing.csail.mit.edu, checksum from GluonCV.
ADE20K = Archive(
    "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
    "ADEChallengeData2016.zip",
    "sha1",
    "219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",
)
FETCHED = {"voc": (VOC, "VOCdevkit/VOC2012"), "ade20k": (ADE20K, "ADEChallengeData2016")}


@dataclass(frozen=True)
class Fetched:
    """A downloaded data set.

    Attributes:
        folder: Folder of the data set.
        source: Its name in commands.
    """

    folder: Path
    source: str


def fetch_dataset(
    name: str, to: Path, *, sbd: bool = False, say: Callable[[str], None], watch: WatchChunks
) -> Fetched:
    """Download and unpack a data set of `FETCHED`, unless it exists; `sbd` adds voc's trainaug.

    Raises:
        DataError: The data set is not freely available, the network failed, an archive is damaged,
            or the masks of trainaug already exist.
    """
    if name not in FETCHED:
        raise DataError(f"{name} cannot be downloaded without its authors' consent.")
    if sbd and name != "voc":
        raise DataError("--sbd is only for voc.")
    to = to.expanduser().resolve()
    archive, inner = FETCHED[name]
    folder = to / inner
    if folder.exists():
        say(f"{folder} already exists")
    else:
        say(f"{archive.url}\n  to {to}; terms: {ORIGINS[name].terms}")
        with unpacked(download(archive, to, watch=watch)) as found:
            _put(found / inner, folder)
        say(f"{folder}: unpacked; {to / archive.name} may be removed")
    if sbd:
        _fetch_trainaug(folder, to, say=say, watch=watch)
    return Fetched(folder, f"{name}:{folder}")


def _fetch_trainaug(voc: Path, to: Path, *, say: Callable[[str], None], watch: WatchChunks) -> None:
    """Add the masks and the list of trainaug to VOC."""
    for path in (voc / MASKS, voc / LIST):
        if path.exists():
            message = "Expected no masks of the SBD, but the path already exists."
            remedy = "Use them (data.train_split=trainaug), or remove them."
            raise data_error(path, message, remedy)
    say(f"{SBD.url}\n  to {to}; terms: {ORIGINS['voc'].terms}")
    with unpacked(download(SBD, to, watch=watch)) as found:
        number = write_trainaug(found / "benchmark_RELEASE" / "dataset", voc, beside=found)
    say(f"{voc / MASKS}: {number} masks of trainaug; {to / SBD.name} may be removed")


def _put(source: Path, target: Path) -> None:
    """Move a folder."""
    if not source.is_dir():
        raise DataError(f"The archive does not contain {target.name}/; it may have changed.")
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def instructions(name: str) -> str:
    """Return the origin of a data set, how to get it, and the resulting folders.

    Raises:
        DataError: The name is unknown.
    """
    origin = ORIGINS.get(name.removesuffix("-coarse"))
    if origin is None:
        raise DataError(f"Expected one of {', '.join(ORIGINS)}, but got {name!r}.")
    lines = [
        f"{origin.title}: {origin.page}",
        f"Terms: {origin.terms}.",
        "",
        *(f"- {step}" for step in origin.steps),
        "",
        "A folder of your choice must then contain:",
        "",
        *(f"    {line}" for line in origin.tree.splitlines()),
        "",
        f"Then: softiou check {name}:FOLDER",
    ]
    return "\n".join(lines)
