"""Distillation: what of a teacher reaches the student, online and from a store."""

import copy
import json
import math
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from softiou import overlap_statistics, targets
from softiou.calibration import Calibration, Change, save_calibration
from softiou.checkpoints import load_trained, read_checkpoint
from softiou.cli.label import label
from softiou.configuration import load_config
from softiou.configuration.data_sections import PRESETS
from softiou.data import Augmentation, Batch, TrainingStream, collate, open_dataset
from softiou.errors import CheckpointError, ConfigError, DataError
from softiou.evaluation import evaluate
from softiou.losses import JaccardMetricLoss, channel_wise_divergence, correlation_distance
from softiou.models import ModelSpec, SegmentationModel
from softiou.recipes import DistillationRecipe, differences_to_baseline, without_teacher
from softiou.recipes.custom import NOTHING_CUSTOM
from softiou.recipes.data import open_labelled
from softiou.recipes.mixing import partners
from softiou.soft_labels import SoftLabelReader, SoftLabelStore
from softiou.temperature import LogitScaling
from softiou.training import resolve_config, resume_training, start_training
from softiou.training.loading import BatchStream

Make = Callable[..., Any]
PLAIN = {"scale": (1.0, 1.0), "flip": 0.0, "colour": 0.0}


@pytest.fixture(scope="module")
def batch(shapes: Path) -> Batch:
    """Two crops of 32 x 32, and one that reaches beyond its image."""
    stream = TrainingStream(open_dataset(shapes, "train"), Augmentation((64, 32), **PLAIN), seed=0)  # type: ignore[arg-type]
    return collate([stream[0], stream[1]])


@pytest.fixture(scope="module")
def make_recipe(tiny_config: Make, trained: Any) -> Make:
    """Return a function that makes a recipe whose teacher is the trained run."""

    def make(*overrides: str, teacher: SegmentationModel | None = None) -> DistillationRecipe:
        config = tiny_config(
            f"distillation.teacher={trained.directory}",
            "distillation.teacher_precision=fp32",
            *overrides,
        )
        torch.manual_seed(0)
        loaded = load_trained(trained.directory)
        recipe = DistillationRecipe(
            config,
            loaded.description,
            teacher=teacher or loaded.model.requires_grad_(False),
            encoder_weights="none",
        )
        return recipe.eval()  # batch norm that does not move, so that losses can be repeated

    return make


def teacher_logits(trained: Any, images: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = load_trained(trained.directory).model(images)
    return logits


# Online


@pytest.mark.parametrize("mix", ["targets", "losses"])
def test_loss_of_the_mixture_or_mixture_of_the_losses(
    mix: str, make_recipe: Make, trained: Any, batch: Batch
) -> None:
    recipe = make_recipe(
        "distillation.weight=0.25", "distillation.temperature=2", f"distillation.mix={mix}"
    )
    labels = batch["target"].clone()
    labels[0, :, :9] = 255  # inside of the image, without a label
    logits, taught = recipe.model(batch["image"]), teacher_logits(trained, batch["image"])
    inside, labelled = batch["inside"].unsqueeze(1), (labels != 255).unsqueeze(1)
    assert (inside & ~labelled).any()
    assert not inside.all()
    soft = (F.interpolate(taught, (64, 32), mode="bilinear") / 2).softmax(1)
    hard = F.one_hot(labels.clamp(max=2).long(), 3).movedim(-1, 1).float()
    if mix == "targets":
        mixed = torch.where(labelled, 0.75 * hard + 0.25 * soft, soft)
        expected = recipe.loss(logits, mixed.where(inside, 255))
    else:
        theirs = recipe.loss(logits, soft.where(inside, 255))
        expected = 0.75 * recipe.loss(logits, labels) + 0.25 * theirs
    parts = recipe.parts({**batch, "target": labels})
    torch.testing.assert_close(parts["loss"], expected)
    assert set(parts) == {"loss", "overlap", "cross_entropy"}


def _learnt(mix: str, weight: float, make_recipe: Make) -> float:
    """Return the probability of free logits that learn a label of 1 and a teacher of 0.7."""
    recipe = make_recipe(
        f"distillation.mix={mix}", f"distillation.weight={weight}", "loss.cross_entropy=0"
    )
    logits = torch.zeros(1, 3, 2, 2)
    logits[:, 2] = -20
    free = logits.requires_grad_()
    taught = torch.tensor([0.3, 0.7, 1e-9]).log().view(1, 3, 1, 1).expand(1, 3, 2, 2)
    given = {
        "target": torch.ones(1, 2, 2, dtype=torch.long),
        "inside": torch.ones(1, 2, 2, dtype=torch.bool),
        "soft_logits": taught,
    }
    optimizer = torch.optim.Adam([free], lr=0.2)
    for step in range(250):
        optimizer.param_groups[0]["lr"] = 0.2 * 0.978**step
        optimizer.zero_grad()
        recipe.loss(free, recipe._joint(recipe._pairs(given))).backward()
        optimizer.step()
    return float(free.softmax(1)[0, 1, 0, 0].detach())


def test_one_loss_learns_the_mixture_and_two_are_a_switch(make_recipe: Make) -> None:
    assert _learnt("targets", 0.5, make_recipe) == pytest.approx(0.85, abs=0.005)
    assert _learnt("losses", 0.3, make_recipe) > 0.98
    assert _learnt("losses", 0.7, make_recipe) == pytest.approx(0.7, abs=0.005)


@pytest.mark.parametrize("labels", ["hard", "boundary", "gaussian"])
def test_the_label_weighs_as_much_however_few_pixels_have_one(
    labels: str, make_recipe: Make, batch: Batch
) -> None:
    recipe = make_recipe("distillation.weight=0.5", f"labels={labels}")
    target = torch.full_like(batch["target"], 255)
    target[0, 30:32, 14:16] = 1
    target = target.where(batch["inside"], 255)
    taught = torch.tensor([0.9, 0.1, 1e-9]).log().view(1, 3, 1, 1).expand(2, 3, 16, 8)
    given = {**batch, "target": target, "soft_logits": taught}
    mixed = recipe._joint(recipe._pairs(given)).completed(255, (64, 32))
    probs, valid = targets.to_probs(mixed, num_classes=3)
    labelled = target == 1
    assert labelled.any()
    assert valid.equal(batch["inside"])
    torch.testing.assert_close(probs[:, 1][labelled].amin(), torch.tensor(0.55))
    torch.testing.assert_close(probs[:, 1][valid & ~labelled].amax(), torch.tensor(0.1))


@pytest.mark.parametrize(
    ("settings", "threshold"),
    [("weight=0.75", 0.247), ("weight=0.1", 0.5), ("weight=1", 0.5), ("mix=losses", 0.5)],
)
def test_a_label_that_the_teacher_contradicts_is_in_the_overlap(
    settings: str, threshold: float, tiny_config: Make
) -> None:
    config = resolve_config(tiny_config("distillation.teacher=a", f"distillation.{settings}"))
    assert (config.loss.classes, config.loss.threshold) == ("label", threshold)


def test_auxiliary_head_learns_the_same(make_recipe: Make, trained: Any, batch: Batch) -> None:
    recipe = make_recipe("distillation.weight=0.25", "loss.auxiliary=0.5")
    logits, auxiliary = recipe.model.forward_auxiliary(batch["image"])
    taught = targets.teacher(teacher_logits(trained, batch["image"]), valid=batch["inside"])
    mixed = targets.mix((0.75, batch["target"]), (0.25, taught))
    losses = [recipe.loss(one, mixed) for one in (logits, auxiliary)]
    parts = recipe.parts(batch)
    torch.testing.assert_close(parts["loss"], losses[0] + 0.5 * losses[1])
    torch.testing.assert_close(parts["auxiliary"], losses[1].detach())


def test_weights_of_zero_and_one(make_recipe: Make, trained: Any, batch: Batch) -> None:
    likely = ("loss.classes=label", "loss.threshold=0.5")
    labels = make_recipe("distillation.weight=1e-30", *likely)  # 0 is refused: nothing is taught
    logits = labels.model(batch["image"])
    torch.testing.assert_close(labels.parts(batch)["loss"], labels.loss(logits, batch["target"]))
    alone = make_recipe("distillation.weight=1")
    taught = targets.teacher(teacher_logits(trained, batch["image"]), valid=batch["inside"])
    torch.testing.assert_close(alone.parts(batch)["loss"], alone.loss(logits, taught))


@pytest.mark.parametrize("share", [0.25, 1.0])
@pytest.mark.parametrize("mix", ["targets", "losses"])
def test_student_temperature_is_that_of_hinton(
    mix: str, share: float, make_recipe: Make, trained: Any, batch: Batch
) -> None:
    recipe = make_recipe(
        "distillation.weight=0.3",
        "distillation.temperature=3",
        "distillation.student_temperature=true",
        f"distillation.mix={mix}",
        f"loss.cross_entropy={share}",
    )
    logits = recipe.model(batch["image"])
    taught = teacher_logits(trained, batch["image"])
    pairs = recipe._pairs({**recipe._joined(batch), "soft_logits": taught})
    full, soft = (F.interpolate(z, (64, 32), mode="bilinear") for z in (logits, taught))
    inside = batch["inside"]
    hard = F.cross_entropy(full, batch["target"].long(), ignore_index=255)
    each = -((soft / 3).softmax(1) * (full / 3).log_softmax(1)).sum(1)
    entropy = 0.7 * hard + 0.3 * 9 * each[inside].mean()
    overlap = recipe.loss.parts(logits, recipe._joint(pairs))["overlap"]
    parts = recipe.parts(batch)
    torch.testing.assert_close(parts["cross_entropy"], entropy.detach())
    torch.testing.assert_close(
        parts["loss"].detach(), (share * entropy + (1 - share) * overlap).detach()
    )


@pytest.mark.parametrize("calibrated", [True, False])
def test_teacher_is_scaled_by_its_calibration(
    calibrated: bool, trained: Any, tiny_config: Make, batch: Batch, tmp_path: Path
) -> None:
    teacher = shutil.copytree(trained.directory, tmp_path / "teacher")
    scaling = LogitScaling("vector", (0.5, 0.4, 0.3), (0.1, 0.0, -0.1))
    change = Change(1.0, 0.5)
    found = Calibration(scaling, "d", "val", "hard", 1, 1, 0, nll=change, ece=change)
    save_calibration(found, load_trained(teacher))
    config = resolve_config(
        tiny_config(
            f"distillation.teacher={teacher}",
            "distillation.temperature=2",
            f"distillation.calibrated={calibrated}",
        )
    )
    data = open_labelled(config, NOTHING_CUSTOM)
    recipe = DistillationRecipe.build(config, data, encoder_weights="none").eval()
    logits = F.interpolate(teacher_logits(trained, batch["image"]), (64, 32), mode="bilinear")
    if calibrated:
        logits = scaling.apply(logits)
    target = recipe._soft_target(recipe._taught(recipe._joined(batch))[0])
    probs, valid = targets.to_probs(target.completed(None, (64, 32)), num_classes=3)
    expected = (logits / 2).softmax(1)
    torch.testing.assert_close(probs.movedim(1, -1)[valid], expected.movedim(1, -1)[valid])
    assert ("LogitScaling" in recipe.learns_from) == calibrated


def test_channel_wise_is_added(make_recipe: Make, trained: Any, batch: Batch) -> None:
    plain = make_recipe()
    both = make_recipe("distillation.channel_wise=3", "distillation.channel_wise_temperature=2")
    logits, taught = plain.model(batch["image"]), teacher_logits(trained, batch["image"])
    cells = F.interpolate(batch["inside"].unsqueeze(1).float(), logits.shape[2:])[:, 0] > 0
    extra = channel_wise_divergence(logits, taught, temperature=2, valid=cells)
    parts = both.parts(batch)
    torch.testing.assert_close(parts["loss"], plain.parts(batch)["loss"] + 3 * extra)
    torch.testing.assert_close(parts["channel_wise"], extra)


def test_correlation_is_added(make_recipe: Make, trained: Any, batch: Batch) -> None:
    plain, both = make_recipe(), make_recipe("distillation.correlation=2")
    logits, taught = plain.model(batch["image"]), teacher_logits(trained, batch["image"])
    cells = F.interpolate(batch["inside"].unsqueeze(1).float(), logits.shape[2:])[:, 0] > 0
    extra = correlation_distance(logits, taught, valid=cells)
    parts = both.parts(batch)
    torch.testing.assert_close(parts["loss"], plain.parts(batch)["loss"] + 2 * extra)
    torch.testing.assert_close(parts["correlation"], extra.detach())


def test_unsure_pixels_are_left_out(make_recipe: Make, trained: Any, batch: Batch) -> None:
    recipe = make_recipe(
        "distillation.weight=1", "distillation.threshold=0.9", "distillation.keep=1"
    )
    taught = targets.teacher(teacher_logits(trained, batch["image"]), valid=batch["inside"])
    probs, valid = targets.to_probs(
        taught.completed(None, (64, 32)), num_classes=3, ignore_index=None
    )
    sure = valid & (probs.amax(1) >= 0.9)
    assert 0 < int(sure.sum()) < int(valid.sum())
    expected = recipe.loss(recipe.model(batch["image"]), probs.argmax(1).where(sure, 255))
    torch.testing.assert_close(recipe.parts(batch)["loss"], expected)


def test_teacher_gets_no_gradient_and_no_place_in_the_checkpoint(
    make_recipe: Make, batch: Batch
) -> None:
    recipe = make_recipe()
    teacher = recipe.teacher.model
    assert teacher is not None
    before = [weights.clone() for weights in teacher.parameters()]
    recipe.parts(batch)["loss"].backward()
    assert all(weights.grad is None for weights in teacher.parameters())
    assert any(weights.grad is not None for weights in recipe.model.parameters())
    assert all(map(torch.equal, before, teacher.parameters()))
    assert not any("teacher" in name for name in recipe.state_dict())
    assert not teacher.training
    assert len(list(recipe.parameters())) == len(list(recipe.model.parameters()))


@pytest.mark.parametrize("architecture", ["unet", "fpn"])
def test_teacher_of_another_architecture_and_stride(
    architecture: str, make_recipe: Make, batch: Batch
) -> None:
    teacher = SegmentationModel(ModelSpec(architecture, "tu-test_efficientnet", 3)).eval()
    recipe = make_recipe("distillation.channel_wise=1", teacher=teacher)
    assert teacher(batch["image"]).shape != recipe.model(batch["image"]).shape or (
        architecture == "unet"
    )
    assert recipe.parts(batch)["loss"].isfinite()


def test_teacher_sees_the_crop_in_its_own_size(
    make_recipe: Make, trained: Any, batch: Batch
) -> None:
    recipe = make_recipe("distillation.teacher_px=[90, 40]")
    seen: list[Any] = []
    teacher = recipe.teacher.model
    assert teacher is not None
    hook = teacher.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    assert recipe.parts(batch)["loss"].isfinite()
    hook.remove()
    assert tuple(seen[0]) == (2, 3, 96, 64)  # the next multiples of its stride


def test_other_classes_are_refused(
    trained: Any, tiny_config: Make, make_shapes: Make, tmp_path: Path
) -> None:
    data = make_shapes(tmp_path / "data", train=2, val=1)
    (data / "dataset.yaml").write_text("classes: [ground, crate, nothing]")
    config = tiny_config(f"distillation.teacher={trained.directory}", source=data)
    with pytest.raises(CheckpointError, match="the data set: 'box' as class 1 instead of 'crate'"):
        start_training(config, directory=tmp_path / "run")


# Configuration


def test_mistakes_are_told() -> None:
    def refused(*overrides: str) -> str:
        with pytest.raises(ConfigError) as error:
            load_config(source="d", overrides=list(overrides))
        return str(error.value)

    assert "set exactly one of teacher and soft_labels" in refused("distillation.weight=0.5")
    assert "all 0" in refused("distillation.teacher=a", "distillation.weight=0")
    assert "teacher_px has no effect" in refused(
        "distillation.soft_labels=store", "distillation.teacher_px=[8, 8]"
    )
    assert "need the teacher's logits" in refused(
        "distillation.soft_labels=store", "distillation.channel_wise=1"
    )
    assert "distillation.weight" in refused("distillation.teacher=a", "distillation.weight=2")
    assert "did you mean distillation.temperature" in refused("distillation.temprature=2")


# From a store


@pytest.fixture(scope="module")
def store(trained: Any, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The soft labels of the trained run at full resolution, in a file for each image."""
    out = tmp_path_factory.mktemp("labels") / "store"
    settings = ["stride=1", "k=3", "precision=fp32", "workers=0", "shard_mib=0"]
    label(str(shapes), trained.directory, out, settings)
    return out


@pytest.fixture(scope="module")
def coarse_store(trained: Any, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same at the teacher's own stride."""
    out = tmp_path_factory.mktemp("labels") / "coarse"
    label(str(shapes), trained.directory, out, ["k=3", "precision=fp32", "workers=0"])
    return out


@pytest.mark.parametrize("name", ["store", "coarse_store"])
def test_store_says_what_the_teacher_says(
    name: str, request: pytest.FixtureRequest, make_recipe: Make, trained: Any, shapes: Path
) -> None:
    # Whole images, not augmented: the teacher sees in both ways the same pixels.
    reader = SoftLabelReader(SoftLabelStore.open(request.getfixturevalue(name)), "train")
    augmentation = Augmentation((64, 64), **PLAIN)  # type: ignore[arg-type]
    stream = TrainingStream(open_dataset(shapes, "train"), augmentation, seed=0, soft_labels=reader)
    batch = collate([stream[draw] for draw in range(4)])
    recipe = make_recipe("distillation.temperature=1.5")
    target = recipe._soft_target(batch).completed(None, (64, 64))
    ours, valid = targets.to_probs(target, num_classes=3)
    assert torch.equal(valid, batch["inside"])
    theirs = _of_whole_images(load_trained(trained.directory).model, batch, shapes)
    difference = (ours - theirs).abs()[valid.unsqueeze(1).expand_as(ours)]
    assert float(difference.mean()) < 0.005
    assert float(difference.max()) < (0.02 if name == "store" else 0.1)


def _of_whole_images(teacher: SegmentationModel, batch: Batch, shapes: Path) -> Tensor:
    """Return the probabilities at T = 1.5 of the whole images, where the crops show them."""
    dataset = open_dataset(shapes, "train")
    found = torch.zeros(len(batch["stem"]), 3, 64, 64)
    for n, stem in enumerate(batch["stem"]):
        image = dataset[dataset.stems.index(stem)]["image"].unsqueeze(0)
        with torch.no_grad():
            probs = (teacher.predict_logits(image) / 1.5).softmax(1)[0]
        found[n, :, batch["inside"][n]] = probs.flatten(1)
    return found


@pytest.mark.parametrize("name", ["store", "coarse_store"])
def test_the_teacher_itself_has_nothing_to_learn_from_its_store(
    name: str, request: pytest.FixtureRequest, make_recipe: Make, trained: Any, shapes: Path
) -> None:
    # The class "nothing" is in no image: a trace of it would be mass that the overlap counts.
    reader = SoftLabelReader(SoftLabelStore.open(request.getfixturevalue(name)), "train")
    dataset = open_dataset(shapes, "train")
    stream = TrainingStream(
        dataset,
        Augmentation((40, 48), **PLAIN),  # type: ignore[arg-type]
        seed=0,
        soft_labels=reader,
    )
    batch = collate([stream[draw] for draw in range(4)])
    target = make_recipe()._soft_target(batch)
    model = load_trained(trained.directory).model
    with torch.no_grad():
        logits = model.predict_logits(batch["image"])
    statistics = overlap_statistics(logits, target).merge_images()
    assert float(statistics.Y[0, 2]) < float(statistics.P[0, 2]) + 1e-3
    loss = JaccardMetricLoss(classes="label", threshold=0.5)(logits, target)  # `classes: auto`
    assert float(loss) < 0.005


def test_a_teacher_that_was_replaced_is_noticed(
    trained: Any, tiny_config: Make, tmp_path: Path
) -> None:
    teacher = shutil.copytree(trained.directory, tmp_path / "teacher")
    config = tiny_config(f"distillation.teacher={teacher}")
    run = start_training(config, directory=tmp_path / "run")
    checkpoints = teacher / "checkpoints"
    shutil.copy(checkpoints / "last.ckpt", checkpoints / "best.ckpt")
    with pytest.raises(CheckpointError, match="started with another teacher"):
        resume_training(run)


def test_averaged_weights_do_not_copy_the_teacher(make_recipe: Make) -> None:
    recipe = make_recipe()
    assert copy.deepcopy(recipe).teacher.model is recipe.teacher.model


@pytest.mark.parametrize("way", ["teacher", "soft_labels"])
def test_threshold_judges_before_softening(way: str, make_recipe: Make, batch: Batch) -> None:
    logits = torch.log(torch.tensor([0.66, 0.33, 0.01])).view(1, 3, 1, 1).expand(2, 3, 64, 32)
    recipe = make_recipe("distillation.threshold=0.6", "distillation.temperature=4")
    given = {**batch, "inside": torch.ones(2, 64, 32, dtype=torch.bool)}
    if way == "soft_labels":
        given["soft_indices"] = torch.arange(3).view(1, 3, 1, 1).expand(2, 3, 64, 32)
        given["soft_weights"] = logits.exp()
    else:
        given["soft_logits"] = logits
    target = recipe._soft_target(given)
    probs, valid = targets.to_probs(target.completed(None, (64, 32)), num_classes=3)
    assert valid.all()  # 0.66 is enough, although 0.4 is left of it
    torch.testing.assert_close(probs, (logits / 4).softmax(1))


def test_distilling_from_a_store_learns(
    coarse_store: Path, tiny_config: Make, tmp_path: Path
) -> None:
    config = tiny_config(
        f"distillation.soft_labels={coarse_store}",
        "distillation.weight=1",  # no labels at all
        "optim.steps=80",
        "optim.validations=4",
    )
    run = start_training(config, directory=tmp_path / "run")
    trained = load_trained(run)
    dataset = open_dataset(config.data.source, "val")
    scores = evaluate(trained.model, dataset, precision="fp32", data="d", checkpoint="c").metrics
    assert cast(float, scores["miou_d"]) > 70


@pytest.mark.parametrize("way", ["teacher", "soft_labels"])
def test_resumed_run_is_the_same(
    way: str,
    coarse_store: Path,
    trained: Any,
    tiny_config: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = trained.directory if way == "teacher" else coarse_store
    config = tiny_config(f"distillation.{way}={source}", "data.scale=[0.5, 2]", "data.colour=0.3")
    whole = start_training(config, directory=tmp_path / "whole")
    calls = []
    step = DistillationRecipe.training_step

    def interrupted(self: DistillationRecipe, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("power cut")
        return step(self, *arguments)

    monkeypatch.setattr(DistillationRecipe, "training_step", interrupted)
    with pytest.raises(RuntimeError, match="power cut"):
        start_training(config, directory=tmp_path / "cut")
    monkeypatch.undo()
    resume_training(tmp_path / "cut")
    one, other = (
        read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
        for run in (whole, tmp_path / "cut")
    )
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_missing_soft_labels_name_the_image(store: Path, tiny_config: Make, tmp_path: Path) -> None:
    copy = shutil.copytree(store, tmp_path / "store")
    next(copy.rglob("train3.*")).unlink()
    config = tiny_config(f"distillation.soft_labels={copy}")
    with pytest.raises(DataError, match="train3"):
        start_training(config, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_store_of_other_classes_is_refused(
    store: Path, make_shapes: Make, tiny_config: Make, tmp_path: Path
) -> None:
    data = make_shapes(tmp_path / "data", train=2, val=1)
    (data / "dataset.yaml").write_text("classes: [ground, crate, nothing]")
    config = tiny_config(f"distillation.soft_labels={store}", source=data)
    with pytest.raises(DataError, match=r"box.*crate|crate.*box"):
        start_training(config, directory=tmp_path / "run")


# The baseline


def test_baseline_has_the_same_settings_but_no_teacher(tiny_config: Make) -> None:
    config = tiny_config("distillation.teacher=a", "labels=boundary")
    plain = without_teacher(config)
    assert plain.distillation is None
    assert plain.model_dump(exclude={"distillation"}) == config.model_dump(exclude={"distillation"})


def test_unfair_baseline_is_refused(trained: Any, tiny_config: Make) -> None:
    config = tiny_config("distillation.teacher=a", "optim.steps=80", "optim.validations=4")
    resolved = resolve_config(config)
    assert (resolved.loss.classes, resolved.loss.threshold) == ("label", 0.495)
    same = resolved.loss.model_copy(update={"classes": "present", "threshold": 0.01})
    resolved = resolved.model_copy(update={"loss": same})
    assert differences_to_baseline(resolved, trained.directory) == []
    told = tiny_config(
        "distillation.teacher=a",
        "optim.steps=80",
        "optim.validations=4",
        "labels=hard",
        "loss.classes=present",
        "loss.threshold=0.01",
        "loss.cross_entropy=1",
    )
    assert differences_to_baseline(resolve_config(told), trained.directory) == [
        "loss.cross_entropy: 1.0, baseline 0.25"
    ]
    short = resolve_config(tiny_config("distillation.teacher=a"))
    with pytest.raises(ConfigError, match=r"another budget\.\n  optim\.steps: 6, baseline 80"):
        differences_to_baseline(short, trained.directory)


def test_baseline_of_before_the_presets_is_fair(
    trained: Any, tiny_config: Make, tmp_path: Path
) -> None:
    run = shutil.copytree(trained.directory, tmp_path / "run")
    written = yaml.safe_load((run / "config.yaml").read_text())
    for name in ({*PRESETS["none"], "augmentation"}) - {"scale", "flip", "colour"}:
        del written["data"][name]
    (run / "config.yaml").write_text(yaml.safe_dump(written))
    settings = ("optim.steps=80", "optim.validations=4", "loss.classes=present")
    config = tiny_config("distillation.teacher=a", "loss.threshold=0.01", *settings)
    assert differences_to_baseline(resolve_config(config), run) == []
    turned = resolve_config(tiny_config("distillation.teacher=a", "data.rotation=5", *settings))
    with pytest.raises(ConfigError, match=r"another budget\.\n  data\.rotation: 5\.0, baseline 0"):
        differences_to_baseline(turned, run)


def test_unfinished_baseline_is_refused(trained: Any, tiny_config: Make, tmp_path: Path) -> None:
    run = shutil.copytree(trained.directory, tmp_path / "run")
    text = (run / "config.yaml").read_text().replace("steps: 80", "steps: 160")
    (run / "config.yaml").write_text(text)
    config = tiny_config("distillation.teacher=a", "optim.steps=160", "optim.validations=4")
    with pytest.raises(ConfigError, match="its training is not finished"):
        differences_to_baseline(resolve_config(config), run)


def test_distilled_baseline_is_refused(
    coarse_store: Path, tiny_config: Make, tmp_path: Path
) -> None:
    config = tiny_config(f"distillation.soft_labels={coarse_store}", "optim.steps=2")
    run = start_training(config, directory=tmp_path / "run")
    with pytest.raises(ConfigError, match="was trained with a teacher"):
        differences_to_baseline(config, run)


# Images without masks


@pytest.mark.parametrize("stride", ["auto", "1"])
def test_self_training_on_stored_labels_of_images_without_masks(
    stride: str, make_shapes: Make, tiny_config: Make, trained: Any, tmp_path: Path
) -> None:
    data = make_shapes(tmp_path / "data", train=6, val=2, unlabeled=3)
    shutil.rmtree(data / "unlabeled" / "masks")
    (data / "splits").mkdir()
    (data / "splits" / "few.txt").write_text("train0\ntrain1\n")
    for index in range(2, 6):
        (data / "train" / "masks" / f"train{index}.png").write_bytes(b"nobody opens this")
    store = tmp_path / "soft"
    label(str(data), trained.directory, store, ["splits=[train]", f"stride={stride}"])
    settings = [f"distillation.soft_labels={store}", "distillation.unlabeled=true"]
    config = tiny_config("data.train_split=few", *settings, source=data)
    with pytest.raises(DataError, match=r"splits='\[unlabeled\]'"):
        start_training(config, directory=tmp_path / "run")
    label(str(data), trained.directory, store, ["splits=[unlabeled]", f"stride={stride}"])
    said: list[str] = []
    run = start_training(config, directory=tmp_path / "run", say=said.append)
    counts = "9 images to train on, 2 with masks; each batch has 1 with masks and 1 without; 2 to"
    assert any(f"{run}: {counts} validate, 6 steps" in line for line in said)
    assert without_teacher(load_config(file=run / "config.yaml")).data.train_split == "few"


def test_online_teacher_of_images_without_masks(
    make_shapes: Make, tiny_config: Make, trained: Any, tmp_path: Path
) -> None:
    data = make_shapes(tmp_path / "data", train=2, val=2, unlabeled=3)
    config = tiny_config(
        f"distillation.teacher={trained.directory}", "distillation.unlabeled=true", source=data
    )
    run = start_training(config, directory=tmp_path / "run")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(line["train/loss"]) for line in lines if "train/loss" in line)


@pytest.mark.parametrize(
    ("share", "size", "counts"), [(0.5, 8, (4, 4)), (0.25, 8, (2, 6)), (0.01, 4, (1, 3))]
)
def test_each_batch_holds_the_share_with_masks(
    share: float, size: int, counts: tuple[int, int], make_partly: Make
) -> None:
    recipe, batches = make_partly(f"data.batch_size={size}", f"distillation.labelled_share={share}")
    assert recipe.batch_sizes() == counts
    for batch in batches:
        joined = recipe._joined(batch)
        labelled = (joined["target"] != 255).flatten(1).any(1)
        assert labelled.tolist() == [True] * counts[0] + [False] * counts[1]
        assert [stem.partition("/")[0] for stem in joined["stem"][counts[0] :]] == (
            ["unlabeled"] * counts[1]
        )


def test_images_with_masks_come_as_often_as_each_other(make_partly: Make) -> None:
    recipe, batches = make_partly("data.batch_size=4", "optim.steps=6")
    seen = Counter(stem for batch in batches for stem in recipe._joined(batch)["stem"])
    assert len(batches) == 3
    # Six draws of two images, and six of five others: in each group, every one before any again.
    assert [seen[f"train{index}"] for index in range(2)] == [3, 3]
    assert sorted(seen[f"unlabeled/unlabeled{index}"] for index in range(5)) == [1, 1, 1, 1, 2]


@pytest.fixture(scope="module")
def partly(make_shapes: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images with masks and five without."""
    folder: Path = make_shapes(tmp_path_factory.mktemp("partly"), train=2, val=2, unlabeled=5)
    return folder


@pytest.fixture(scope="module")
def make_partly(partly: Path, tiny_config: Make, trained: Any) -> Make:
    """Return a function that makes a recipe for these images, and three batches."""

    def make(*overrides: str) -> tuple[DistillationRecipe, list[Any]]:
        known = any("soft_labels" in override for override in overrides)
        teacher = [] if known else [f"distillation.teacher={trained.directory}"]
        config = tiny_config("distillation.unlabeled=true", *teacher, *overrides, source=partly)
        resolved = resolve_config(config)
        data = DistillationRecipe.open_data(config, open_labelled(config, NOTHING_CUSTOM))
        recipe = DistillationRecipe.build(resolved, data, encoder_weights="none").eval()
        crops = Augmentation(resolved.data.crop_px, **PLAIN)  # type: ignore[arg-type]

        def stream(samples: Any, batch_size: int) -> BatchStream:
            return BatchStream(samples, batch_size=batch_size, batches=3)

        with warnings.catch_warnings():  # Lightning's own
            warnings.filterwarnings("ignore", "`isinstance")
            return recipe, [batch for batch, _, _ in recipe.training_batches(data, crops, stream)]

    return make


def test_one_image_a_batch_cannot_be_of_both_kinds(make_partly: Make) -> None:
    with pytest.raises(ConfigError, match=r"data\.batch_size: .* at least 2, but got 1"):
        make_partly("data.batch_size=1")


def _halves(logits: Tensor, size: tuple[int, int], **_: Any) -> Tensor:
    """Replace the left half of each image by its partner's."""
    region = torch.zeros(len(logits), *size, dtype=torch.bool)
    region[:, :, : size[1] // 2] = True
    return region


@pytest.mark.parametrize("strong", ["none", "unlabeled", "all"])
@pytest.mark.parametrize("way", ["teacher", "stride=auto", "stride=1"])
def test_student_learns_the_weak_view_on_the_strong_one(
    way: str,
    strong: str,
    make_partly: Make,
    partly: Path,
    trained: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = ["data.batch_size=4", f"distillation.strong={strong}", "distillation.colour=1"]
    if way != "teacher":
        store = tmp_path / "store"
        label(str(partly), trained.directory, store, ["splits=[train,unlabeled]", way, "k=3"])
        settings.append(f"distillation.soft_labels={store}")
    recipe, batches = make_partly(*settings)
    monkeypatch.setattr("softiou.recipes.distillation.draw_regions", _halves)
    batch, joined = batches[0], recipe._joined(batches[0])
    lesson = recipe._lesson(batch)
    taught, logits = recipe._taught(joined)
    probs, valid = targets.to_probs(
        recipe._joint(recipe._pairs(taught)).completed(255, (32, 32)), num_classes=3
    )
    found, inside = targets.to_probs(
        recipe._joint(lesson.pairs).completed(255, (32, 32)), num_classes=3
    )
    weak = {"none": 4, "unlabeled": 2, "all": 0}[strong]
    left = torch.zeros(4, 32, 32, dtype=torch.bool)
    left[weak:, :, :16] = True

    def pasted(values: Tensor) -> Tensor:
        mask = left if values.ndim == 3 else left.unsqueeze(1)
        return torch.where(mask, values.roll(1, 0), values)

    assert lesson.images.equal(pasted(joined["view"]))
    torch.testing.assert_close(found, pasted(probs))
    assert inside.equal(pasted(valid))
    assert lesson.inside.equal(pasted(joined["inside"]))
    same = [joined["view"][n].equal(joined["image"][n]) for n in range(4)]
    assert all(same[:weak])
    assert not all(same[weak:]) or strong == "none"
    if logits is not None:
        stride = 32 // logits.shape[-1]
        cells = left[:, ::stride, ::stride].unsqueeze(1)
        assert lesson.teacher_logits.equal(torch.where(cells, logits.roll(1, 0), logits))


def test_sum_of_two_losses_is_pasted_part_by_part(
    make_partly: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("softiou.recipes.distillation.draw_regions", _halves)
    recipe, batches = make_partly("data.batch_size=4", "distillation.mix=losses")
    lesson, joined = recipe._lesson(batches[0]), recipe._joined(batches[0])
    (_, labels), (_, soft) = lesson.pairs
    _, labelled = targets.to_probs(labels.completed(255, (32, 32)), num_classes=3)
    _, taught = targets.to_probs(soft.completed(255, (32, 32)), num_classes=3)
    expected = joined["target"] != 255
    expected[2, :, :16] = expected[1, :, :16].clone()  # a part of the last image with a mask
    assert labelled.equal(expected)
    assert taught.equal(lesson.inside)
    assert recipe.parts(batches[0])["loss"].isfinite()


def test_classes_are_pasted_from_a_store_of_full_resolution(
    make_partly: Make, partly: Path, trained: Any, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    label(str(partly), trained.directory, store, ["splits=[train,unlabeled]", "stride=1"])
    recipe, batches = make_partly(
        f"distillation.soft_labels={store}",
        "data.batch_size=4",
        "distillation.cut_mix=0",
        "distillation.class_mix=1",
    )
    joined = recipe._joined(batches[0])
    theirs: Any = {name: partners(x) for name, x in joined.items() if isinstance(x, Tensor)}
    region = recipe._regions(theirs, [2, 2])
    best = joined["soft_indices"][:, 0].long().roll(1, 0)
    both = [n for n in range(4) if len(best[n, ::4, ::4].unique()) == 2]
    assert both
    for n in both:  # one class of the partner, but for its borders
        agreement = (region[n] == (best[n] == 0)).float().mean()
        assert max(agreement, 1 - agreement) > 0.9


def test_aligned_soft_labels_are_those_of_shifted_logits(make_recipe: Make, batch: Batch) -> None:
    recipe = make_recipe("distillation.align=0.5")
    views, logits = recipe._taught(recipe._joined(batch))
    assert recipe.alignment is not None
    assert logits is not None
    labels = recipe.alignment.labels / recipe.alignment.labels.sum()
    counts = batch["target"][batch["target"] != 255].bincount(minlength=3)
    torch.testing.assert_close(labels, counts / counts.sum())
    shift = (views["soft_logits"] - logits)[0, :, 0, 0]
    teacher = recipe.alignment.teacher / recipe.alignment.teacher.sum()
    known = counts > 0
    torch.testing.assert_close(shift[known], 0.5 * (labels / teacher).log()[known])


def test_a_store_has_no_logits_to_align(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="align has no effect"):
        load_config(
            source="digits", overrides=["distillation.soft_labels=x", "distillation.align=1"]
        )
