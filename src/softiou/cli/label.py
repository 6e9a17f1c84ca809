"""softiou label: a teacher's soft labels of a data set, made once and kept on disk."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from softiou.checkpoints import TrainedModel
    from softiou.data import ImageDataset, SoftLabelStore
    from softiou.recipes import LabellingConfig


def label(
    data: Annotated[str, typer.Argument(help="Data set folder, or digits.")],
    teacher: Annotated[
        Path, typer.Option(metavar="RUN|CKPT", help="Run directory or checkpoint of the teacher.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the soft labels; one that is begun is gone on with.")
    ],
    settings: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads it at run time
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="splits=[train] stride=auto k=auto mass=0.995 levels=56 precision=auto workers=1",
            show_default=False,
        ),
    ] = None,
    part: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="I/N",
            help="Label only part I of N; by default torchrun's ranks share the work.",
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file again at the end, and check it.")
    ] = False,
) -> None:
    """Store a teacher's soft labels, small and restartable, for softiou distill.

    An interrupted run goes on where it stopped, and any number of processes and machines can share
    the work. With --verify, damaged files are named, and the status is 1.
    """
    import os

    from softiou.checkpoints import check_classes, load_trained
    from softiou.cli import _console
    from softiou.data import Quantisation, SoftLabelStore, open_images
    from softiou.labelling import logits_stride, make_manifest, own_part
    from softiou.recipes import load_labelling_config

    config = load_labelling_config(settings or [])
    own, parts = own_part(part, os.environ)
    trained = load_trained(teacher)
    images = {split: open_images(data, split) for split in config.splits}
    for _, description in images.values():
        check_classes(trained, description, data=data)
    stride = logits_stride(trained.model) if config.stride == "auto" else config.stride
    quantisation = Quantisation(stride=stride, k=config.k, mass=config.mass, levels=config.levels)
    store = SoftLabelStore.create(out, make_manifest(trained, quantisation, data=data))
    _console.say(f"store {out}: stride {stride}, k {config.k}, teacher {trained.path}")
    for split, (dataset, _) in images.items():
        _label_split(trained, dataset, store, split, config=config, part=own, parts=parts)
    if verify:
        _verify(store, config.splits)


def _label_split(
    trained: "TrainedModel",
    images: "ImageDataset",
    store: "SoftLabelStore",
    split: str,
    *,
    config: "LabellingConfig",
    part: int,
    parts: int,
) -> None:
    """Label what a store lacks of our part of a split, and say how it went."""
    import os

    from torch.utils.data import DataLoader, Subset

    from softiou.cli import _console
    from softiou.inference import best_precision
    from softiou.labelling import label, own_device, unlabelled
    from softiou.recipes.stopping import ignore_interrupts

    todo = unlabelled(store, split, images, part=part, parts=parts)
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
        split=split,
        precision=best_precision(device) if config.precision == "auto" else config.precision,
    )
    for _ in _console.track(done, total=len(todo), description=f"labelling {split}"):
        pass
    share = f", part {part}/{parts}" if parts > 1 else ""
    held, mebibytes = len(store.stems(split)), store.size_bytes(split) / 2**20
    _console.say(
        f"{split}{share}: {len(todo)} images labelled; the store holds {held} of {len(images)} in "
        f"{mebibytes:.1f} MiB"
    )


def _verify(store: "SoftLabelStore", splits: list[str]) -> None:
    """Read the files of some splits again, name the damaged ones, and end with status 1."""
    from softiou.cli import _console

    problems = [problem for split in splits for problem in store.verify(split)]
    for problem in problems:
        _console.say(f"{problem.file}\n  {problem.message}\n  -> {problem.remedy}")
    _console.say(f"verified: {len(problems)} damaged files")
    if problems:
        raise typer.Exit(1)
