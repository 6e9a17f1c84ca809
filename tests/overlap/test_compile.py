"""The pass inside compiled and exported programs: no graph break, the same numbers."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from softiou import targets
from softiou.losses import JaccardMetricLoss
from softiou.overlap import PassSettings
from softiou.overlap.job import Job
from softiou.overlap.operators import _pack

pytestmark = pytest.mark.filterwarnings("ignore")  # of the compiler's own making

LABELS = torch.randint(0, 3, (2, 12, 16), generator=torch.Generator().manual_seed(0))
SOFT = torch.randn(2, 3, 12, 16, generator=torch.Generator().manual_seed(1)).softmax(1)
KINDS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "hard": lambda labels, soft: labels,
    "dense": lambda labels, soft: soft,
    "smoothed": lambda labels, soft: targets.smooth(labels, 0.2),
    "boundary": lambda labels, soft: targets.boundary(labels, width=1),
    "votes": lambda labels, soft: targets.votes(torch.stack([labels, labels.flip(1)], 1)),
    "sparse": lambda labels, soft: targets.sparse(soft.topk(2, 1).indices, soft.topk(2, 1).values),
    "teacher": lambda labels, soft: targets.teacher(
        soft[:, :, ::2, ::2], size=(12, 16), temperature=2.0
    ),
    "mixed": lambda labels, soft: targets.mix((0.5, labels), (0.5, targets.teacher(soft))),
    "pasted": lambda labels, soft: targets.paste(labels, soft, labels > 1),
    "pairs": lambda labels, soft: [(0.5, labels), (0.5, soft)],
}


class Step(nn.Module):
    """A model and its loss, at a stride of two."""

    def __init__(self, kind: str, impl: str = "auto") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Conv2d(4, 3, 3, stride=2, padding=1)
        self.loss = JaccardMetricLoss(
            cross_entropy=0.25, ignore_index=2, upsample="bilinear", impl=impl, classes="both"
        )
        self.kind = kind

    def forward(self, images: Tensor, labels: Tensor, soft: Tensor) -> Tensor:
        return self.loss(self.model(images), KINDS[self.kind](labels, soft))  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def value_and_gradient(step: Callable[..., Tensor], module: Step) -> tuple[Tensor, Tensor]:
    images = torch.randn(2, 4, 12, 16, generator=torch.Generator().manual_seed(2))
    loss = step(images, LABELS, SOFT)
    (gradient,) = torch.autograd.grad(loss, module.model.weight)
    return loss, gradient


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("impl", ["auto", "chunked"])
def test_compiled_step_has_no_graph_break(kind: str, impl: str) -> None:
    module = Step(kind, impl)
    expected = value_and_gradient(module, module)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    found = value_and_gradient(compiled, module)
    torch.testing.assert_close(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hard", "boundary", "teacher"])
def test_compiled_by_inductor(kind: str) -> None:
    module = Step(kind)
    expected = value_and_gradient(module, module)
    found = value_and_gradient(torch.compile(module, fullgraph=True), module)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_exported_step(kind: str) -> None:
    module = Step(kind)
    images = torch.randn(2, 4, 12, 16)
    program = torch.export.export(module, (images, LABELS, SOFT))
    calls = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert calls.count(torch.ops.softiou.overlap_sums.default) == 1
    torch.testing.assert_close(program.module()(images, LABELS, SOFT), module(images, LABELS, SOFT))


def test_compiled_for_teachers_of_any_size() -> None:
    """Also of a second size of images, which makes the sizes symbols."""

    def step(logits: Tensor, labels: Tensor, soft: Tensor) -> Tensor:
        teacher = targets.teacher(soft, temperature=2.0)
        loss = JaccardMetricLoss(upsample="bilinear")
        return loss(logits, [(0.5, labels), (0.5, teacher)])  # type: ignore[no-any-return]

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    for height in (8, 12, 20):
        logits, soft = torch.randn(2, 3, height // 2, 6), torch.randn(2, 3, height // 4, 3)
        labels = torch.randint(0, 3, (2, height, 12))
        torch.testing.assert_close(compiled(logits, labels, soft), step(logits, labels, soft))


@pytest.mark.skipif(torch.__version__ < "2.9", reason="dynamic=True of torch 2.7 and 2.8 fails")
def test_compiled_once_for_batches_of_any_size() -> None:
    module = Step("hard")
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=True)
    for images in (2, 3, 5):
        batch = torch.randn(images, 4, 12, 16)
        labels, soft = LABELS[:1].expand(images, -1, -1), SOFT[:1].expand(images, -1, -1, -1)
        torch.testing.assert_close(compiled(batch, labels, soft), module(batch, labels, soft))


@pytest.mark.parametrize("impl", ["chunked", "native"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operators_keep_their_promises(impl: str, dtype: torch.dtype) -> None:
    """Schema, fake implementation, autograd registration and traced equality."""
    logits = torch.randn(2, 3, 6, 8).to(dtype).requires_grad_()
    settings = PassSettings(cross_entropy=True, impl=impl)
    arguments = _pack(Job(logits, (targets.smooth(LABELS),), (12, 16), settings))
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.softiou.overlap_sums, arguments, test_utils=tests)
    cotangents = torch.randn(7, 2, 3)
    torch.library.opcheck(
        torch.ops.softiou.overlap_gradient, (cotangents, *arguments), test_utils=tests
    )


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_derivatives_in_forward_mode_are_those_of_eager_mode(backend: Any) -> None:
    """They must not be zero in silence, inside of the compiled function or around it."""
    torch.manual_seed(0)
    logits, direction = torch.randn(2, 2, 3, 4, 4).unbind()
    labels = torch.randint(0, 3, (2, 4, 4))
    loss = JaccardMetricLoss()
    compiled = torch.compile(loss, backend=backend)

    def forward(z: Tensor, v: Tensor, of: Any = loss) -> Any:
        return torch.func.jvp(lambda x: of(x, labels), (z,), (v,))[1]

    expected = forward(logits, direction).item()
    assert abs(expected) > 1e-3
    inside = torch.compile(forward, backend=backend)(logits, direction)
    assert inside.item() == pytest.approx(expected, rel=1e-5)
    assert forward(logits, direction, compiled).item() == pytest.approx(expected, rel=1e-5)
    forward_mode: Any = forward_ad  # its functions are not annotated
    with forward_mode.dual_level():
        dual = forward_mode.make_dual(logits, direction)
        found = forward_mode.unpack_dual(compiled(dual, labels))
    assert found.tangent.item() == pytest.approx(expected, rel=1e-5)
