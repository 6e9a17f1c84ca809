"""evaluation.json: every number against NumPy, and files that never get lost."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from evaluation_files import statistics_of
from reference.metric_loops import masses, soft_score, soft_scores
from reference.score_loops import calibration_scores, further_scores
from softiou.calibration import Calibration, Change
from softiou.data import DatasetDescription, Sample, SegmentationDataset, open_dataset
from softiou.errors import CheckpointError
from softiou.evaluation import (
    Evaluation,
    EvaluationResult,
    evaluate,
    read_evaluation,
    save_evaluation,
    scoring,
    to_json,
)
from softiou.evaluation import content as contents
from softiou.evaluation.pictures import thumbnail
from softiou.evaluation.schema import ClassScores, ImageScores
from softiou.inference import InferenceSettings
from softiou.inference.predictors import full_logits
from softiou.metrics import OverlapCounts
from softiou.metrics.registry import CLASS_METRICS, IMAGE_METRICS
from softiou.models import ModelSpec, SegmentationModel
from softiou.resampling import ImageStatistics, weighted_metrics
from softiou.temperature import LogitScaling

CLASSES = DatasetDescription(("a", "b", "c", "never"))
IGNORED = 255


class Given(SegmentationDataset):
    """Images whose targets and predicted probabilities are given; no two of one size."""

    def __init__(self, *, soft: bool = False) -> None:
        self.description, self.split = CLASSES, "test"
        self.soft, self.labels = soft, "soft" if soft else "hard"
        random = np.random.default_rng(0)
        shapes = [(6, 7), (5, 9), (8, 4), (3, 3)]
        self.stems = tuple(f"image{i}" for i in range(len(shapes)))
        self.probs = []
        self.targets: list[NDArray[Any]] = []
        for height, width in shapes:
            scores = random.random((4, height, width)) ** 4
            scores[3] = 0  # "never" is neither predicted nor there
            self.probs.append((scores / scores.sum(0)).astype(np.float32))
            shares = random.random((4, height, width)) ** 4
            shares[3] = 0
            ignored = random.random((height, width)) < 0.2
            if soft:
                target = np.where(ignored, IGNORED, shares / shares.sum(0)).astype(np.float32)
            else:
                target = np.where(ignored, IGNORED, shares.argmax(0)).astype(np.int64)
            self.targets.append(target)
        self.targets[3][...] = IGNORED  # nothing valid in the last one

    def __getitem__(self, index: int) -> Sample:
        height, width = self.probs[index].shape[1:]
        # The number of the image goes through the model as a colour.
        image = torch.full((3, height, width), index, dtype=torch.uint8)
        target = torch.from_numpy(self.targets[index])
        return {"image": image, "target": target, "stem": self.stems[index]}

    def files(self, index: int) -> tuple[Path, ...]:
        return ()


@pytest.fixture
def run_given(monkeypatch: pytest.MonkeyPatch) -> Callable[..., EvaluationResult]:
    """Return a function that evaluates a model which answers with the given probabilities."""

    def run(dataset: Given, **options: Any) -> EvaluationResult:
        def answer(model: object, images: Tensor, **_: Any) -> Tensor:
            return torch.stack(
                [torch.from_numpy(dataset.probs[int(image[0, 0, 0])]).log() for image in images]
            )

        monkeypatch.setattr(scoring, "full_logits", answer)
        model = SegmentationModel(ModelSpec("linknet", "tu-test_efficientnet", 4))
        names = {"data": "given", "checkpoint": "best.ckpt"}
        return evaluate(model, dataset, precision="fp32", **(names | options))

    return run


def calibration(*, scale: float) -> Calibration:
    return Calibration(
        LogitScaling("temperature", scale=(scale,)),
        data="given",
        split="val",
        labels="hard",
        images=1,
        pixels=1,
        seed=0,
        nll=Change(1.0, 0.5),
        ece=Change(2.0, 1.0),
    )


def _reference(dataset: Given) -> dict[str, Any]:
    """The numbers of evaluation.json, from loops over images and classes."""
    counts = np.zeros((len(dataset), 4, 3))  # intersection, predicted, present
    confidences, corrects = [], []
    for n, (probs, target) in enumerate(zip(dataset.probs, dataset.targets, strict=True)):
        valid = (target[0] if dataset.soft else target) != IGNORED
        labels = target.argmax(0) if dataset.soft else target
        preds = probs.argmax(0)
        for c in range(4):
            there, said = (labels == c) & valid, (preds == c) & valid
            counts[n, c] = (there & said).sum(), said.sum(), there.sum()
        confidences.append(probs.max(0)[valid])
        right = np.take_along_axis(target, preds[None], 0)[0] if dataset.soft else labels == preds
        corrects.append(right[valid].astype(float))
    with np.errstate(invalid="ignore"):
        tp, said, there = (counts[..., k] for k in range(3))
        iou, dice = tp / (said + there - tp), 2 * tp / (said + there)
        iou_present = np.where(there > 0, iou, np.nan)
        dice_present = np.where(there > 0, dice, np.nan)
        tp_all, said_all, there_all = counts.sum(0).T
        iou_all = tp_all / (said_all + there_all - tp_all)
        dice_all = 2 * tp_all / (said_all + there_all)
    images, classes = range(3), range(3)  # the last of both have nothing to count
    confidence, correct = np.concatenate(confidences), np.concatenate(corrects)
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs((correct - confidence)[bins == b].sum()) for b in range(15)]
    return {
        "miou_d": iou_all[:3].mean(),
        "miou_i": np.mean([np.nanmean(iou_present[n]) for n in images]),
        "miou_c": np.mean([np.nanmean(iou_present[:, c]) for c in classes]),
        "mdice_d": dice_all[:3].mean(),
        "mdice_i": np.mean([np.nanmean(dice_present[n]) for n in images]),
        "mdice_c": np.mean([np.nanmean(dice_present[:, c]) for c in classes]),
        "accuracy": tp_all.sum() / there_all.sum(),
        "ece_d": sum(gaps) / len(confidence),
        "iou": iou_all,
        "iou_c": [np.nanmean(iou_present[:, c]) for c in classes],
        "dice": dice_all,
        "present": there,
        "miou": [np.nanmean(iou_present[n]) for n in images],
        "image_accuracy": [tp[n].sum() / there[n].sum() for n in images],
        "bins": np.bincount(bins, minlength=15),
    }


def _soft_reference(dataset: Given) -> dict[str, Any]:
    """The numbers against soft labels, from loops over the pixels."""
    sums = np.concatenate(
        [
            masses(probs.reshape(1, 4, -1), target.reshape(1, 4, -1), ignore_index=IGNORED)
            for probs, target in zip(dataset.probs, dataset.targets, strict=True)
        ],
        axis=1,
    )
    whole = sums.sum(1)
    return soft_scores(sums) | {
        "soft_iou": [soft_score(whole[:, c], dice=False) for c in range(4)],
        "soft_dice": [soft_score(whole[:, c], dice=True) for c in range(4)],
    }


def _further_reference(dataset: Given) -> dict[str, float]:
    """Worst cases and calibration, from loops over pixels; images padded with ignored ones."""
    most = max(probs[0].size for probs in dataset.probs)
    probs = np.full((len(dataset), 4, most), 0.25)
    target = np.full((len(dataset), *((4,) if dataset.soft else ()), most), IGNORED, dtype=float)
    confusion = np.zeros((len(dataset), 4, 4), dtype=np.int64)
    for n, (own, truth) in enumerate(zip(dataset.probs, dataset.targets, strict=True)):
        size = own[0].size
        probs[n, :, :size] = own.reshape(4, -1)
        target[n, ..., :size] = truth.reshape(*truth.shape[:-2], -1)
        labels = (truth.argmax(0) if dataset.soft else truth).ravel()
        valid = (truth[0] if dataset.soft else truth).ravel() != IGNORED
        np.add.at(confusion[n], (labels[valid].astype(int), own.argmax(0).ravel()[valid]), 1)
    found = calibration_scores(
        probs,
        target if dataset.soft else target.astype(np.int64),
        num_bins=15,
        ignore_index=IGNORED,
    )
    return found | further_scores(confusion)


@pytest.mark.parametrize("soft", [False, True])
def test_numbers_agree_with_numpy(run_given: Callable[..., EvaluationResult], soft: bool) -> None:
    dataset = Given(soft=soft)
    content, expected = run_given(dataset).content, _reference(dataset)
    if soft:
        expected |= _soft_reference(dataset)
    assert ("soft_dice_d" in content["metrics"]) == soft
    expected |= _further_reference(dataset)
    further = {"ace_d", "biou_d", "bece_d"}  # see the tests of the metrics
    assert further == set(content["metrics"]) - set(expected)
    for name in content["metrics"].keys() & expected.keys():
        scale = 1 if name == "nll" else 100
        value = content["metrics"][name]
        assert value == pytest.approx(scale * expected[name], rel=1e-5), name
    for c in range(3):
        row = content["per_class"][c]
        for name in ("iou", "iou_c", "dice", *(("soft_iou", "soft_dice") if soft else ())):
            assert row[name] == pytest.approx(100 * expected[name][c]), name
        assert row["target_pixels"] == expected["present"][:, c].sum()
        assert row["images"] == (expected["present"][:, c] > 0).sum()
    for n in range(3):
        row = content["images"][n]
        assert row["miou"] == pytest.approx(100 * expected["miou"][n])
        assert row["accuracy"] == pytest.approx(100 * expected["image_accuracy"][n])
    assert content["reliability"]["count"] == expected["bins"].tolist()


def test_undefined_scores_are_null(run_given: Callable[..., EvaluationResult]) -> None:
    content = run_given(Given()).content
    scores = ("iou", "interval", "iou_c", "dice", "accuracy", "boundary_iou", "cece")
    never = {"name": "never"} | dict.fromkeys(scores)
    pixels = {"target_pixels": 0, "predicted_pixels": 0}
    assert content["per_class"][3] == never | pixels | {"images": 0}
    undefined = dict.fromkeys(("miou", "accuracy", "boundary_iou", "ece", "confidence"))
    nothing = undefined | {"counts": {}, "brier": 0, "nll": 0, "pixels": 0}
    assert content["images"][3].items() >= ({"stem": "image3", "size": [3, 3]} | nothing).items()
    empty = content["reliability"]["count"].index(0)
    assert content["reliability"]["confidence"][empty] is None
    json.dumps(content, allow_nan=False)  # raises on NaN


def test_an_unlabelled_class_is_in_no_mean() -> None:
    """Two pixels predicted as a class that the split does not have leave the means alone."""
    present = torch.tensor([[50, 50, 0], [60, 40, 0]])
    right = torch.tensor([[49, 49, 0], [60, 40, 0]])
    predicted = torch.tensor([[49, 49, 2], [60, 40, 0]])
    statistics = ImageStatistics(OverlapCounts(right, predicted, present))
    description = DatasetDescription(("ground", "car", "boat"), 255)
    found = contents.metric_entries(statistics, description)
    assert found["metrics"]["miou_d"] == pytest.approx(100 * (109 / 110 + 89 / 90) / 2)
    assert found["metrics"]["mdice_d"] == pytest.approx(100 * (218 / 219 + 178 / 179) / 2)
    assert found["scored_classes"] == 2
    boat = found["per_class"][2]
    assert (boat["iou"], boat["target_pixels"], boat["predicted_pixels"]) == (None, 0, 2)


def test_unlabelled_classes_in_words() -> None:
    some_class: Any = ClassScores.model_construct
    some_evaluation: Any = Evaluation.model_construct

    def words(**classes: tuple[int, int | None]) -> str:
        scores = [
            some_class(name=name, target_pixels=target, predicted_pixels=predicted)
            for name, (target, predicted) in classes.items()
        ]
        text: str = some_evaluation(classes=tuple(classes), per_class=scores).absent_classes
        return text

    assert words(a=(1, 1), b=(2, 0), c=(3, None)) == ""
    found = words(a=(5, 1), b=(0, 1234), c=(0, 0))
    assert found == "means over 1 of 3 classes, without b (predicted in 1,234 px), c"
    assert words(a=(5, None), b=(0, None)) == "means over 1 of 2 classes, without b"


def test_nothing_valid_gives_nulls(
    run_given: Callable[..., EvaluationResult], tmp_path: Path
) -> None:
    dataset = Given()
    for target in dataset.targets:
        target[...] = IGNORED
    evaluation = run_given(dataset)
    assert set(evaluation.metrics.values()) == {None}
    assert (evaluation.best, evaluation.worst) == ((), ())
    save_evaluation(evaluation, tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_text())["num_images"] == 4


def test_record_says_what_was_evaluated(run_given: Callable[..., EvaluationResult]) -> None:
    content = run_given(Given()).content
    assert content["schema_version"] == 2
    assert (content["data"], content["split"]) == ("given", "test")
    assert (content["checkpoint"], content["num_images"]) == ("best.ckpt", 4)
    assert content["classes"] == ["a", "b", "c", "never"]
    assert content["palette"] == [list(colour) for colour in CLASSES.palette]
    assert content["inference"]["window_px"] is None
    assert content["bootstrap"] == {"resamples": 10000, "seed": 0, "level": 95.0}
    assert list(content) == list(Evaluation.model_fields)
    scores = {info.key for info in CLASS_METRICS} | {info.key for info in IMAGE_METRICS}
    assert content["images"][0].keys() <= ImageScores.model_fields.keys() | scores
    assert content["per_class"][0].keys() <= ClassScores.model_fields.keys() | scores


@pytest.mark.parametrize("soft", [False, True])
def test_sums_of_the_images_give_the_figures(
    run_given: Callable[..., EvaluationResult], soft: bool
) -> None:
    content = run_given(Given(soft=soft)).content
    statistics = statistics_of(content["images"], num_classes=4)
    found = weighted_metrics(statistics, torch.ones(1, 4, dtype=torch.float64)).metrics
    assert {"miou_d", "miou_c_q5", "biou_d", "ece_i", "bece_d", "brier", "nll"} <= found.keys()
    for name, value in found.items():
        scale = 1 if name == "nll" else 100
        assert scale * value.item() == pytest.approx(content["metrics"][name], abs=1e-4), name
    pixels = [row["pixels"] for row in content["images"]]
    assert np.sum(content["confusion"]) == sum(pixels)
    assert np.trace(content["confusion"]) / sum(pixels) == pytest.approx(
        content["metrics"]["accuracy"] / 100
    )


def test_intervals_hold_the_figures(run_given: Callable[..., EvaluationResult]) -> None:
    content = run_given(Given()).content
    # Of the worst images of four nothing can be said.
    worst = {name for name in content["metrics"] if "_q" in name}
    assert content["intervals"].keys() == content["metrics"].keys() - worst
    for name in ("miou_d", "miou_i", "accuracy", "ece_d"):
        low, high = content["intervals"][name]
        assert low < content["metrics"][name] < high, name
    low, high = content["per_class"][0]["interval"]
    assert low < content["per_class"][0]["iou"] < high


def test_labels_are_told_apart(run_given: Callable[..., EvaluationResult]) -> None:
    dataset, other = Given(), Given()
    other.targets[1][0, 0] = 1 - other.targets[1][0, 0] if other.targets[1][0, 0] < 2 else 0
    hashes = [
        [row["truth"] for row in run_given(given).content["images"]]
        for given in (dataset, dataset, other)
    ]
    assert hashes[0] == hashes[1]
    assert [a == b for a, b in zip(hashes[0], hashes[2], strict=True)] == [True, False, True, True]
    assert all(re.fullmatch("[0-9a-f]{16}", text) for text in hashes[0])


def test_calibrated_figures_stand_beside_the_plain_ones(
    run_given: Callable[..., EvaluationResult],
) -> None:
    dataset = Given()
    plain = run_given(dataset).content
    assert plain["calibrated"] is None
    fitted = calibration(scale=0.5)
    content = run_given(
        dataset, calibration=fitted, calibration_path="best.calibration.json"
    ).content
    assert content["metrics"] == plain["metrics"]
    found = content["calibrated"]
    assert (found["kind"], found["path"]) == ("temperature", "best.calibration.json")
    assert (found["data"], found["split"]) == ("given", "val")
    roots = Given()
    roots.probs = [np.sqrt(p) / np.sqrt(p).sum(0) for p in dataset.probs]
    expected = run_given(roots).content
    for name, value in found["metrics"].items():
        assert value == pytest.approx(expected["metrics"][name], rel=1e-4), name
    assert found["reliability"]["count"] == expected["reliability"]["count"]


def test_windows_are_used_and_told(make_shapes: Callable[..., Path], tmp_path: Path) -> None:
    dataset = open_dataset(make_shapes(tmp_path / "data", test=2), "test")
    model = SegmentationModel(ModelSpec("linknet", "tu-test_efficientnet", 3)).eval()
    contents = [
        evaluate(
            model,
            dataset,
            precision="fp32",
            data="d",
            checkpoint="c",
            inference=InferenceSettings(window_px=(32, 32), flips=flips),
            calibration=calibration(scale=2.0),
        ).content
        for flips in (False, True)
    ]
    assert contents[1]["inference"] == {
        "window_px": [32, 32],
        "overlap": 0.5,
        "flips": True,
        "scales": [1.0],
        "precision": "fp32",
    }
    assert contents[0]["metrics"]["nll"] != contents[1]["metrics"]["nll"]
    assert contents[0]["calibrated"]["metrics"]["nll"] != contents[0]["metrics"]["nll"]


def test_on_a_gpu_images_of_equal_size_share_a_pass(
    make_shapes: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(make_shapes(tmp_path / "data", test=5), "test")
    model = SegmentationModel(ModelSpec("linknet", "tu-test_efficientnet", 3)).eval()
    passes: list[int] = []

    def counted(model: SegmentationModel, images: Tensor, **options: Any) -> Tensor:
        passes.append(len(images))
        return full_logits(model, images, **options)

    def run() -> EvaluationResult:
        names: dict[str, Any] = {"data": "d", "checkpoint": "c", "precision": "fp32"}
        inference = InferenceSettings(batch_size=4)  # of windows, as from the command line
        scaled = calibration(scale=2.0)
        return evaluate(model, dataset, calibration=scaled, inference=inference, **names)

    monkeypatch.setattr(scoring, "full_logits", counted)
    alone, passes = run(), []
    monkeypatch.setattr(scoring, "images_at_once", lambda device: 2)
    together = run()
    assert passes == [2, 2, 1]
    assert [image["stem"] for image in together.content["images"]] == list(dataset.stems)
    for key, value in alone.metrics.items():
        assert together.metrics[key] == pytest.approx(value, rel=1e-4, abs=1e-4), key
    of_each = [[image["miou"] for image in one.content["images"]] for one in (alone, together)]
    assert of_each[0] == pytest.approx(of_each[1], abs=0.1)


def test_file_has_a_line_for_each_image_and_class(
    run_given: Callable[..., EvaluationResult],
) -> None:
    content = run_given(Given()).content
    text = to_json(content)
    assert json.loads(text) == json.loads(json.dumps(content))
    assert sum(line.startswith('  {"stem"') for line in text.splitlines()) == 4
    assert sum(line.startswith('  {"name"') for line in text.splitlines()) == 4


def test_examples_are_the_best_and_the_worst(run_given: Callable[..., EvaluationResult]) -> None:
    dataset = Given()
    evaluation = run_given(dataset, num_examples=1)
    scores = {row["stem"]: row["miou"] for row in evaluation.content["images"] if row["miou"]}
    assert [e.stem for e in evaluation.best] == [max(scores, key=lambda stem: scores[stem])]
    assert [e.stem for e in evaluation.worst] == [min(scores, key=lambda stem: scores[stem])]
    assert evaluation.content["examples"]["best"] == [evaluation.best[0].stem]
    # No image is shown twice, and the one without a valid pixel not at all.
    evaluation = run_given(dataset, num_examples=2)
    shown = [e.stem for e in (*evaluation.best, *evaluation.worst)]
    assert sorted(shown) == ["image0", "image1", "image2"]
    assert run_given(dataset, num_examples=0).content["examples"] == {"best": [], "worst": []}


@pytest.mark.parametrize("soft", [False, True])
def test_example_files_hold_image_target_and_prediction(
    run_given: Callable[..., EvaluationResult], soft: bool, tmp_path: Path
) -> None:
    dataset = Given(soft=soft)
    save_evaluation(run_given(dataset, num_examples=4), tmp_path)
    files = {path.name for path in (tmp_path / "examples").iterdir()}
    kinds = ("image.jpg", "target.png", "preds.png")
    assert files == {f"image{n}.{kind}" for n in range(3) for kind in kinds}
    for n in range(3):
        with Image.open(tmp_path / "examples" / f"image{n}.target.png") as mask:
            target = dataset.targets[n]
            expected = target.argmax(0) if soft else target
            if soft:
                expected = np.where(target[0] == IGNORED, IGNORED, expected)
            assert np.asarray(mask).tolist() == expected.tolist()
        with Image.open(tmp_path / "examples" / f"image{n}.preds.png") as mask:
            assert np.asarray(mask).tolist() == dataset.probs[n].argmax(0).tolist()


def test_thumbnails_of_every_image(
    run_given: Callable[..., EvaluationResult], tmp_path: Path
) -> None:
    dataset = Given()
    dataset.stems = ("a", "b/c", "d", "e")
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "old.image.jpg").touch()
    save_evaluation(run_given(dataset), tmp_path)
    folder = tmp_path / "gallery"
    kinds = ("image.jpg", "target.png", "preds.png", "uncertainty.png")
    files = {str(path.relative_to(folder)) for path in folder.rglob("*.*")}
    assert files == {f"{stem}.{kind}" for stem in dataset.stems for kind in kinds}
    with Image.open(folder / "b/c.preds.png") as mask:
        assert np.asarray(mask).tolist() == dataset.probs[1].argmax(0).tolist()
    with Image.open(folder / "b/c.uncertainty.png") as grey:
        expected = 255 * (1 - dataset.probs[1].max(0))
        assert np.abs(np.asarray(grey) - expected).max() <= 9  # sixteen levels
    assert list(tmp_path.glob(".gallery*")) == []


def test_large_images_and_data_sets_have_small_galleries(
    run_given: Callable[..., EvaluationResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "NUM_THUMBNAILS", 2)
    assert list(run_given(Given()).thumbnails) == ["image0", "image2"]
    image, mask = torch.zeros(3, 400, 800, dtype=torch.uint8), torch.zeros(400, 800).long()
    found = thumbnail(image, mask, mask, torch.ones(400, 800), CLASSES.palette)
    for content in found.values():
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.size == (320, 160)


def test_gallery_goes_with_its_evaluation(
    run_given: Callable[..., EvaluationResult], tmp_path: Path
) -> None:
    save_evaluation(run_given(Given()), tmp_path)
    kept = save_evaluation(run_given(Given(), data="other"), tmp_path)
    assert kept is not None
    gallery = tmp_path / kept.name.replace("evaluation", "gallery").removesuffix(".json")
    assert len(list(gallery.iterdir())) == len(list((tmp_path / "gallery").iterdir())) == 16


def test_evaluation_of_something_else_is_kept(
    run_given: Callable[..., EvaluationResult], tmp_path: Path
) -> None:
    dataset = Given()
    assert save_evaluation(run_given(dataset), tmp_path) is None
    assert save_evaluation(run_given(dataset), tmp_path) is None  # the same again: replaced
    kept = save_evaluation(run_given(dataset, data="other"), tmp_path)
    assert kept is not None
    assert kept.name.startswith("evaluation-test-")
    assert json.loads(kept.read_text())["data"] == "given"
    assert (tmp_path / kept.name.replace(".json", ".safetensors")).is_file()
    assert len(list((tmp_path / kept.stem.replace("evaluation", "examples")).iterdir())) > 0
    again = save_evaluation(run_given(dataset, checkpoint="last.ckpt"), tmp_path)
    assert again is not None
    assert json.loads(again.read_text())["data"] == "other"
    assert len(list(tmp_path.glob("evaluation-test-*.json"))) == 2
    assert json.loads((tmp_path / "evaluation.json").read_text())["checkpoint"] == "last.ckpt"
    other = run_given(dataset, checkpoint="last.ckpt", checkpoint_sha256="another file")
    assert save_evaluation(other, tmp_path) is not None


def test_what_is_written_is_read(
    run_given: Callable[..., EvaluationResult], tmp_path: Path
) -> None:
    result = run_given(Given())
    save_evaluation(result, tmp_path)
    assert read_evaluation(tmp_path) == result.evaluation
    assert result.evaluation.metrics == result.metrics
    assert result.evaluation.images[0].score("ece") == result.content["images"][0]["ece"]


def test_sums_lie_beside_as_tensors(
    run_given: Callable[..., EvaluationResult], tmp_path: Path
) -> None:
    evaluation = run_given(Given(soft=True))
    save_evaluation(evaluation, tmp_path)
    path = tmp_path / "evaluation.safetensors"
    expected = evaluation.statistics.tensors()
    with safe_open(path, framework="pt") as file:
        metadata = {"schema_version": "1", "evaluation": evaluation.content["created"]}
        assert file.metadata() == metadata
        assert set(file.keys()) == set(expected)
        for name in file.keys():  # noqa: SIM118 - no dict
            assert torch.equal(file.get_tensor(name), expected[name]), name
    assert {"class_bins_count", "masses_P", "fine_bins_correct"} <= set(expected)


def test_model_that_predicts_nan_is_named(run_given: Callable[..., EvaluationResult]) -> None:
    dataset = Given()
    dataset.probs[2][0, 0, 0] = np.nan
    with pytest.raises(CheckpointError, match=r"best\.ckpt predicts NaN for image2"):
        run_given(dataset)


def test_old_examples_do_not_stay(
    run_given: Callable[..., EvaluationResult], tmp_path: Path
) -> None:
    save_evaluation(run_given(Given(), num_examples=2), tmp_path)
    save_evaluation(run_given(Given(), num_examples=1), tmp_path)
    assert len(list((tmp_path / "examples").iterdir())) == 2 * 3


def test_another_way_of_running_the_model_is_another_evaluation(
    make_shapes: Callable[..., Path], tmp_path: Path
) -> None:
    dataset = open_dataset(make_shapes(tmp_path / "data", test=1), "test")
    model = SegmentationModel(ModelSpec("linknet", "tu-test_efficientnet", 3)).eval()
    kept = []
    for window in (None, (32, 32), (32, 32)):
        found = evaluate(
            model,
            dataset,
            precision="fp32",
            data="d",
            checkpoint="c",
            inference=InferenceSettings(window_px=window),
        )
        kept.append(save_evaluation(found, tmp_path / "run"))
    assert kept[0] is None
    assert kept[1] is not None
    assert kept[2] is None


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_damaged_earlier_file_is_kept_too(
    text: str, run_given: Callable[..., EvaluationResult], tmp_path: Path
) -> None:
    (tmp_path / "evaluation.json").write_text(text)
    kept = save_evaluation(run_given(Given()), tmp_path)
    assert kept is not None
    assert kept.name.startswith("evaluation-unknown-")
    assert kept.read_text() == text


def test_real_model_on_a_folder_of_annotators(
    make_shapes: Callable[..., Path], tmp_path: Path
) -> None:
    dataset = open_dataset(make_shapes(tmp_path / "data", annotators=2, test=3), "test")
    assert dataset.labels == "votes"
    model = SegmentationModel(ModelSpec("linknet", "tu-test_efficientnet", 3)).eval()
    content = evaluate(model, dataset, precision="fp32", data="d", checkpoint="c").content
    assert [row["stem"] for row in content["images"]] == ["test0", "test1", "test2"]
    assert content["per_class"][2]["iou"] is None or content["per_class"][2]["iou"] == 0
    assert sum(row["target_pixels"] for row in content["per_class"]) == 3 * 40 * 48
    assert 0 <= content["metrics"]["ece_d"] <= 100
