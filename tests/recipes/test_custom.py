"""Own models, losses, data sets, transforms, loggers and callbacks, end to end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import DummyLogger
from torch import Tensor, nn
from torchvision.transforms import v2

from softiou.checkpoints import load_trained, read_checkpoint
from softiou.configuration import load_config
from softiou.data import (
    Augmentation,
    CustomAugmentation,
    CustomDataset,
    DatasetDescription,
    open_dataset,
)
from softiou.errors import CheckpointError, ConfigError, DataError
from softiou.losses import JaccardMetricLoss
from softiou.models import CustomModel
from softiou.training import CustomParts, resume_training, start_training

Make = Callable[..., Any]


class Net(nn.Module):
    """Logits at half the resolution."""

    def __init__(self, *, classes: int = 3, bands: int = 3, as_dict: bool = False) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(bands, 8, 3, stride=2, padding=1)
        self.head = nn.Conv2d(8, classes, 1)
        self.as_dict = as_dict
        self.highest = 0.0

    def forward(self, images: Tensor) -> Any:
        self.highest = max(self.highest, float(images.max()))
        logits = self.head(self.encoder(images).relu())
        return {"out": logits, "aux": logits[:, :1]} if self.as_dict else logits


class Squares(torch.utils.data.Dataset[Any]):
    """Bright squares on noise: four bands, floats in [0, 1]."""

    classes = ("ground", "square")

    def __init__(self, length: int = 6, *, pairs: bool = False) -> None:
        self.length = length
        self.pairs = pairs

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        generator = torch.Generator().manual_seed(index)
        target = torch.zeros(40, 36, dtype=torch.int64)
        target[10 : 20 + index, 8:24] = 1
        image = torch.rand(4, 40, 36, generator=generator) / 2 + target / 2
        return (image, target) if self.pairs else {"image": image, "target": target}


class Remembered(DummyLogger):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, float] = {}

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        metrics = args[0] if args else kwargs["metrics"]
        self.values.update(metrics)


class Counter(Callback):
    """Counts batches."""

    def __init__(self, *, stop_at: int | None = None) -> None:
        self.batches = 0
        self.stop_at = stop_at

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.batches += 1
        if self.batches == self.stop_at:
            raise RuntimeError("interrupted")


def summed_loss(logits: Tensor, target: Tensor) -> Tensor:
    assert logits.shape[-2:] == target.shape[-2:]
    return F.cross_entropy(logits, target, ignore_index=255)


def parts(**changes: Any) -> CustomParts:
    torch.manual_seed(0)
    own: dict[str, Any] = {
        "model": Net(classes=2, bands=4),
        "loss": summed_loss,
        "train_dataset": Squares(),
        "val_dataset": Squares(2, pairs=True),
    }
    return CustomParts(**{**own, **changes})


@pytest.fixture(scope="module")
def config() -> Any:
    settings = ["data.crop_px=[32, 32]", "data.batch_size=2", "data.workers=0", "precision=fp32"]
    settings += ["optim.steps=6", "optim.validations=2", "data.colour=0"]
    return load_config(source="unused", overrides=settings)


def weights(run: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
    return found


def test_everything_of_ones_own_trains_resumes_and_loads(config: Any, tmp_path: Path) -> None:
    logger, counter = Remembered(), Counter()
    whole = start_training(
        config, directory=tmp_path / "whole", custom=parts(loggers=[logger], callbacks=[counter])
    )
    assert counter.batches == 6
    assert {"val/miou_d", "train/loss"} <= set(logger.values)
    # Interrupted, and resumed with a network of other weights: they come from the checkpoint.
    run = tmp_path / "run"
    with pytest.raises(RuntimeError, match="interrupted"):
        start_training(config, directory=run, custom=parts(callbacks=[Counter(stop_at=5)]))
    torch.manual_seed(1)
    resume_training(run, custom=parts(model=Net(classes=2, bands=4), callbacks=[Counter()]))
    for name, expected in weights(whole).items():
        torch.testing.assert_close(weights(run)[name], expected, rtol=0, atol=0)
    net = Net(classes=2, bands=4)
    trained = load_trained(whole, model=net)
    assert isinstance(trained.model, CustomModel)
    assert trained.description.classes == ("ground", "square")
    image = Squares()[0]["image"].unsqueeze(0)
    assert trained.model.predict_logits(image).shape == (1, 2, 40, 36)


def test_parts_are_recorded_by_name(config: Any, tmp_path: Path) -> None:
    run = start_training(config, directory=tmp_path / "run", custom=parts(callbacks=[Counter()]))
    written = load_config(file=run / "config.yaml")
    assert written.custom is not None
    here = Net.__module__
    assert written.custom.model == f"{here}.Net"
    assert written.custom.loss == f"{here}.summed_loss"
    assert written.custom.callbacks == [f"{here}.Counter"]
    assert written.data.source == f"python:{here}.Squares"
    with pytest.raises(
        ConfigError, match=r"resume_training\(RUN, custom=CustomParts\(model=\.\.\."
    ):
        resume_training(run)
    with pytest.raises(CheckpointError, match=rf"{here}\.Net.*model=MODULE"):
        load_trained(run)
    with pytest.raises(CheckpointError, match="do not match"):
        load_trained(run, model=nn.Conv2d(4, 2, 1))


def test_the_command_line_says_that_python_has_to_resume(config: Any, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from softiou.cli import app

    run = start_training(config, directory=tmp_path / "run", custom=parts())
    result = CliRunner().invoke(app, ["train", "--resume", str(run)])
    assert result.exit_code != 0
    text = " ".join((result.output + str(result.exception)).split())
    assert "from Python with the same parts" in text


def test_own_model_on_a_folder_sees_floats_and_may_return_a_dict(
    tiny_config: Make, tmp_path: Path
) -> None:
    net = Net(as_dict=True)
    run = start_training(tiny_config(), directory=tmp_path / "run", custom=CustomParts(model=net))
    assert net.highest <= 1
    values = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert 0 <= values[-1]["val/miou_d"] <= 100
    rates = {
        round(group["initial_lr"], 6)
        for group in read_checkpoint(run / "checkpoints" / "last.ckpt")["optimizer_states"][0][
            "param_groups"
        ]
    }
    assert rates == {0.01, 0.003}  # it has a submodule `encoder`


def test_one_rate_without_an_encoder() -> None:
    assert CustomModel(nn.Conv2d(3, 2, 1), 2).encoder_parameters() == set()


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Flatten(), r"logits \(N, C, h, w\), or a dict"),
        (nn.Conv2d(3, 5, 1), "logits of 2 classes"),
    ],
)
def test_outputs_that_are_no_logits(net: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CustomModel(net, 2)(torch.rand(1, 3, 8, 8))


def test_stride_of_the_input_is_padded_and_cut_off_again() -> None:
    net = Net(classes=2)
    net.input_stride = 8  # type: ignore[assignment]
    model = CustomModel(net, 2)
    image = torch.rand(1, 3, 12, 8)
    assert model(image).shape == (1, 2, 8, 4)
    assert model.predict_logits(image).shape == (1, 2, 12, 8)


def test_classes_are_counted_where_nobody_names_them(config: Any, tmp_path: Path) -> None:
    class Nameless(Squares):
        classes = None  # type: ignore[assignment]

    own = parts(train_dataset=Nameless())
    run = start_training(config, directory=tmp_path / "run", custom=own)
    assert load_trained(run, model=own.model).description.classes == ("class_0", "class_1")
    with pytest.raises(ConfigError, match="name them with `classes`"):
        start_training(
            config, directory=tmp_path / "other", custom=parts(train_dataset=Nameless(), model=None)
        )


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (torch.zeros(3, 8, 8), "or a pair"),
        ((torch.zeros(3, 8, 8), torch.zeros(9, 8, dtype=torch.int64)), "of one size"),
        ((torch.zeros(8, 8), torch.zeros(8, 8)), r"an image \(B, H, W\)"),
    ],
)
def test_samples_that_are_none(sample: Any, message: str) -> None:
    description = DatasetDescription(("a", "b"))
    with pytest.raises(DataError, match=message):
        CustomDataset([sample], description, "train")  # type: ignore[arg-type]


def test_arrays_votes_and_probabilities_are_taken() -> None:
    description = DatasetDescription(("a", "b"))
    image = np.zeros((8, 6, 3), np.uint8)
    hard = CustomDataset([(image, np.ones((8, 6), np.uint8))], description, "train")  # type: ignore[arg-type]
    assert hard[0]["image"].shape == (3, 8, 6)
    assert (hard.labels, hard[0]["target"].dtype) == ("hard", torch.int64)
    votes = CustomDataset([(image, np.ones((4, 8, 6), int))], description, "train")  # type: ignore[arg-type]
    assert (votes.labels, votes.annotators) == ("votes", 4)
    soft = CustomDataset([(image, np.full((2, 8, 6), 0.5))], description, "train")  # type: ignore[arg-type]
    assert (soft.labels, soft[0]["target"].dtype) == ("soft", torch.float32)


def test_a_data_set_of_ones_own_is_not_opened_by_name() -> None:
    with pytest.raises(DataError, match=r"package\.Squares is a Python object"):
        open_dataset("python:package.Squares", "val")


def test_images_without_masks_need_a_data_set_on_disk(config: Any, tmp_path: Path) -> None:
    semi = load_config(source="unused", section="semi_supervised")
    semi = semi.model_copy(update={"data": config.data, "optim": config.optim})
    with pytest.raises(ConfigError, match="remove `val_dataset`"):
        start_training(semi, directory=tmp_path / "run", custom=parts(loss=None))


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"loss": summed_loss}, "needs an `OverlapLoss`"),
        ({"transform": v2.RandomHorizontalFlip()}, "remove your own transform"),
    ],
)
def test_what_semi_supervised_training_does_not_take(
    own: dict[str, Any], message: str, tiny_config: Make, make_shapes: Make, tmp_path: Path
) -> None:
    images = make_shapes(tmp_path / "others", more=3) / "more" / "images"
    config = tiny_config(f"semi_supervised.unlabeled={images}")
    with pytest.raises(ConfigError, match=message):
        start_training(config, directory=tmp_path / "run", custom=CustomParts(**own))


def test_an_overlap_loss_and_a_model_of_ones_own_are_distilled(
    tiny_config: Make, trained: Any, tmp_path: Path
) -> None:
    config = tiny_config(f"distillation.teacher={trained.directory}")
    own = CustomParts(model=Net(), loss=JaccardMetricLoss(cross_entropy=0.5))
    run = start_training(config, directory=tmp_path / "run", custom=own)
    last = run / "checkpoints" / "last.ckpt"
    assert load_trained(last, model=Net()).step == 6
    with pytest.raises(ConfigError, match="softiou distill` needs an `OverlapLoss`"):
        start_training(config, directory=tmp_path / "two", custom=CustomParts(loss=summed_loss))


# Transforms


def sample() -> Any:
    target = torch.arange(40)[None].repeat(30, 1) // 20
    image = (target * 200).to(torch.uint8).repeat(3, 1, 1)
    return {"image": image, "target": target, "stem": "one"}


CROP = Augmentation((32, 32), scale=(1, 1), flip=0, colour=0)


def keyword_only(*, image: Any, mask: Any) -> dict[str, Any]:
    return {"image": image[:, ::-1], "mask": mask[:, ::-1]}


@pytest.mark.parametrize(
    "transform",
    [
        v2.Compose([v2.RandomHorizontalFlip(p=1), v2.RandomCrop((28, 32))]),
        albumentations.Compose([albumentations.HorizontalFlip(p=1)]),
        keyword_only,
        lambda image, target: (image.flip(-1), target.flip(-1)),
    ],
    ids=["torchvision", "albumentations", "keywords", "function"],
)
def test_transforms_move_image_and_target_together(transform: Any) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        found = CustomAugmentation(transform, CROP)(sample())
        assert found["image"].shape == (3, 32, 32)
        assert found["target"].shape == (32, 32)
        assert found["target"].dtype == torch.int64
        inside = found["inside"]
        assert torch.equal(found["image"][0][inside] == 200, found["target"][inside] == 1)
        row = found["target"][found["inside"].any(1)][0]
        assert row[0] == 1  # mirrored: class 1 is on the left


def test_transforms_repeat_with_the_random_state() -> None:
    transform = albumentations.Compose([albumentations.RandomBrightnessContrast(p=1)])
    images = []
    for _ in range(2):
        torch.manual_seed(3)
        images.append(CustomAugmentation(transform, CROP)(sample())["image"])
    assert torch.equal(*images)


def test_training_with_a_transform(tiny_config: Make, tmp_path: Path) -> None:
    own = CustomParts(transform=albumentations.Compose([albumentations.VerticalFlip()]))
    run = start_training(tiny_config(), directory=tmp_path / "run", custom=own)
    written = load_config(file=run / "config.yaml")
    assert written.custom is not None
    assert str(written.custom.transform).endswith("Compose")


def test_transforms_of_the_wrong_size() -> None:
    wrong = CustomAugmentation(lambda image, target: (image, target[:5]), CROP)
    with pytest.raises(ConfigError, match="of its size"):
        wrong(sample())
