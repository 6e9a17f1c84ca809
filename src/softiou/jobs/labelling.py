"""Store a teacher's soft labels for a data set on disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Subset

from softiou import labelling
from softiou._screen import Progress, progress_of
from softiou.calibration import load_scaling
from softiou.checkpoints import TrainedModel, check_classes
from softiou.configuration import LabellingConfig, load_labelling_config
from softiou.data import ImageDataset, open_images
from softiou.data.source_names import overlooked
from softiou.inference import best_device, best_precision
from softiou.jobs.settings import as_text
from softiou.jobs.trained import RunLike, as_trained
from softiou.soft_labels import Quantisation, SoftLabelStore


def label(
    data: str | Path,
    *,
    teacher: RunLike,
    out: Path | str,
    part: str | None = None,
    verify: bool = False,
    overrides: Sequence[str] = (),
    progress: bool | Progress | None = None,
    **settings: Any,
) -> SoftLabelStore:
    """Store a teacher's soft labels in compressed form, for `distill`.

    An interrupted run continues where it stopped, and any number of processes and machines can
    share the work.

    Args:
        data: Data set.
        teacher: Run, run directory or checkpoint.
        out: Folder for the soft labels; a folder of the same teacher is continued.
        part: "I/N" to label only part I of N; by default the ranks of torchrun share the work.
        verify: Whether to check the existing files and to write damaged ones again.
        overrides: Settings as text, such as "k=4".
        progress: As in `evaluate`.
        settings: splits, stride, k, mass, levels, calibrated, flip, scales, precision, workers,
            shard_mib, skip_corrupt.

    Raises:
        ConfigError: A setting is wrong.
        CheckpointError: No teacher was found, or the classes of the data set differ.
        DataError: The folder has soft labels of another teacher or with other settings.
    """
    given = [f"{key}={as_text(value)}" for key, value in settings.items()]
    config, shown = load_labelling_config([*given, *overrides]), progress_of(progress)
    own = labelling.own_part(part)
    source = str(data)
    for line in overlooked(source):
        shown.say(line)
    with shown.doing("reading the teacher"):
        trained = as_trained(teacher).load_model()
    with shown.doing(f"opening {source}"):
        images = [
            open_images(source, split, skip_corrupt=config.skip_corrupt, bands=trained.bands)
            for split in config.splits
        ]
    for _, description in images:
        check_classes(trained.path, trained.description, description, data=source)
    stride = config.stride if config.stride != "auto" else labelling.logits_stride(trained.model)
    quantisation = Quantisation(stride=stride, k=config.k, mass=config.mass, levels=config.levels)
    scaling = load_scaling(trained) if config.calibrated else None
    how = labelling.TeacherSettings(scaling, config.flip, config.scales)
    manifest = labelling.make_manifest(trained, quantisation, data=source, settings=how)
    store = SoftLabelStore.create(Path(out), manifest)
    store.shard_bytes = config.shard_mib << 20
    calibrated = "" if scaling is None else ", calibrated"
    shown.say(f"store {out}: stride {stride}, k {config.k}, teacher {trained.path}{calibrated}")
    for dataset, _ in images:
        _label_images(trained, dataset, store, config, own, verify=verify, progress=shown)
    return store


def _label_images(
    trained: TrainedModel,
    images: ImageDataset,
    store: SoftLabelStore,
    config: LabellingConfig,
    own: tuple[int, int],
    *,
    verify: bool,
    progress: Progress,
) -> None:
    """Label the missing images of this process's part, and print a summary."""
    from softiou.training.workers import Loader  # with all of the training, after the settings

    part, parts = own
    share = range(part - 1, len(images), parts)
    damaged = _damaged(store, images, share, progress) if verify else []
    todo = [n for n in share if n in damaged or not store.has(images.folder, images.stems[n])]
    device = best_device()
    done = labelling.label(
        trained.model.to(device),
        Loader(
            Subset(images, todo),
            batch_size=None,
            workers=config.workers if todo else 0,
            say=progress.say,
        ),
        store,
        folder=images.folder,
        precision=best_precision(device) if config.precision == "auto" else config.precision,
    )
    for _ in progress.track(done, total=len(todo), description=f"labelling {images.folder}"):
        pass
    if images.skipped:
        progress.say(f"{images.folder}: left out {len(images.skipped)} unreadable images")
    now = SoftLabelStore.open(store.path)  # with what other processes have written
    held = sum(now.has(images.folder, stem) for stem in images.stems)
    mebibytes = store.size_bytes(images.folder) / 2**20
    progress.say(
        f"{images.folder}{f', part {part}/{parts}' if parts > 1 else ''}: {len(todo)} images "
        f"labelled; the store holds {held} of {len(images)} in {mebibytes:.1f} MiB"
    )


def _damaged(
    store: SoftLabelStore, images: ImageDataset, share: Sequence[int], progress: Progress
) -> list[int]:
    """Check the files of some images, print the problems, and return the image numbers."""
    found = []
    for number in share:
        for problem in store.verify(images.folder, images.stems[number]):
            progress.say(f"{problem.file}\n  {problem.message}")
            found.append(number)
    progress.say(f"verified: {len(found)} damaged files" + (", to be replaced" if found else ""))
    return found
