"""The way of a GPU without a GPU: fake tensors on a "cuda" device raise where devices mix.

Autograd does not run there without a device, so the gradients of our own passes are called
directly. What only a device can show is marked `gpu` elsewhere.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from recipes.test_configs import NUM_CLASSES
from softiou import losses, metrics, targets
from softiou.calibration.pixels import logits_at
from softiou.configuration import load_config
from softiou.configuration.data_sections import LabelsConfig
from softiou.configuration.recipe_files import recipe_names, recipe_path
from softiou.configuration.resolved import ResolvedConfig
from softiou.data import Augmentation, DatasetDescription, SegmentationDataset
from softiou.evaluation import scoring
from softiou.evaluation.scoring import _bands, _Scorer
from softiou.inference import InferenceSettings, ModelPredictor, predict_logits, predict_probs
from softiou.labelling import PLAIN, TeacherSettings, cell_probs
from softiou.metrics.disagreement import _pair_distances
from softiou.models import ModelSpec, SegmentationModel
from softiou.models.custom import CustomModel
from softiou.overlap import PassSettings, chunked, operators, plain, triton
from softiou.overlap.job import Job
from softiou.recipes import DistillationRecipe, Recipe
from softiou.recipes.custom import NOTHING_CUSTOM, CustomParts
from softiou.recipes.data import TrainingData, open_labelled
from softiou.recipes.registry import recipe_for
from softiou.resampling import gather_image_statistics
from softiou.targets import as_target
from softiou.temperature import LogitScaling, _occurs, negative_log_likelihood
from softiou.training.loading import BatchStream
from softiou.training.resolving import resolve
from softiou.training.trainer import build_recipe, open_data, with_own_validation

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(CUDA is not available|LeafSpec|data pointer of FakeTensor)"
)
C, SIZE = 3, (12, 16)
aten = torch.ops.aten

KINDS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "hard": lambda labels, soft: labels,
    "dense": lambda labels, soft: soft,
    "smoothed": lambda labels, soft: targets.smooth(labels, 0.2),
    "boundary": lambda labels, soft: targets.boundary(labels, width=1),
    "gaussian": lambda labels, soft: targets.gaussian(labels, sigma=1.0),
    "votes": lambda labels, soft: targets.votes(torch.stack([labels, labels.flip(1)], 1)),
    "sparse": lambda labels, soft: targets.sparse(*soft.topk(2, 1)[::-1]),
    "teacher": lambda labels, soft: targets.teacher(soft[:, :, ::2, ::2], size=SIZE),
    "confident": lambda labels, soft: targets.confident(targets.teacher(soft), threshold=0.5),
    "mixed": lambda labels, soft: targets.mix((0.5, labels), (0.5, targets.teacher(soft))),
    "pasted": lambda labels, soft: targets.paste(labels, soft, labels > 1),
}


def mask_of(*indices: Tensor | None) -> Tensor | None:
    """Return the mask that is the only index, if there is one."""
    given = [index for index in indices if index is not None]
    return given[0] if len(given) == 1 and given[0].dtype == torch.bool else None


class Zeros(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Answers with a zero where a number is asked for, and with all where places are."""

    number = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is aten._local_scalar_dense.default:
            return float(self.number) if args[0].is_floating_point() else self.number
        if func is aten.nonzero.default:
            return args[0].new_empty((args[0].numel(), args[0].ndim), dtype=torch.int64)
        if func is aten.index.Tensor and (mask := mask_of(*args[1])) is not None:
            assert mask.device == args[0].device
            first = len(args[1]) - 1
            return args[0].flatten(first, first + mask.ndim - 1)
        if func is aten.bincount.default:
            weights, minlength = (*args[1:], None, 0)[:2]
            weights = (kwargs or {}).get("weights", weights)
            minlength = (kwargs or {}).get("minlength", minlength)
            return (args[0] if weights is None else weights).new_empty(minlength)
        return func(*args, **kwargs or {})


class Ones(Zeros):  # type: ignore[no-untyped-call]
    """Answers with a one: a condition holds."""

    number = 1


class OneMode(FakeTensorMode):  # type: ignore[no-untyped-call]
    """A mode that copies of its tensors belong to, too."""

    def __deepcopy__(self, memo: object) -> "OneMode":
        return self


def fake_gpu() -> AbstractContextManager[object]:
    """Return what makes tensors fake while it is entered, and autocast work without a device."""
    stack, zeros = ExitStack(), Zeros()  # type: ignore[no-untyped-call]
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    stack.enter_context(MODE)
    stack.enter_context(zeros)
    return stack


def move(module: Any) -> None:
    """Move a module of real tensors to the fake GPU."""
    module._apply(onto)


MODE = OneMode()  # for all tests: caches keep tensors from one to the next


@pytest.fixture
def gpu() -> Iterator[FakeTensorMode]:
    with fake_gpu():
        yield MODE


def scene(stride: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Logits at a stride, labels and probabilities."""
    size = [length // stride for length in SIZE]
    logits = torch.randn(2, C, *size, device="cuda")
    labels = torch.zeros(2, *SIZE, dtype=torch.uint8, device="cuda")
    return logits, labels, torch.rand(2, C, *SIZE, device="cuda").softmax(1)


def assert_there(*found: Tensor | None) -> None:
    assert all(x is None or x.device.type == "cuda" for x in found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_passes(gpu: FakeTensorMode, kind: str, stride: int, activation: str) -> None:
    logits, labels, soft = scene(stride)
    shape = (2, C, *SIZE)
    target = as_target(KINDS[kind](labels, soft), logits_shape=shape, independent=False)
    settings = PassSettings(activation, cross_entropy=activation != "none", maxima=True)
    valid, weights = labels < 2, torch.rand(2, *SIZE, device="cuda")
    job = Job(logits, (target, target), SIZE, settings, valid, weights)
    assert_there(*plain.gather(job), *(sums := chunked.gather(job)))
    assert_there(gradient := chunked.gradient(job, torch.ones_like(sums.masses)))
    assert gradient.shape == logits.shape


@pytest.mark.parametrize("kind", KINDS)
def test_overlap_losses(gpu: FakeTensorMode, kind: str) -> None:
    logits, labels, soft = scene(2)
    for name in losses.__all__:
        loss = getattr(losses, name)
        if not (isinstance(loss, type) and issubclass(loss, losses.OverlapLoss)):
            continue
        if loss is losses.OverlapLoss:
            continue
        for impl in ("auto", "torch"):
            options: dict[str, Any] = {"cross_entropy": 0.25} if name != "FocalLoss" else {}
            module = loss(upsample="bilinear", impl=impl, **options)
            value = module(logits, KINDS[kind](labels, soft), valid=labels < 2)
            assert_there(value)
            assert value.shape == ()


def test_other_losses(gpu: FakeTensorMode) -> None:
    logits, _, soft = scene()
    assert_there(losses.ChannelWiseDistillation()(logits, soft))
    assert_there(losses.correlation_distance(logits, soft))


# Metrics


METRIC_SETTINGS: dict[str, dict[str, Any]] = {"BoundaryIoU": {"width": 1}}


@pytest.mark.parametrize(
    "name",
    [
        one
        for one in metrics.__all__
        if hasattr(getattr(metrics, one), "update") and one != "GeneralizedEnergyDistance"
    ],
)
def test_metrics(gpu: FakeTensorMode, name: str) -> None:
    _, labels, soft = scene()
    kind: Any = getattr(metrics, name)
    try:
        metric = kind(C, **METRIC_SETTINGS.get(name, {})).to("cuda")
    except TypeError:
        pytest.skip("abstract")
    metric.update(soft, labels)
    assert_there(*(x for x in vars(metric).values() if isinstance(x, Tensor)))
    metric.compute()


def test_the_energy_distance(gpu: FakeTensorMode) -> None:
    masks = torch.zeros(2, 3, *SIZE, dtype=torch.uint8, device="cuda")
    metric = metrics.GeneralizedEnergyDistance(C).to("cuda")
    metric.update(masks[:, :2], masks, valid=masks[:, 0] < 1)
    assert_there(metric.total, metric.images, metric.compute())
    ones = Ones()  # type: ignore[no-untyped-call]
    with ones:  # every class occurs
        pairs = _pair_distances(masks[0].flatten(1), masks[0].flatten(1) < 1, range(C))
    assert_there(pairs)
    assert pairs.shape == (3, 3)


@pytest.mark.parametrize("soft", [False, True])
def test_the_sums_of_an_evaluation(gpu: FakeTensorMode, soft: bool) -> None:
    _, labels, probs = scene()
    decoded = metrics.decode_target(probs if soft else labels, num_classes=C)
    found = gather_image_statistics(probs, probs.argmax(1), decoded, num_classes=C, soft=soft)
    devices: list[str] = []

    def note(x: Tensor) -> Tensor:
        devices.append(x.device.type)
        return x

    found.apply(note)
    assert set(devices) == {"cuda"}


# Recipes and predictions

NETWORK = ("model.architecture=linknet", "model.encoder=tu-test_efficientnet")
SHORT = (
    "model.encoder_weights=none",
    "data.batch_size=2",
    "data.crop_px=[32, 32]",
    "data.workers=0",
    "optim.steps=2",
)


def onto(x: Any) -> Any:
    """Return real tensors, in whatever they are, as fake ones on the GPU."""
    if isinstance(x, Tensor):
        return MODE.from_tensor(x).to("cuda")
    if isinstance(x, dict):
        return {name: onto(one) for name, one in x.items()}
    return x


def opened(*settings: str, section: str | None = None) -> tuple[ResolvedConfig, TrainingData]:
    overrides = [*NETWORK, *SHORT, "optim.validations=1", *settings]
    given = load_config(source="digits", overrides=overrides, section=section)
    config = with_own_validation(given, NOTHING_CUSTOM)
    data = open_labelled(config, NOTHING_CUSTOM)
    if section == "semi_supervised":
        data = open_data(config, NOTHING_CUSTOM)
    return resolve(config, data.training, unlabeled=data.num_unlabeled), data


def first_batch(recipe: Recipe, data: TrainingData) -> Any:
    batches = recipe.training_batches(
        data,
        Augmentation(
            recipe.config.data.crop_px, ignore_index=data.training.description.ignore_index
        ),
        lambda samples, batch_size: BatchStream(samples, batch_size=batch_size, batches=1),
    )
    batch = next(iter(batches))
    return batch[0] if isinstance(batch, tuple) else batch


def move_all_but_scores(recipe: Recipe) -> None:
    for name, module in recipe.named_children():
        if name != "scores":
            move(module)


def assert_steps(recipe: Recipe, batch: Any) -> None:
    """Compute the parts of the loss on a fake GPU, in bf16."""
    with fake_gpu(), torch.autocast("cuda", dtype=torch.bfloat16):
        move_all_but_scores(recipe)
        assert_there(*recipe.parts(onto(batch)).values())


@pytest.mark.parametrize("labels", ["hard", "uniform", "boundary", "gaussian"])
def test_supervised_steps(labels: str) -> None:
    config, data = opened(f"labels.kind={labels}", f"loss.auxiliary={0.4 * (labels == 'hard')}")
    recipe = build_recipe(config, data, NOTHING_CUSTOM, encoder_weights="none")
    assert_steps(recipe, first_batch(recipe, data))


@pytest.mark.parametrize("pseudo_labels", ["soft", "hard"])
def test_semi_supervised_steps(pseudo_labels: str) -> None:
    settings = ("data.train_split=1_8", f"semi_supervised.pseudo_labels={pseudo_labels}")
    config, data = opened(*settings, section="semi_supervised")
    recipe = build_recipe(config, data, NOTHING_CUSTOM, encoder_weights="none")
    assert_steps(recipe, first_batch(recipe, data))


@pytest.mark.parametrize(
    "settings",
    [
        ("mix=targets", "correlation=1", "channel_wise=3", "align=0.5"),
        ("mix=losses", "student_temperature=true", "temperature=2"),
        ("strong=all", "cut_mix=1", "class_mix=0", "threshold=0.5", "keep=2"),
    ],
)
def test_distillation_steps(settings: tuple[str, ...]) -> None:
    given = ("teacher=a", *settings)
    config, data = opened(*(f"distillation.{one}" for one in given), section="distillation")
    description = data.training.description
    spec = ModelSpec("linknet", "tu-test_efficientnet", description.num_classes)
    teacher = SegmentationModel(spec, encoder_weights="none").requires_grad_(False).eval()
    recipe = DistillationRecipe(config, description, teacher=teacher)
    with MODE:
        move(teacher)
    assert_steps(recipe, first_batch(recipe, data))


def test_a_distillation_step_with_stored_soft_labels() -> None:
    config, data = opened("distillation.soft_labels=a", section="distillation")
    recipe = DistillationRecipe(config, data.training.description, teacher=None)
    batch = first_batch(recipe, data)
    shape = (len(batch["image"]), 4, *batch["image"].shape[-2:])
    batch["soft_indices"] = torch.zeros(shape, dtype=torch.uint8)
    batch["soft_weights"] = torch.ones(shape)
    assert_steps(recipe, batch)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_predictions(precision: Any) -> None:
    model = SegmentationModel(
        ModelSpec("linknet", "tu-test_efficientnet", C), encoder_weights="none"
    ).eval()
    with fake_gpu():
        move(model)
        image = torch.zeros(3, 40, 50, dtype=torch.uint8, device="cpu")
        assert_predicts(model, image, precision)


def assert_predicts(model: SegmentationModel, image: Tensor, precision: Any) -> None:
    assert_there(predict_logits(model, image, precision=precision))
    windows = InferenceSettings(window_px=(32, 32), flips=True, scales=(1.0, 0.5))
    for settings in (InferenceSettings(), windows):
        assert_there(predict_probs(model, image, precision=precision, settings=settings))


# Evaluation, calibration and soft labels

SCALING = LogitScaling("vector", (0.5,) * C, (0.0, 0.1, 0.2))


def network() -> SegmentationModel:
    """Return a model on the fake GPU, whose logits have stride 4."""
    model = CustomModel(nn.Conv2d(3, C, 4, stride=4), C).eval()
    with MODE:
        move(model)
    return model


class Described:
    """What an evaluation asks of a data set of one image."""

    def __init__(self, labels: str) -> None:
        self.description, self.labels = DatasetDescription(("a", "b", "c"), 255), labels

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize("labels", ["hard", "votes", "soft"])
def test_scoring_an_image(labels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "require_finite", lambda *_, **__: None)
    monkeypatch.setattr(scoring, "_identity", lambda *_: {})
    monkeypatch.setattr(_Scorer, "_keep", lambda *_: None)  # pictures, of tensors on the CPU
    model, dataset = network(), Described(labels)
    with fake_gpu():
        image = torch.zeros(3, *SIZE, dtype=torch.uint8)
        stored = {
            "hard": torch.zeros(SIZE, dtype=torch.int64),
            "votes": torch.zeros(2, *SIZE, dtype=torch.int64),
            "soft": torch.rand(C, *SIZE),
        }
        sample: Any = {"image": image, "target": stored[labels], "stem": "a"}
        scorer = _Scorer(dataset, torch.device("cuda"), SCALING, 1, "a")  # type: ignore[arg-type]
        predictor = ModelPredictor(model, "bf16")
        settings = InferenceSettings(flips=True)
        for inference in (InferenceSettings(), settings):
            two = _bands(predictor, [image, image], inference, SCALING, several=False)
            for found in map(list, two):
                assert_there(*(probs for _, each in found for probs in each))
                scorer.add(0, sample, found)
    devices: set[str] = set()
    for one in (*scorer.plain, *scorer.calibrated):
        one.apply(lambda x: devices.add(x.device.type) or x)  # type: ignore[func-returns-value]
    assert (len(scorer.plain), len(scorer.calibrated), devices) == (4, 4, {"cuda"})
    assert scorer.confusion.device.type == "cpu"


def test_calibrating_and_labelling() -> None:
    """Pixels come from the CPU; L-BFGS needs gradients, and its loss does not."""
    model = network()
    with fake_gpu():
        image, places = torch.zeros(3, 48, 64, dtype=torch.uint8), torch.zeros(5).long()
        assert_there(logits := logits_at(model, image, places, precision="bf16"))
        assert logits.shape == (5, C)
        for target in (places.to("cuda"), logits.softmax(1)):
            assert negative_log_likelihood(logits, target, SCALING) == 0  # as every number here
            assert_there(_occurs(target, C))
        teacher = TeacherSettings(SCALING, flip=True, scales=(0.5, 1.0))
        for settings in (PLAIN, teacher):
            probs = cell_probs(model, image, stride=4, precision="bf16", settings=settings)
            assert_there(probs)
            assert probs.shape == (C, 12, 16)


# Every recipe that comes with the package, with any labels

LABELS: dict[str, Callable[[int, int, int, int], Tensor]] = {
    "soft": lambda N, C, H, W: torch.rand(N, C, H, W, device="cuda"),  # coverage and staple, too
    "votes": lambda N, C, H, W: torch.zeros(N, 3, H, W, dtype=torch.int64, device="cuda"),
    **dict.fromkeys(
        ("hard", "uniform", "boundary", "gaussian"),  # majority and random are as hard
        lambda N, C, H, W: torch.zeros(N, H, W, dtype=torch.int64, device="cuda"),
    ),
}


def shipped(name: str, kind: Any, dataset: SegmentationDataset) -> ResolvedConfig:
    """Return a recipe with another kind of labels, for a network without an auxiliary head."""
    given = load_config(file=recipe_path(name), overrides=["loss.auxiliary=0", "data.workers=0"])
    changes: dict[str, Any] = {}
    if given.labels.kind != kind:
        changes["labels"] = LabelsConfig(kind=kind)
    if given.semi_supervised:
        changes["semi_supervised"] = given.semi_supervised.model_copy(
            update={"feature_dropout": 0.0}
        )
    return resolve(given.model_copy(update=changes), dataset)


@pytest.fixture(scope="module")
def digits() -> SegmentationDataset:
    return open_labelled(load_config(source="digits"), NOTHING_CUSTOM).training


def recipe_at_stride_4(config: ResolvedConfig, num_classes: int) -> Recipe:
    description = DatasetDescription(tuple(map(str, range(num_classes))), 255)
    options: Any = {"custom": CustomParts(model=nn.Conv2d(3, num_classes, 4, stride=4))}
    if config.distillation:
        teacher = CustomModel(nn.Conv2d(3, num_classes, 8, stride=8), num_classes)
        with MODE:
            move(teacher)
        return DistillationRecipe(config, description, teacher=teacher, **options)
    return recipe_for(config)(config, description, **options)


def made_up_batch(recipe: Recipe, kind: str) -> Any:
    """Return a batch of the size and crop of a recipe."""
    config, (size, others) = recipe.config, recipe.batch_sizes()
    (H, W), C = config.data.crop_px, recipe.description.num_classes

    def images(count: int, *views: int) -> Tensor:
        return torch.zeros(count, *views, 3, H, W, dtype=torch.uint8, device="cuda")

    def inside(count: int) -> Tensor:
        return torch.ones(count, H, W, dtype=torch.bool, device="cuda")

    labelled = {"image": images(size), "inside": inside(size), "stem": ["a"] * size}
    labelled["target"] = LABELS[kind](size, C, H, W)
    if not others:
        return labelled
    views = config.semi_supervised.views if config.semi_supervised else 1
    unlabeled = {"image": images(others), "strong": images(others, views), "stem": ["a"] * others}
    return {"labelled": labelled, "unlabeled": {**unlabeled, "inside": inside(others)}}


@pytest.mark.parametrize("kind", ["soft", "votes"])
def test_supervised_steps_with_other_labels(kind: str, digits: SegmentationDataset) -> None:
    recipe = recipe_at_stride_4(shipped("camvid-jml", kind, digits), NUM_CLASSES["camvid"])
    with fake_gpu(), torch.autocast("cuda", dtype=torch.bfloat16):
        move_all_but_scores(recipe)
        assert_there(*recipe.parts(made_up_batch(recipe, kind)).values())


@pytest.mark.skipif(not triton.is_installed(), reason="needs Triton")
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_served_by_triton(
    name: str, digits: SegmentationDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Job] = []

    def note(job: Job, tensors: object) -> Any:
        jobs.append(job)
        return job.empty(job.dtype)

    monkeypatch.setattr(operators, "gather", note)
    for kind in LABELS:
        jobs.clear()
        config = shipped(name, kind, digits)
        recipe = recipe_at_stride_4(config, NUM_CLASSES[name.partition("-")[0]])
        with fake_gpu():
            move_all_but_scores(recipe)
            with torch.autocast("cuda", dtype=torch.bfloat16):
                recipe.parts(made_up_batch(recipe, kind))
            assert len(jobs) == (1 + config.semi_supervised.views if config.semi_supervised else 1)
            for job in jobs:
                assert (job.logits.device.type, job.logits.dtype) == ("cuda", torch.bfloat16)
                assert [4 * side for side in job.logits.shape[2:]] == list(config.data.crop_px)
                assert operators.served_by(job)[0] == "triton", kind
