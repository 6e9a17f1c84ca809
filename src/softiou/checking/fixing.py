"""A corrected copy of a data set: masks that load, in the folder layout, beside the originals."""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from softiou._files import atomic_folder
from softiou.checking.encoding import MaskEncoder
from softiou.checking.findings import FindingGroup, Findings
from softiou.checking.mending import Mender
from softiou.checking.parallel import bounded_map
from softiou.checking.scanning import Watch
from softiou.data.base import DatasetDescription
from softiou.data.dataset_yaml import FILE_NAME
from softiou.data.files import UNLABELED, SampleFiles
from softiou.data.problems import DataProblemsError, Problem


@dataclass(frozen=True)
class FixReport:
    """What a corrected copy holds.

    Attributes:
        out: The new folder.
        samples: Number of images with their masks in it.
        steps: The number of masks by what was done to them; several things may be.
        left_out: Number of samples that are not in it.
        reasons: What is wrong with them.
        remaining: Errors of the data set that a copy does not mend, such as duplicates.
    """

    out: str
    samples: int
    steps: dict[str, int]
    left_out: int
    reasons: tuple[FindingGroup, ...]
    remaining: tuple[FindingGroup, ...] = ()

    @property
    def complete(self) -> bool:
        """Return whether all of the data set is in it, and in order."""
        return not self.left_out and not self.remaining


def new_folder(out: str | Path, sources: Iterable[Path]) -> Path:
    """Return where a corrected copy of a data set goes.

    Raises:
        DataError: There are files already, or it lies within the data set.
    """
    folder = Path(out).expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        message = "Expected a new or an empty folder for the corrected copy, but found files."
        raise DataProblemsError(Problem(str(folder), message, "Name another folder."))
    if any(folder.is_relative_to(source.resolve()) for source in sources):
        message = "Expected a folder outside of the data set, where nothing is ever written."
        raise DataProblemsError(Problem(str(folder), message, "Name another folder."))
    return folder


class FixedCopy:
    """Writes a data set anew: masks that are mended, links to the images, lists, dataset.yaml.

    Args:
        mender: Reads the masks.
        description: The classes and the `ignore_index`.
    """

    def __init__(self, mender: Mender, description: DatasetDescription) -> None:
        self._mender = mender
        self._encoder = MaskEncoder(description)

    def write(
        self,
        samples: Mapping[str, Sequence[SampleFiles]],
        out: Path,
        *,
        unlabeled: Path | None,
        without_masks: Mapping[str, Mapping[str, Path]],
        watch: Watch,
    ) -> FixReport:
        """Write the folder under another name and rename it when it is complete.

        Images are linked to, or copied where the file system has no links.

        Args:
            samples: Those of each split.
            out: A new or an empty folder, see `new_folder`.
            unlabeled: Folder of images without masks, to link to, unless it is among `samples`.
            without_masks: Images by stem of the splits that have no masks, to link to.
            watch: Shows the progress.

        Raises:
            DataError: No mask can be read, not even when it is mended.
        """
        with atomic_folder(out) as temporary:
            report = self._write_samples(samples, temporary, out, watch)
            if unlabeled is not None and UNLABELED not in samples:
                _link(unlabeled, temporary / UNLABELED)
            for split, images in without_masks.items():
                _link_images(images, temporary / split / "images")
            text = yaml.safe_dump(self._encoder.dataset_file(), sort_keys=False, allow_unicode=True)
            (temporary / FILE_NAME).write_text(text, encoding="utf-8")
        return report

    def _write_samples(
        self,
        samples: Mapping[str, Sequence[SampleFiles]],
        folder: Path,
        out: Path,
        watch: Watch,
    ) -> FixReport:
        folders, lists = _places(samples)
        steps: Counter[str] = Counter()
        findings, left_out, written = Findings(), set[SampleFiles](), 0
        jobs = [(files, folder / split) for split in folders for files in samples[split]]
        results = bounded_map(self._attempt, jobs)
        for (files, _), result in watch(zip(jobs, results, strict=True), len(jobs)):
            if isinstance(result, DataProblemsError):
                findings.add(result.problems)
                left_out.add(files)
            else:
                steps.update(result)
                written += 1
        if not written:
            raise DataProblemsError(*findings.kept[:1])
        for split in lists:
            if kept := [files.stem for files in samples[split] if files not in left_out]:
                _write_list(folder, split, kept)
        return FixReport(str(out), written, dict(steps), len(left_out), findings.groups)

    def _attempt(self, job: tuple[SampleFiles, Path]) -> list[str] | DataProblemsError:
        """Return what was done to the masks of a sample, or what is wrong with it."""
        try:
            return self._write_sample(*job)
        except DataProblemsError as error:
            return error

    def _write_sample(self, files: SampleFiles, folder: Path) -> list[str]:
        """Write the masks of a sample, if all of them can be read, and link to its image."""
        mended = self._mender.mend(files)
        for number, one in enumerate(mended, start=1):
            name = "masks" if len(mended) == 1 else f"masks_{number}"
            (folder / name).mkdir(parents=True, exist_ok=True)
            self._encoder.write(one.mask, folder / name / f"{files.stem}.png")
        _link_images({files.stem: files.image}, folder / "images")
        return [step for one in mended for step in one.steps]


def _places(samples: Mapping[str, Sequence[SampleFiles]]) -> tuple[list[str], list[str]]:
    """Return the splits that become folders, and those that become lists of images of train."""
    train = set(samples.get("train", ()))
    lists = [split for split in samples if split != "train" and train.issuperset(samples[split])]
    return [split for split in samples if split not in lists], lists


def _write_list(folder: Path, split: str, stems: Sequence[str]) -> None:
    """Write the stems of a split into splits/NAME.txt."""
    path = folder / "splits" / f"{split}.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")


def _link_images(images: Mapping[str, Path], folder: Path) -> None:
    """Link to images, which are called by their stems in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, path in images.items():
        _link(path, folder / f"{stem}{path.suffix}")


def _link(target: Path, link: Path) -> None:
    """Link to a file or folder, or copy it where there are no links."""
    try:
        link.symlink_to(target.resolve())
    except FileExistsError:  # a copy would go through the link, into an original
        raise
    except OSError:
        copy = shutil.copytree if target.is_dir() else shutil.copyfile
        copy(target, link)
