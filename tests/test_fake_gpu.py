"""The way of a GPU without a GPU: fake tensors on a "cuda" device raise where devices mix.

Autograd does not run there without a device, so the gradients of our own passes are called
directly. What only a device can show is marked `gpu` elsewhere.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from softiou import losses, metrics, targets
from softiou.configuration import load_config
from softiou.configuration.resolved import ResolvedConfig
from softiou.data import Augmentation
from softiou.inference import InferenceSettings, predict_logits, predict_probs
from softiou.models import ModelSpec, SegmentationModel
from softiou.overlap import PassSettings, chunked, plain
from softiou.overlap.job import Job
from softiou.recipes import DistillationRecipe, Recipe
from softiou.recipes.custom import NOTHING_CUSTOM
from softiou.recipes.data import TrainingData, open_labelled
from softiou.resampling import gather_image_statistics
from softiou.targets import as_target
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


def is_mask(*indices: Tensor | None) -> bool:
    return len(indices) == 1 and indices[0] is not None and indices[0].dtype == torch.bool


class Zeros(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Answers with a zero where a number is asked for, and with all where places are."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is aten._local_scalar_dense.default:
            return 0.0 if args[0].is_floating_point() else 0
        if func is aten.nonzero.default:
            return args[0].new_empty((args[0].numel(), args[0].ndim), dtype=torch.int64)
        if func is aten.index.Tensor and is_mask(*args[1]):
            assert args[1][0].device == args[0].device
            return args[0].flatten(0, args[1][0].ndim - 1)
        if func is aten.bincount.default:
            weights, minlength = (*args[1:], None, 0)[:2]
            weights = (kwargs or {}).get("weights", weights)
            minlength = (kwargs or {}).get("minlength", minlength)
            return (args[0] if weights is None else weights).new_empty(minlength)
        return func(*args, **kwargs or {})


class OneMode(FakeTensorMode):  # type: ignore[no-untyped-call]
    """A mode that copies of its tensors belong to, too."""

    def __deepcopy__(self, memo: object) -> "OneMode":
        return self


def fake_gpu() -> AbstractContextManager[object]:
    """Return what makes tensors fake while it is entered."""
    stack, zeros = ExitStack(), Zeros()  # type: ignore[no-untyped-call]
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
        # The energy distance looks at the values of the masks to see what has to be compared.
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


def assert_steps(recipe: Recipe, batch: Any) -> None:
    """Compute the parts of the loss on a fake GPU."""
    with fake_gpu():
        for name, module in recipe.named_children():
            if name != "scores":
                move(module)
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


@pytest.mark.parametrize("mix", ["targets", "losses"])
def test_distillation_steps(mix: str) -> None:
    settings = ("distillation.teacher=a", f"distillation.mix={mix}", "distillation.class_mix=0")
    config, data = opened(*settings, section="distillation")
    description = data.training.description
    spec = ModelSpec("linknet", "tu-test_efficientnet", description.num_classes)
    teacher = SegmentationModel(spec, encoder_weights="none").requires_grad_(False).eval()
    recipe = DistillationRecipe(config, description, teacher=teacher)
    with MODE:
        move(teacher)
    assert_steps(recipe, first_batch(recipe, data))


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
