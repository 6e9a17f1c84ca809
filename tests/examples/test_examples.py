"""The examples for other trainers: a few steps of each, on embedded or generated data."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets.unet import UNet

from examples import monai_volumes, plain_pytorch, smp_lightning
from marks import slow
from softiou import JaccardMetricLoss
from softiou.drop_in.monai import DiceCELoss


def falls(losses: list[float], by: float) -> bool:
    """Whether the last losses are below the first by a factor."""
    return sum(losses[-3:]) / 3 < by * sum(losses[:3]) / 3


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_plain_pytorch(labels: str) -> None:
    model, losses = plain_pytorch.train(labels, steps=20)
    assert len(losses) == 20
    assert falls(losses, 0.8)
    assert 0 < plain_pytorch.evaluate(model, size=4) < 1


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec")
@pytest.mark.parametrize(("mode", "by"), [("multiclass", 0.98), *slow(("binary", 0.8))])
def test_smp_lightning(mode: str, by: float) -> None:
    module = smp_lightning.train(mode, steps=16)
    assert len(module.losses) == 16
    assert falls(module.losses, by)
    assert 0 < module.iou < 1


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_monai_volumes(labels: str) -> None:
    model, losses = monai_volumes.train(labels, steps=12, batch_size=2)
    assert len(losses) == 12
    assert falls(losses, 0.9)
    assert 0 <= monai_volumes.evaluate(model, number=1) <= 1


def test_monai_volumes_know_the_shares() -> None:
    """The volume of a ball, of which whole voxels know less."""
    _, shares = monai_volumes.volumes(2)
    assert shares.shape == (2, 2, 16, 16, 16)
    torch.testing.assert_close(shares.sum(1), torch.ones(2, 16, 16, 16))
    partly = (shares > 0.01) & (shares < 0.99)
    assert partly.float().mean() > 0.01


def test_monai_supervised_trainer() -> None:
    """The loss in MONAI's own trainer, which needs ignite."""
    pytest.importorskip("ignite", reason="MONAI's trainers need pytorch-ignite")
    from monai.engines.trainer import SupervisedTrainer

    torch.manual_seed(0)
    model = UNet(3, 1, 2, channels=(4, 8), strides=(2,))
    images, shares = monai_volumes.volumes(2)
    batches = [{"image": images, "label": shares}] * 8
    losses: list[float] = []
    trainer = SupervisedTrainer(
        torch.device("cpu"),
        max_epochs=1,
        train_data_loader=batches,
        network=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-2),
        loss_function=DiceCELoss(softmax=True),
    )
    trainer.add_event_handler(
        "ITERATION_COMPLETED", lambda engine: losses.append(engine.state.output[0]["loss"])
    )
    trainer.run()
    assert falls(losses, 0.95)


def test_hugging_face_trainer(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs softiou[transformers]")
    pytest.importorskip("accelerate", reason="a Trainer needs accelerate")
    from examples import hugging_face_trainer

    trainer = hugging_face_trainer.make_trainer(
        str(tmp_path), steps=12, use_cpu=True, disable_tqdm=True
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert falls([float(loss) for loss in losses], 0.95)
    found = trainer.evaluate()
    assert 0 < float(found["eval_miou"]) < 1
    assert float(found["eval_loss"]) < float(losses[0])


def test_hugging_face_micro_batches_are_averaged(tmp_path: Path) -> None:
    """Two micro-batches of one step weigh a half each: what the model is given does not matter."""
    pytest.importorskip("transformers", reason="needs softiou[transformers]")
    pytest.importorskip("accelerate", reason="a Trainer needs accelerate")
    from examples import hugging_face_trainer

    trainer = hugging_face_trainer.make_trainer(
        str(tmp_path), steps=1, use_cpu=True, disable_tqdm=True, gradient_accumulation_steps=2
    )
    trainer.current_gradient_accumulation_steps = 2
    scene = hugging_face_trainer.Digits("val", 1)[0]
    batch = {name: value.unsqueeze(0) for name, value in scene.items()}
    model = hugging_face_trainer.model().train()
    whole, _ = trainer.compute_loss(model, dict(batch), return_outputs=True)
    step = trainer.training_step(model, dict(batch))
    assert step.item() == pytest.approx(whole.item() / 2, rel=0.2)  # dropout differs


def test_the_model_of_hugging_face_has_the_same_cross_entropy() -> None:
    """What the model computes at full resolution is our loss at its own, with cross_entropy=1."""
    pytest.importorskip("transformers", reason="needs softiou[transformers]")
    from examples import hugging_face_trainer

    model = hugging_face_trainer.model()
    images, labels = torch.rand(1, 3, 64, 64), torch.randint(0, 2, (1, 64, 64))
    labels[:, :8] = 255
    outputs = model.train(False)(images, labels=labels)
    assert outputs.logits is not None
    loss = JaccardMetricLoss(cross_entropy=1.0, ignore_index=255, upsample="bilinear")
    torch.testing.assert_close(loss(outputs.logits, labels), outputs.loss)
    large = F.interpolate(outputs.logits, labels.shape[-2:], mode="bilinear")
    jaccard = JaccardMetricLoss(ignore_index=255, upsample="bilinear")(outputs.logits, labels)
    torch.testing.assert_close(jaccard, JaccardMetricLoss(ignore_index=255)(large, labels))
