"""From settings to targets: every kind of labels that a configuration can ask for."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from softiou import targets
from softiou.configuration import load_config
from softiou.configuration.data_sections import LabelsConfig
from softiou.configuration.resolved import ResolvedLabels
from softiou.configuration.sections import LossConfig
from softiou.data import Augmentation, DatasetDescription, TrainingStream, open_dataset
from softiou.errors import ConfigError
from softiou.losses.overlap import OVERLAP_LOSSES
from softiou.overlap import active_classes
from softiou.recipes import build_loss, build_target
from softiou.recipes.building import data_labels
from softiou.training import resolving, start_training

DESCRIPTION = DatasetDescription(("a", "b", "c"))
LABELS = torch.tensor([[[0, 0, 0, 1, 1, 255, 2, 2]] * 6])  # (1, 6, 8)


def built(target: torch.Tensor = LABELS, **settings: Any) -> torch.Tensor:
    """Return the probabilities that the settings make of labels, 255 where nothing counts."""
    made = build_target(target, LabelsConfig(**settings), DESCRIPTION)
    probs, valid = targets.to_probs(made, num_classes=3, ignore_index=255)
    return probs.where(valid.unsqueeze(1), 255)


def test_hard_labels_stay() -> None:
    assert build_target(LABELS, LabelsConfig(kind="hard"), DESCRIPTION) is LABELS


def test_uniform_by_hand() -> None:
    row = built(kind="uniform", epsilon=0.3)[0, :, 0]
    assert row[:, 3].tolist() == pytest.approx([0.1, 0.8, 0.1])
    assert (row[:, 5] == 255).all()


def test_boundary_by_hand() -> None:
    row = built(kind="boundary", epsilon=0.3, width=1)[0, :, 0]
    assert row[:, 0].tolist() == pytest.approx([1, 0, 0])
    assert row[:, 2].tolist() == pytest.approx([0.8, 0.1, 0.1])
    assert row[:, 4].tolist() == pytest.approx([0, 1, 0])  # beside an ignored pixel: left alone


def test_thin_objects_stay_hard_unless_asked_otherwise() -> None:
    pole = torch.tensor([[[0, 0, 0, 1, 0, 0, 0]]])
    row = built(pole, kind="boundary", epsilon=0.3)[0, :, 0]
    assert row[1].tolist() == pytest.approx([0, 0, 0.1, 1, 0.1, 0, 0])
    row = built(pole, kind="boundary", epsilon=0.3, adaptive=False)[0, :, 0]
    assert row[1].tolist() == pytest.approx([0, 0, 0.1, 0.8, 0.1, 0, 0])


def test_older_runs_go_on_smoothing_thin_objects() -> None:
    older = ResolvedLabels.model_validate({"kind": "boundary", "epsilon": 0.5, "width": 1})
    assert older.with_defaults().adaptive is False


def test_gaussian_is_that_of_the_targets() -> None:
    expected, _ = targets.to_probs(
        targets.gaussian(LABELS, sigma=0.7, width=2, ignore_index=255), num_classes=3
    )
    found = built(kind="gaussian", sigma=0.7, width=2)
    counts = (LABELS != 255).unsqueeze(1).expand_as(expected)
    torch.testing.assert_close(found[counts], expected[counts])


def test_votes_and_probabilities() -> None:
    masks = torch.tensor([[[[0, 255]], [[1, 255]], [[1, 255]]]])  # (1, 3, 1, 2)
    assert built(masks, kind="votes")[0, :, 0, 0].tolist() == pytest.approx([1 / 3, 2 / 3, 0])
    soft = torch.rand(1, 3, 2, 2)
    assert build_target(soft, LabelsConfig(kind="soft"), DESCRIPTION) is soft


def test_defaults_of_the_kinds() -> None:
    def resolved(text: str) -> LabelsConfig:
        config = load_config(source="digits", overrides=[f"labels={text}"])
        return resolving.resolve(config, open_dataset("digits", "val")).labels

    assert resolved("uniform").epsilon == 0.1
    smoothed = resolved("boundary")
    assert (smoothed.epsilon, smoothed.width, smoothed.adaptive) == (0.5, 1, True)
    assert resolved("hard").adaptive is None
    assert resolved("{kind: boundary, epsilon: 0.2, width: 5}").width == 5
    assert (resolved("gaussian").width, resolved("gaussian").sigma) == (1, 1.0)
    assert resolved("{kind: gaussian, sigma: 2.5}").width == 3
    assert resolved("auto").kind == "hard"


@pytest.mark.parametrize(
    ("settings", "classes", "threshold"),
    [
        ([], "present", 0.01),
        (["labels=votes"], "present", 0.01),
        (["labels=boundary"], "label", 0.5),
        (["labels=uniform"], "label", 0.5),
        (["distillation.teacher=t"], "label", 0.495),  # below the share of the labels
        (["distillation.teacher=t", "distillation.mix=losses"], "label", 0.5),
        (["labels=boundary", "loss.classes=all"], "all", 0.01),
        (["labels=boundary", "loss.classes=label"], "label", 0.01),
        (["labels=boundary", "loss.threshold=0.2"], "label", 0.2),
    ],
)
def test_classes_that_are_nowhere_likely_are_not_taught(
    settings: list[str], classes: str, threshold: float
) -> None:
    config = load_config(source="digits", overrides=settings)
    loss = resolving.resolve(config, open_dataset("digits", "val")).loss
    assert (loss.classes, loss.threshold) == (classes, threshold)


def test_smoothing_teaches_no_class_that_is_not_there() -> None:
    config = load_config(source="digits", overrides=["labels=boundary", "loss.cross_entropy=0"])
    resolved = resolving.resolve(config, open_dataset("digits", "val"))
    labels = torch.tensor([[[0, 0, 0, 0, 1, 1, 1, 1]] * 8])  # class 2 is in the band alone
    logits = torch.randn(1, 3, 8, 8)
    target = build_target(labels, resolved.labels, DESCRIPTION)
    loss = build_loss(resolved.loss, ignore_index=255)
    statistics = loss.statistics(logits, target)[0]
    assert float(statistics.Y[0, 2]) > 1
    active = active_classes(statistics, loss.classes, threshold=loss.threshold)
    assert active.tolist() == [[True, True, False]]


def test_a_kind_and_its_settings_can_be_given_apart() -> None:
    settings = ["labels=boundary", "labels.width=2"]
    for overrides in (settings, settings[::-1]):
        config = load_config(source="d", overrides=overrides)
        assert (config.labels.kind, config.labels.width) == ("boundary", 2)


def test_settings_of_another_kind_are_refused() -> None:
    for settings in ("labels.epsilon=0.3", "labels={kind: boundary, sigma: 2}"):
        with pytest.raises(ConfigError, match=r"needs kind .*, not (auto|boundary)"):
            load_config(source="d", overrides=[settings])


def test_how_the_data_set_hands_out_labels() -> None:
    kinds: tuple[Any, ...] = ("auto", "coverage", "majority", "random", "votes", "soft", "staple")
    found = [data_labels(kind) for kind in kinds]
    assert found == ["auto", "hard", "hard", "votes", "votes", "soft", "staple"]


@pytest.mark.parametrize("kind", ["votes", "random", "staple"])
def test_annotators_that_are_not_there(kind: str, tiny_config: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"labels\.kind: {kind} needs several annotators"):
        start_training(tiny_config(f"labels={kind}"), directory=tmp_path / "run")


def test_random_rater_draws_every_annotator(make_shapes: Any, tmp_path: Path) -> None:
    dataset = open_dataset(make_shapes(tmp_path / "data", annotators=3, train=1), "train")
    plain = Augmentation((40, 48), scale=(1, 1), flip=0, colour=0)
    stream = TrainingStream(dataset, plain, seed=0, random_rater=True)
    masks = dataset[0]["target"]
    drawn = [stream[draw]["target"] for draw in range(60)]
    chosen = [next(r for r in range(3) if torch.equal(masks[r], one)) for one in drawn]
    assert all(10 <= chosen.count(rater) <= 30 for rater in range(3))
    assert torch.equal(stream[7]["target"], drawn[7])


@pytest.mark.parametrize("kind", ["auto", "majority", "votes", "random", "staple", "boundary"])
def test_training_with_annotators(
    kind: str, make_shapes: Any, tiny_config: Any, tmp_path: Path
) -> None:
    data = make_shapes(tmp_path / "data", annotators=2, train=4, val=2)
    config = tiny_config(f"labels={kind}", "optim.steps=2", source=data)
    run = start_training(config, directory=tmp_path / "run")
    kept = load_config(file=run / "config.yaml").labels.kind
    assert kept == ("votes" if kind == "auto" else kind)


@pytest.mark.parametrize("kind", ["uniform", "boundary", "gaussian", "soft", "coverage"])
def test_training_with_softened_labels(kind: str, tiny_config: Any, tmp_path: Path) -> None:
    run = start_training(tiny_config(f"labels={kind}"), directory=tmp_path / "run")
    assert load_config(file=run / "config.yaml").labels.kind == kind


def test_every_loss_of_a_configuration_can_be_built() -> None:
    assert set(get_args(LossConfig.model_fields["kind"].annotation)) == set(OVERLAP_LOSSES)
    for kind, loss in OVERLAP_LOSSES.items():
        settings = LossConfig.model_validate({"kind": kind, "smooth": 0.5, "cross_entropy": 0.4})
        built_loss = build_loss(settings, ignore_index=255)
        assert type(built_loss) is loss
        assert (built_loss.smooth, built_loss.cross_entropy) == (0.5, 0.4)


def test_a_loss_gets_its_own_settings() -> None:
    own = {"alpha": 0.2, "beta": 0.7, "gamma": 1.5, "log": True, "form": 2}
    built_loss = build_loss(LossConfig.model_validate({"kind": "tversky", **own}), ignore_index=255)
    assert {name: getattr(built_loss, name) for name in own} == own
