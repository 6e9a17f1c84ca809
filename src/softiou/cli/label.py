"""softiou label: a teacher's soft labels of a data set, made once and kept on disk."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from softiou.checkpoints import TrainedModel
    from softiou.configuration import LabellingConfig
    from softiou.data import ImageDataset
    from softiou.soft_labels import SoftLabelStore


def label(
    data: Annotated[str, typer.Argument(help="Data set folder, LAYOUT:/path, or digits.")],
    teacher: Annotated[
        Path, typer.Option(metavar="RUN|CKPT", help="Run directory or checkpoint of the teacher.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the soft labels; one that is begun is gone on with.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="splits=[train] stride=auto k=auto mass=0.995 levels=58 precision=auto workers=1",
            show_default=False,
        ),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Label only part I of N; by default torchrun's ranks share the work.",
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Check every file that is there, and make damaged ones again."
        ),
    ] = False,
) -> None:
    """Store a teacher's soft labels, small and restartable, for softiou distill.

    An interrupted run goes on where it stopped, and any number of processes and machines can share
    the work.
    """
    import os

    from softiou.checkpoints import check_classes, load_trained
    from softiou.cli import _console
    from softiou.configuration import load_labelling_config
    from softiou.data import open_images
    from softiou.labelling import logits_stride, make_manifest, own_part
    from softiou.soft_labels import Quantisation, SoftLabelStore

    config = load_labelling_config(settings or [])
    own, parts = own_part(part, os.environ)
    trained = load_trained(teacher)
    images = [open_images(data, s, skip_corrupt=config.skip_corrupt) for s in config.splits]
    for _, description in images:
        check_classes(trained, description, data=data)
    stride = logits_stride(trained.model) if config.stride == "auto" else config.stride
    quantisation = Quantisation(stride=stride, k=config.k, mass=config.mass, levels=config.levels)
    store = SoftLabelStore.create(out, make_manifest(trained, quantisation, data=data))
    _console.say(f"store {out}: stride {stride}, k {config.k}, teacher {trained.path}")
    for dataset, _ in images:
        _label_images(trained, dataset, store, config, part=own, parts=parts, verify=verify)


def _label_images(
    trained: "TrainedModel",
    images: "ImageDataset",
    store: "SoftLabelStore",
    config: "LabellingConfig",
    *,
    part: int,
    parts: int,
    verify: bool,
) -> None:
    """Label what a store lacks of our part of some images, and say how it went."""
    import os

    from torch.utils.data import DataLoader, Subset

    from softiou.cli import _console
    from softiou.inference import best_precision
    from softiou.labelling import label, own_device, own_share
    from softiou.training.stopping import ignore_interrupts

    share = own_share(images, part=part, parts=parts)
    damaged = _damaged(store, images, share) if verify else []
    todo = [n for n in share if n in damaged or not store.has(images.folder, images.stems[n])]
    device = own_device(os.environ)
    samples = DataLoader(
        Subset(images, todo),
        batch_size=None,
        num_workers=config.workers,
        worker_init_fn=ignore_interrupts,
    )
    done = label(
        trained.model.to(device),
        samples,
        store,
        folder=images.folder,
        precision=best_precision(device) if config.precision == "auto" else config.precision,
    )
    for _ in _console.track(done, total=len(todo), description=f"labelling {images.folder}"):
        pass
    if images.skipped:
        _console.say(f"{images.folder}: left out {len(images.skipped)} unreadable images")
    held, mebibytes = len(store.stems(images.folder)), store.size_bytes(images.folder) / 2**20
    _console.say(
        f"{images.folder}{f', part {part}/{parts}' if parts > 1 else ''}: {len(todo)} images "
        f"labelled; the store holds {held} of {len(images)} in {mebibytes:.1f} MiB"
    )


def _damaged(store: "SoftLabelStore", images: "ImageDataset", share: list[int]) -> list[int]:
    """Check the files of a share of the images, say which are damaged, and return their numbers."""
    from softiou.cli import _console

    found = []
    for number in share:
        for problem in store.verify(images.folder, images.stems[number]):
            _console.say(f"{problem.file}\n  {problem.message}")
            found.append(number)
    _console.say(f"verified: {len(found)} damaged files" + (", made again" if found else ""))
    return found
