"""Semi-supervised learning: what of a mean teacher reaches the student, and what never does."""

import copy
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from softiou.checkpoints import load_trained, read_checkpoint
from softiou.configuration import load_config
from softiou.data import (
    Augmentation,
    StrongColours,
    TrainingStream,
    UnlabeledStream,
    collate,
    open_dataset,
    open_unlabeled,
)
from softiou.errors import CheckpointError, ConfigError, DataError
from softiou.recipes import SemiSupervisedRecipe
from softiou.recipes.alignment import ClassConfidence
from softiou.recipes.mixing import at_the_stride_of, partners
from softiou.training import resolve_config, resume_training, start_training
from softiou.training.loading import BatchStream

Make = Callable[..., Any]

NO_MIX = ("semi_supervised.cut_mix=0", "semi_supervised.class_mix=0")
FEW = 4  # images with masks out of the ten of the split


@pytest.fixture(scope="module")
def few(make_shapes: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes of which four have masks; those of the six others are there, and cannot be read."""
    root: Path = make_shapes(tmp_path_factory.mktemp("few"))
    stems = sorted(path.stem for path in (root / "train" / "images").iterdir())
    (root / "splits").mkdir()
    (root / "splits" / "few.txt").write_text("\n".join(stems[:FEW]))
    for stem in stems[FEW:]:
        (root / "train" / "masks" / f"{stem}.png").write_bytes(b"nobody reads this")
    return root


@pytest.fixture(scope="module")
def semi_config(tiny_config: Make, few: Path) -> Make:
    """Return a function that makes the configuration of a short semi-supervised run."""

    def make(*overrides: str, source: Path = few) -> Any:
        fixed = ("data.train_split=few", "semi_supervised.teacher_precision=fp32")
        return tiny_config(*fixed, *overrides, source=source)

    return make


@pytest.fixture(scope="module")
def batch(few: Path) -> Any:
    """Three labelled crops, and four of which two reach beyond their image."""
    augmentation = Augmentation((64, 32), (1.0, 1.0), 0.5, 0.0)
    labelled = TrainingStream(open_dataset(few, "few"), augmentation, seed=0)
    unlabeled = UnlabeledStream(
        open_unlabeled(few, "few"), augmentation, StrongColours(), views=2, seed=0
    )
    return {
        "labelled": collate([labelled[draw] for draw in range(3)]),
        "unlabeled": collate([unlabeled[draw] for draw in range(4)]),
    }


@pytest.fixture(scope="module")
def make_recipe(semi_config: Make, trained: Any) -> Make:
    """Return a function that makes a recipe whose teacher is a trained model and no copy."""

    def make(*overrides: str) -> SemiSupervisedRecipe:
        from softiou.training.resolving import resolve

        config = semi_config("semi_supervised.ramp=0", *overrides)
        config = resolve(config, open_dataset(config.data.source, "few"), unlabeled=6)
        torch.manual_seed(0)
        assert config.semi_supervised is not None
        recipe = SemiSupervisedRecipe(
            config, load_trained(trained.directory).description, encoder_weights="none"
        )
        recipe.teacher.module.load_state_dict(load_trained(trained.directory).model.state_dict())
        return recipe.eval()  # batch norm that does not move, so that losses can be repeated

    return make


def teacher_probs(recipe: SemiSupervisedRecipe, images: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the teacher's probabilities at the size of the images."""
    with torch.no_grad():
        logits = recipe.teacher.module(images)
    full = F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)
    return (full / temperature).softmax(1)


def confidence(recipe: SemiSupervisedRecipe, images: Tensor) -> Tensor:
    with torch.no_grad():
        probs = recipe.teacher.module(images).softmax(1).amax(1, keepdim=True)
    return F.interpolate(probs, images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


def one_view(batch: Any) -> Any:
    unlabeled = {**batch["unlabeled"], "strong": batch["unlabeled"]["strong"][:, :1]}
    return {**batch, "unlabeled": unlabeled}


# The loss


def test_auxiliary_head_learns_from_the_labels_alone(semi_config: Make, batch: Any) -> None:
    from softiou.training.resolving import resolve

    config = semi_config("semi_supervised.ramp=0", "loss.auxiliary=0.25", *NO_MIX)
    data = open_dataset(config.data.source, "few")
    config = resolve(config, data, unlabeled=6)
    assert config.semi_supervised is not None
    recipe = SemiSupervisedRecipe(config, data.description, encoder_weights="none").eval()
    labelled = batch["labelled"]
    parts = recipe.parts(one_view(batch))
    logits, auxiliary = recipe.model.forward_auxiliary(labelled["image"])
    ours, other = (recipe.loss(one, labelled["target"]) for one in (logits, auxiliary))
    torch.testing.assert_close(parts["auxiliary"], other.detach())
    torch.testing.assert_close(parts["labelled"], (ours + 0.25 * other).detach())
    torch.testing.assert_close(parts["loss"].detach(), parts["labelled"] + parts["unlabeled"])


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_soft_pseudo_labels_weighed_by_confidence(
    temperature: float, make_recipe: Make, batch: Any
) -> None:
    recipe = make_recipe(
        *NO_MIX, f"semi_supervised.temperature={temperature}", "semi_supervised.weight=0.7"
    )
    labelled, unlabeled = batch["labelled"], batch["unlabeled"]
    inside, weights = unlabeled["inside"], confidence(recipe, unlabeled["image"])
    soft = teacher_probs(recipe, unlabeled["image"], temperature)
    ours = recipe.loss(recipe.model(labelled["image"]), labelled["target"])
    theirs = recipe.unlabeled_loss(
        recipe.model(unlabeled["strong"][:, 0]), soft, valid=inside, weights=weights
    )
    kept = (weights * inside).sum() / inside.sum()
    parts = recipe.parts(one_view(batch))
    torch.testing.assert_close(parts["loss"], ours + 0.7 * kept * theirs)
    torch.testing.assert_close(parts["labelled"], ours.detach())
    torch.testing.assert_close(parts["unlabeled"], (kept * theirs).detach())
    torch.testing.assert_close(parts["kept"], kept)
    assert not inside.all()
    assert (recipe.unlabeled_loss.classes, recipe.unlabeled_loss.threshold) == ("both", 0.5)
    assert recipe.unlabeled_loss.cross_entropy == recipe.loss.cross_entropy == 0.25


def test_confidences_by_class(make_recipe: Make, batch: Any) -> None:
    recipe = make_recipe(*NO_MIX, "semi_supervised.class_confidence=true")
    unlabeled = batch["unlabeled"]
    inside, logits = unlabeled["inside"], recipe._teacher_logits(unlabeled["image"])
    highest, classes = logits.softmax(1).max(1)
    cells = at_the_stride_of(logits, inside)
    weights = ClassConfidence(logits.shape[1])(highest, classes, cells)
    weights = F.interpolate(weights.unsqueeze(1), inside.shape[1:], mode="bilinear")[:, 0]
    kept = recipe.parts(one_view(batch))["kept"]
    torch.testing.assert_close(kept, (weights * inside).sum() / inside.sum())
    assert abs(kept - (confidence(recipe, unlabeled["image"]) * inside).sum() / inside.sum()) > 1e-4
    assert {"class_confidence.sums", "class_confidence.cells"} <= set(recipe.state_dict())


def test_confidences_by_class_exclude_a_threshold(make_recipe: Make) -> None:
    with pytest.raises(ConfigError, match="class_confidence: with a threshold"):
        make_recipe("semi_supervised.class_confidence=true", "semi_supervised.pseudo_labels=hard")


def test_unsure_pixels_are_left_out_and_their_share_pulls_less(
    make_recipe: Make, batch: Any
) -> None:
    recipe = make_recipe(*NO_MIX, "semi_supervised.confidence_threshold=0.9")
    unlabeled = batch["unlabeled"]
    probs = teacher_probs(recipe, unlabeled["image"])
    sure = unlabeled["inside"] & (probs.amax(1) >= 0.9)
    assert 0 < int(sure.sum()) < int(unlabeled["inside"].sum())
    theirs = recipe.unlabeled_loss(recipe.model(unlabeled["strong"][:, 0]), probs, valid=sure)
    parts = recipe.parts(one_view(batch))
    kept = sure.sum() / unlabeled["inside"].sum()
    torch.testing.assert_close(parts["kept"], kept)
    torch.testing.assert_close(parts["loss"], parts["labelled"] + kept * theirs)


def test_hard_is_the_practice_of_fixmatch_in_one_word(make_recipe: Make, batch: Any) -> None:
    recipe = make_recipe(*NO_MIX, "semi_supervised.pseudo_labels=hard")
    unlabeled = batch["unlabeled"]
    probs = teacher_probs(recipe, unlabeled["image"])
    sure = unlabeled["inside"] & (probs.amax(1) >= 0.95)
    assert 0 < int(sure.sum()) < int(unlabeled["inside"].sum())
    logits = F.interpolate(recipe.model(unlabeled["strong"][:, 0]), sure.shape[1:], mode="bilinear")
    each = F.cross_entropy(logits, probs.argmax(1), reduction="none")
    practice = (each * sure).sum() / unlabeled["inside"].sum()
    parts = recipe.parts(one_view(batch))
    torch.testing.assert_close(parts["loss"] - parts["labelled"], practice)


def test_views_and_dropped_features_share_the_unlabelled_loss(
    make_recipe: Make, batch: Any
) -> None:
    two = make_recipe(*NO_MIX, "semi_supervised.views=2")
    unlabeled = batch["unlabeled"]
    soft, weights = (f(two, unlabeled["image"]) for f in (teacher_probs, confidence))

    def loss(images: Tensor) -> Tensor:
        found: Tensor = two.unlabeled_loss(
            two.model(images), soft, valid=unlabeled["inside"], weights=weights
        )
        kept: Tensor = (weights * unlabeled["inside"]).sum() / unlabeled["inside"].sum()
        return (kept * found).detach()

    first, second = (loss(images) for images in unlabeled["strong"].unbind(1))
    torch.testing.assert_close(two.parts(batch)["unlabeled"], (first + second) / 2)
    dropping = make_recipe(
        *NO_MIX, "semi_supervised.views=2", "semi_supervised.feature_dropout=1e-12"
    )  # so little that nothing is dropped
    expected = 0.5 * (first + second) / 2 + 0.5 * loss(unlabeled["image"])
    torch.testing.assert_close(dropping.parts(batch)["unlabeled"], expected)


@pytest.mark.parametrize("mix", ["cut_mix", "class_mix"])
def test_share_kept_is_that_of_the_view_after_mixing(
    mix: str, make_recipe: Make, batch: Any
) -> None:
    other = "class_mix" if mix == "cut_mix" else "cut_mix"
    recipe = make_recipe(
        f"semi_supervised.{mix}=1",
        f"semi_supervised.{other}=0",
        "semi_supervised.views=2",
        "semi_supervised.confidence_threshold=0.9",
    )
    views = recipe._views(batch["unlabeled"])
    expected, losses = [], []
    for view in views:
        dense = view.pseudo_target.dense(3, torch.float32)
        sure = dense.valid[:, 0]
        assert not (sure & ~view.inside).any()
        expected.append(sure.sum() / view.inside.sum())
        losses.append(recipe.unlabeled_loss(recipe.model(view.images), dense.y, valid=sure))
    assert expected[0] != expected[1]
    parts = recipe.parts(batch)
    torch.testing.assert_close(parts["kept"], expected[0])
    mean = (expected[0] * losses[0] + expected[1] * losses[1]) / 2
    torch.testing.assert_close(parts["unlabeled"], mean.detach())
    everything = make_recipe("semi_supervised.confidence_threshold=1e-6")  # all that is inside
    for _ in range(3):
        assert float(everything.parts(batch)["kept"]) == pytest.approx(1)


def test_features_are_dropped_in_their_view_alone(make_recipe: Make, batch: Any) -> None:
    recipe = make_recipe(*NO_MIX, "semi_supervised.feature_dropout=0.5")
    groups = [batch["labelled"]["image"], batch["unlabeled"]["image"]]
    plain, _ = recipe._student(groups, drops=False)
    dropped, again = (recipe._student(groups, drops=True)[0] for _ in range(2))
    torch.testing.assert_close(dropped[0], plain[0])
    assert not dropped[1].allclose(plain[1])
    assert dropped[1].equal(again[1])  # chance depends on the step alone
    torch.testing.assert_close(recipe._student(groups, drops=False)[0], plain)


def test_weight_rises_over_the_ramp(make_recipe: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make_recipe("semi_supervised.ramp=0.5", "optim.steps=8", "semi_supervised.weight=2")
    weights = []
    for step in range(6):
        monkeypatch.setattr(type(recipe), "global_step", step)
        weights.append(recipe._weight())
    expected = [2 * torch.exp(torch.tensor(-5 * (1 - min(1, t / 4)) ** 2)).item() for t in range(6)]
    assert weights == pytest.approx(expected)
    assert weights[4] == weights[5] == 2


# Mixing


@pytest.mark.parametrize("mix", ["cut_mix", "class_mix"])
def test_pictures_pseudo_labels_and_weights_are_mixed_alike(
    mix: str, make_recipe: Make, batch: Any
) -> None:
    other = "class_mix" if mix == "cut_mix" else "cut_mix"
    recipe = make_recipe(f"semi_supervised.{mix}=1", f"semi_supervised.{other}=0")
    unlabeled = one_view(batch)["unlabeled"]
    soft, weights = (f(recipe, unlabeled["image"]) for f in (teacher_probs, confidence))
    (view,) = recipe._views(unlabeled)
    region = recipe.shown.region
    assert 0 < int(region.sum()) < region.numel()
    strong = unlabeled["strong"][:, 0]
    for n in range(4):
        own, theirs = ~region[n], region[n]
        partner = int(partners(torch.arange(4))[n])
        assert view.images[n][:, own].equal(strong[n][:, own])
        assert view.images[n][:, theirs].equal(strong[partner][:, theirs])
        torch.testing.assert_close(view.weights[n][theirs], weights[partner][theirs])
        torch.testing.assert_close(view.weights[n][own], weights[n][own])
        dense = view.pseudo_target.dense(3, torch.float32)
        torch.testing.assert_close(dense.y[n][:, theirs], soft[partner][:, theirs])
        torch.testing.assert_close(dense.y[n][:, own], soft[n][:, own])
        inside = torch.where(region, partners(unlabeled["inside"]), unlabeled["inside"])
        assert dense.valid[:, 0].equal(inside)


def test_pseudo_labels_never_exist_at_full_resolution(make_recipe: Make, batch: Any) -> None:
    recipe = make_recipe()
    unlabeled = batch["unlabeled"]
    images, height, width = unlabeled["inside"].shape
    largest = 0

    class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, Tensor) and tensor.is_floating_point():
                    largest = max(largest, tensor.numel())
            return out

    logits = torch.randn(images, 3, height // 4, width // 4)
    recipe._teacher_logits = lambda images: logits
    with Largest():  # type: ignore[no-untyped-call]
        recipe._views(unlabeled)
    # The confidence, one number a pixel, is the largest.
    assert largest == images * height * width


# The teacher


def test_teacher_is_the_average_of_parameters_and_buffers(make_recipe: Make) -> None:
    recipe = make_recipe("semi_supervised.ema=0.6")
    student = recipe.model.train()
    expected: dict[str, Tensor] = {}
    for update in range(5):
        with torch.no_grad():
            for weights in student.parameters():
                weights.add_(torch.randn_like(weights))
            student(torch.rand(2, 3, 32, 32))  # moves the batch norms
        recipe.teacher.update_parameters(student)
        decay = min(0.6, 1 - 1 / (update + 1))
        for name, value in student.state_dict().items():
            if update == 0 or not value.is_floating_point():
                expected[name] = value.clone()
            else:
                expected[name] = decay * expected[name] + (1 - decay) * value
    averages = recipe.teacher.module.state_dict()
    assert any("running_var" in name for name in averages)
    for name, value in expected.items():
        torch.testing.assert_close(averages[name], value)


def test_teacher_is_in_eval_mode_all_through_a_run(
    semi_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = SemiSupervisedRecipe._teacher_logits
    seen: list[bool] = []

    def spied(self: SemiSupervisedRecipe, images: Tensor) -> Tensor:
        before = copy.deepcopy(self.teacher.state_dict())
        logits = ask(self, images)
        seen.append(self.model.training)
        assert not any(module.training for module in self.teacher.modules())
        assert all(value.equal(before[name]) for name, value in self.teacher.state_dict().items())
        return logits

    monkeypatch.setattr(SemiSupervisedRecipe, "_teacher_logits", spied)
    start_training(semi_config("semi_supervised.ramp=0"), directory=tmp_path / "run")
    assert seen == [True] * 6


def test_teacher_learns_nothing_by_itself(make_recipe: Make, batch: Any) -> None:
    recipe = make_recipe()
    recipe.train()  # as the test's recipe is in eval mode
    assert recipe.model.training
    assert not any(module.training for module in recipe.teacher.modules())
    before = copy.deepcopy(recipe.teacher.state_dict())
    recipe.parts(batch)["loss"].backward()
    assert all(weights.grad is None for weights in recipe.teacher.parameters())
    assert all(weights.grad is not None for weights in recipe.model.parameters())
    assert all(value.equal(before[name]) for name, value in recipe.teacher.state_dict().items())
    optimised = recipe.configure_optimizers()["optimizer"].param_groups
    count = sum(len(group["params"]) for group in optimised)
    assert count == len(list(recipe.model.parameters()))


# Whole runs


def lines_of(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def finished(semi_config: Make, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of six steps, what it said, and the files that it opened."""
    opened: list[str] = []
    listening = True

    def hook(event: str, args: Any) -> None:
        if listening and event == "open" and isinstance(args[0], str | os.PathLike):
            opened.append(str(args[0]))

    sys.addaudithook(hook)
    said: list[str] = []
    run = start_training(
        semi_config(), directory=tmp_path_factory.mktemp("semi") / "run", say=said.append
    )
    listening = False
    return run, said, opened


def test_masks_of_unlabelled_images_are_never_opened(finished: Any, few: Path) -> None:
    _, _, opened = finished
    stems = (few / "splits" / "few.txt").read_text().split()
    assert len(stems) == FEW
    images = {Path(path).stem for path in opened if "train/images/" in path}
    masks = {Path(path).stem for path in opened if "train/masks/" in path}
    assert masks == set(stems)
    assert len(images) == 10  # the others were looked at, and cannot have been read as masks
    with pytest.raises(DataError):
        open_dataset(few, "train")[9]


def test_run_tells_of_its_pseudo_labels(finished: Any, few: Path) -> None:
    run, said, _ = finished
    counts = "10 images to train on, 4 with masks; each batch has 2 with masks and 2 without;"
    assert f"{run}: {counts} 3 to validate, 6 steps" in " ".join(said)
    validations = [line for line in lines_of(run) if "val/miou_d" in line]
    assert [line["step"] for line in validations] == [3, 6]
    for line in validations:
        for scores in ("val/", "val/teacher_", "val/pseudo_"):
            assert 0 <= line[f"{scores}miou_d"] <= 100
        assert 0 < line["pseudo/kept"] < 100
        for kind in ("pseudo", "labels"):
            shares = [line[f"{kind}/class/{name}"] for name in ("ground", "box", "nothing")]
            assert sum(shares) == pytest.approx(100, abs=0.01)
        assert line["labels/class/nothing"] == 0
    steps = [line for line in lines_of(run) if "train/loss" in line]
    assert {"train/labelled", "train/unlabeled", "train/kept"} <= set(steps[0])
    folder = run / "pseudo_labels"
    about = json.loads((folder / "pictures.json").read_text())
    assert about["step"] == 6
    kinds = ("weak.jpg", "pseudo.png", "strong.jpg", "mixed.png")
    names = {f"{n}.{kind}" for n in range(len(about["stems"])) for kind in kinds}
    assert {path.name for path in folder.iterdir()} == {*names, "pictures.json"}
    assert all(stem.startswith("train/") for stem in about["stems"])


def test_checkpoint_holds_student_and_teacher(finished: Any, trained: Any) -> None:
    run, _, _ = finished
    last = run / "checkpoints" / "last.ckpt"
    student, teacher = load_trained(last), load_trained(last, weights="teacher")
    state = read_checkpoint(last)["state_dict"]
    assert int(state["teacher.n_averaged"]) == 6
    differ = [
        name
        for name, value in teacher.model.state_dict().items()
        if not value.equal(student.model.state_dict()[name])
    ]
    assert differ
    for name, value in teacher.model.state_dict().items():
        assert value.equal(state[f"teacher.module.{name}"])
    assert (student.name, teacher.name) == ("last.ckpt", "last.ckpt, teacher")
    with pytest.raises(CheckpointError, match="has no teacher"):
        load_trained(trained.directory, weights="teacher")


@pytest.mark.parametrize(("stage", "at"), [("training", 2), ("training", 3), ("validation", 2)])
def test_interrupted_run_ends_like_an_uninterrupted_one(
    stage: str,
    at: int,
    finished: Any,
    semi_config: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step, count = getattr(SemiSupervisedRecipe, f"{stage}_step"), 0

    def counted(self: SemiSupervisedRecipe, batch: Any, index: int) -> Any:
        nonlocal count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, index)

    monkeypatch.setattr(SemiSupervisedRecipe, f"{stage}_step", counted)
    said: list[str] = []
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        start_training(semi_config(), directory=run, say=said.append)
    assert said[-1] == f"interrupted; continue with: softiou semi --resume {run}"
    resume_training(run)
    whole, _, _ = finished
    assert lines_of(run) == lines_of(whole)
    for name in ("last", "best"):
        ours, theirs = (
            read_checkpoint(one / "checkpoints" / f"{name}.ckpt")["state_dict"]
            for one in (run, whole)
        )
        assert list(ours) == list(theirs)
        assert all(value.equal(theirs[key]) for key, value in ours.items())


def test_dropout_is_that_of_an_uninterrupted_run(
    semi_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("model.architecture=deeplabv3plus", "semi_supervised.feature_dropout=0.5")
    step = SemiSupervisedRecipe.training_step
    interrupted = False

    def stopping(self: SemiSupervisedRecipe, batch: Any, index: int) -> Any:
        nonlocal interrupted
        if self.global_step == 1 and not interrupted:
            interrupted = True
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(SemiSupervisedRecipe, "training_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            start_training(semi_config(*settings), directory=tmp_path / "run")
    resume_training(tmp_path / "run")
    whole = start_training(semi_config(*settings), directory=tmp_path / "whole")
    ours, theirs = (
        read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
        for run in (tmp_path / "run", whole)
    )
    assert all(value.equal(theirs[key]) for key, value in ours.items())
    model = load_trained(whole).model
    assert any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in model.modules())


def test_chance_differs_by_batch_and_purpose(make_recipe: Make) -> None:
    recipe = make_recipe()
    draws: dict[str, list[int]] = {"mix": [], "drop": []}
    for batch in range(3):  # three batches of one step, as with optim.accumulate
        recipe._batch = batch
        for purpose, found in draws.items():
            found.append(recipe.generator(purpose).initial_seed())
            assert recipe.generator(purpose).initial_seed() == found[-1]
    assert len({*draws["mix"], *draws["drop"]}) == 6


def test_digits_learn_from_unlabelled_scenes(tmp_path: Path, tiny: tuple[str, ...]) -> None:
    config = load_config(
        source="digits",
        overrides=[
            *tiny,
            "data.train_split=1_16",
            "data.crop_px=[64, 64]",
            "optim.steps=4",
            "optim.validations=1",
            "semi_supervised.pseudo_labels=hard",
            "semi_supervised.batch_size=3",
            "semi_supervised.views=2",
            "semi_supervised.feature_dropout=0.5",
        ],
    )
    said: list[str] = []
    run = start_training(config, directory=tmp_path / "run", say=said.append)
    assert any("2000 images to train on, 125 with masks" in line for line in said)
    kept = load_config(file=run / "config.yaml").semi_supervised
    assert kept is not None
    assert (kept.confidence_threshold, kept.cross_entropy, kept.batch_size) == (0.95, 1.0, 3)


def test_unlabelled_images_come_once_in_each_of_their_own_epochs(few: Path) -> None:
    augmentation = Augmentation((8, 8))
    unlabeled = open_unlabeled(few, "few")  # six, beside four with masks
    stream = UnlabeledStream(unlabeled, augmentation, StrongColours(), views=1, seed=3)
    for world_size in (1, 2, 3):
        seen: list[str] = []
        ranks = [
            BatchStream(
                stream, batch_size=6 // world_size, batches=2, rank=r, world_size=world_size
            )
            for r in range(world_size)
        ]
        for _ in range(2):
            for batches in zip(*ranks, strict=True):
                seen += [stem for batch in batches for stem in batch["stem"]]
        assert len(seen) == 24
        for epoch in range(4):
            assert sorted(seen[6 * epoch : 6 * epoch + 6]) == sorted(unlabeled.stems)


# What is refused


def test_mistakes_are_told(semi_config: Make, shapes: Path, tmp_path: Path) -> None:
    def refused(*overrides: str) -> str:
        with pytest.raises(ConfigError) as error:
            semi_config("semi_supervised.ramp=0.1", *overrides)
        return str(error.value)

    assert "cut_mix + class_mix must be at most 1" in refused(
        "semi_supervised.cut_mix=0.8", "semi_supervised.class_mix=0.3"
    )
    assert "semi_supervised.ema" in refused("optim.ema=0.9")
    assert "exclude each other" in refused("distillation.teacher=somewhere")
    assert "did you mean semi_supervised.temperature" in refused("semi_supervised.temprature=2")
    assert "hard" in refused("semi_supervised.pseudo_labels=firm")
    assert "another image in the batch" in refused("semi_supervised.batch_size=1")
    with pytest.raises(DataError, match="softiou split"):
        start_training(
            semi_config("data.train_split=train", "semi_supervised.ramp=0.1", source=shapes),
            directory=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


def test_resolved_settings_do_not_outlive_the_kind_they_followed_from(
    finished: Any, tmp_path: Path
) -> None:
    file = finished[0] / "config.yaml"

    def settings(*overrides: str) -> Any:
        return load_config(file=file, overrides=list(overrides)).semi_supervised

    soft, hard = settings(), settings("semi_supervised.pseudo_labels=hard")
    assert (soft.confidence_threshold, soft.cross_entropy) == (0, 0.25)
    assert (hard.confidence_threshold, hard.cross_entropy) == (None, None)
    same = settings("semi_supervised.pseudo_labels=soft")
    assert same == soft
    both = settings("semi_supervised.pseudo_labels=hard", "semi_supervised.cross_entropy=0.5")
    assert (both.confidence_threshold, both.cross_entropy) == (None, 0.5)


def test_indices_of_the_loss_hold_for_the_pseudo_labels(make_recipe: Make) -> None:
    assert make_recipe("loss.classes=[1,2]").unlabeled_loss.classes == [1, 2]
    own = make_recipe("loss.classes=[1,2]", "semi_supervised.classes=present")
    assert own.unlabeled_loss.classes == "present"
    with pytest.raises(ConfigError, match="indices"):
        make_recipe("semi_supervised.classes=[7]")


def test_unreadable_unlabelled_images(semi_config: Make, few: Path, tmp_path: Path) -> None:
    data = shutil.copytree(few, tmp_path / "data")
    (data / "train" / "images" / "train9.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"train9\.png"):
        start_training(semi_config("semi_supervised.ramp=0", source=data), directory=tmp_path / "a")
    said: list[str] = []
    start_training(
        semi_config("data.skip_corrupt=true", "semi_supervised.ramp=0", source=data),
        directory=tmp_path / "b",
        say=said.append,
    )
    assert said[0] == "unlabelled: skipped 1 unreadable images"


@pytest.mark.parametrize("split", ["val", "test"])
def test_split_that_is_scored_on_is_not_learnt_from(split: str) -> None:
    config = load_config(
        source="digits", overrides=[f"data.train_split={split}"], section="semi_supervised"
    )
    with pytest.raises(
        DataError,
        match=rf"train_split: .* all \d+ of the split '{split}' .* which is used for evaluation",
    ):
        resolve_config(config)


def test_aligned_pseudo_labels_are_those_of_shifted_logits(make_recipe: Make, batch: Any) -> None:
    recipe = make_recipe("semi_supervised.align=1", *NO_MIX)
    recipe.parts(batch)
    labels = batch["labelled"]["target"]
    counts = labels[labels != 255].bincount(minlength=3)
    torch.testing.assert_close(recipe.alignment.labels, counts / counts.sum())
    recipe.alignment.labels.copy_(torch.tensor([0.2, 0.7, 0.1]))
    unlabeled = batch["unlabeled"]
    found = recipe._views(unlabeled)[0].pseudo_target.dense(3, torch.float32).y
    teacher = recipe.alignment.teacher / recipe.alignment.teacher.sum()
    ratio = (torch.tensor([0.2, 0.7, 0.1]) / teacher).view(1, 3, 1, 1)
    expected = ratio * teacher_probs(recipe, unlabeled["image"])
    expected = (expected / expected.sum(1, keepdim=True)).movedim(1, -1)
    inside = unlabeled["inside"]
    torch.testing.assert_close(found.movedim(1, -1)[inside], expected[inside])
