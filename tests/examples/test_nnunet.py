"""The trainer class for nnU-Net v2, in nnU-Net itself.

nnU-Net brings twenty packages and wants, from 2.8 on, a timm older than the one that this project
pins, so it is not in the environment of the tests; `docs/how-to/other-trainers.md` says how to make
one that has both.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

paths = pytest.importorskip("nnunetv2.paths", reason="nnU-Net is not installed")
COPY = "nnunetv2.training.nnUNetTrainer.variants.loss.nnUNetTrainerJML"
if not hasattr(paths, "nnUNet_extTrainer") and find_spec(COPY) is None:
    pytest.skip(
        "nnU-Net before 2.8 finds no trainer outside of itself: copy examples/nnunet into it",
        allow_module_level=True,
    )

EXTERNAL = Path(__file__).parents[2] / "examples" / "nnunet"
NAME = "Dataset001_Balls"
pytestmark = pytest.mark.filterwarnings("ignore")  # nnU-Net and what it needs have plenty


def write_volumes(folder: Path, cases: int = 5, side: int = 32) -> None:
    """Balls (label 1) with a core (label 2) in noise, one channel, as NIfTI."""
    nibabel = pytest.importorskip("nibabel")
    random = np.random.default_rng(0)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for case in range(cases):
        grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"))
        distance = np.linalg.norm(grid - random.integers(12, 20, (3, 1, 1, 1)), axis=0)
        labels = (distance < 9).astype(np.uint8) + (distance < 5)
        image = labels + random.normal(0, 0.3, labels.shape).astype(np.float32)
        for path, array in (
            (folder / "imagesTr" / f"case{case}_0000.nii.gz", image),
            (folder / "labelsTr" / f"case{case}.nii.gz", labels),
        ):
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
    content = {
        "channel_names": {"0": "noise"},
        "labels": {"background": 0, "shell": 1, "core": 2},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folders of nnU-Net with a data set that is planned and preprocessed."""
    root = tmp_path_factory.mktemp("nnunet")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("raw", "preprocessed", "results"):
            (root / name).mkdir()
            patch.setenv(f"nnUNet_{name}", str(root / name))
        patch.setenv("nnUNet_extTrainer", str(EXTERNAL))
        patch.setenv("nnUNet_n_proc_DA", "1")
        write_volumes(root / "raw" / NAME)
        api = pytest.importorskip("nnunetv2.experiment_planning.plan_and_preprocess_api")
        api.extract_fingerprints([1], num_processes=1)
        plans = api.plan_experiments([1])
        api.preprocess([1], plans, configurations=["3d_fullres"], num_processes=[1])
        patch.setenv("nnUNet_n_proc_DA", "0")  # loads in this process
        yield root / "preprocessed" / NAME


def make_trainer(prepared: Path, **changes: Any) -> Any:
    """A trainer as `nnUNetv2_train -tr nnUNetTrainerJML` makes it; changes are in dataset.json."""
    run = pytest.importorskip("nnunetv2.run.run_training")
    path = prepared / "dataset.json"
    content = path.read_text(encoding="utf-8")
    path.write_text(json.dumps(json.loads(content) | changes), encoding="utf-8")
    try:
        trainer = run.get_trainer_from_args(
            NAME, "3d_fullres", 0, "nnUNetTrainerJML", device=torch.device("cpu")
        )
    finally:
        path.write_text(content, encoding="utf-8")
    trainer.initialize()
    return trainer


def jaccard(p: Tensor, y: Tensor) -> Tensor:
    """The soft Jaccard loss of (N, C, P), over the batch, for hard y."""
    p, y = p.transpose(0, 1).flatten(1), y.transpose(0, 1).flatten(1)
    both = (p * y).sum(1)
    return (1 - (both + 1e-5) / (p.sum(1) + y.sum(1) - both + 1e-5)).mean()


def outputs_for(trainer: Any, classes: int) -> list[Tensor]:
    scales = trainer._get_deep_supervision_scales()
    return [torch.randn(2, classes, *(round(16 * s) for s in scale)) for scale in scales]


def weights_for(trainer: Any) -> list[float]:
    """Halves from scale to scale, nothing for the coarsest, 1 in all."""
    raw = [0.5**i for i in range(len(trainer._get_deep_supervision_scales()) - 1)]
    return [weight / sum(raw) for weight in raw]


def test_labels_with_deep_supervision_and_an_ignore_label(prepared: Path) -> None:
    classes = {"background": 0, "shell": 1, "core": 2, "ignore": 3}
    trainer = make_trainer(prepared, labels=classes)
    outputs = outputs_for(trainer, 3)
    labels = [torch.randint(0, 4, (2, 1, *x.shape[2:])).float() for x in outputs]
    expected = 0.0
    trainer.loss.loss.loss.per = {"batch": 1.0}  # whatever the plan says
    for weight, x, y in zip(weights_for(trainer), outputs, labels, strict=False):
        y, counts = y[:, 0].long(), y != 3
        onehot = F.one_hot(y, 4)[..., :3].movedim(-1, 1)
        p = x.softmax(1) * counts
        part = F.cross_entropy(x, y, ignore_index=3) + jaccard(p[:, 1:], (onehot * counts)[:, 1:])
        expected += weight * part.item()
    assert trainer.loss(outputs, labels).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("ignore", [False, True])
def test_regions(prepared: Path, ignore: bool) -> None:
    classes: dict[str, Any] = {"background": 0, "ball": [1, 2], "core": 2}
    if ignore:
        classes["ignore"] = 3
    trainer = make_trainer(prepared, labels=classes, regions_class_order=[1, 2])
    outputs = outputs_for(trainer, 2)
    channels = 2 + ignore
    regions = [torch.randint(0, 2, (2, channels, *x.shape[2:])).float() for x in outputs]
    trainer.loss.loss.loss.per = {"batch": 1.0}
    expected = 0.0
    for weight, x, y in zip(weights_for(trainer), outputs, regions, strict=False):
        counts = (y[:, 2:] == 0 if ignore else torch.ones_like(x)).expand_as(x)
        y = y[:, :2]
        entropy = F.binary_cross_entropy_with_logits(x[counts.bool()], y[counts.bool()])
        expected += weight * (entropy + jaccard(x.sigmoid() * counts, y * counts)).item()
    assert trainer.loss(outputs, regions).item() == pytest.approx(expected, rel=1e-5)


def test_without_deep_supervision(prepared: Path) -> None:
    trainer = make_trainer(prepared)
    trainer.enable_deep_supervision = False
    loss = trainer._build_loss()
    value = loss(torch.zeros(1, 3, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4))
    assert value.item() == pytest.approx(np.log(3) + 1, abs=1e-4)  # no shell and no core at all


def test_a_training_runs_and_predicts(prepared: Path) -> None:
    trainer = make_trainer(prepared)
    trainer.num_epochs, trainer.num_iterations_per_epoch = 4, 4
    trainer.num_val_iterations_per_epoch = 2
    trainer.run_training()
    logged = trainer.logger.get_value("train_losses", step=None)
    assert len(logged) == 4
    assert logged[-1] < logged[0]
    assert (Path(trainer.output_folder) / "checkpoint_final.pth").exists()
    trainer.perform_actual_validation()
    summary = Path(trainer.output_folder) / "validation" / "summary.json"
    assert json.loads(summary.read_text(encoding="utf-8"))["foreground_mean"]["Dice"] > 0.2
