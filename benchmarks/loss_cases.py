"""The workloads of `benchmarks.loss`, their data, and a run of each contender.

Shapes: N images, C classes, (H, W) the target, (h, w) the logits.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.loss_contenders import Loss, losses, softiou_loss
from softiou import targets
from softiou.targets import Target

Run = Callable[[], Tensor | None]

CASES = ("hard", "dense", "smoothed", "stride4", "mixture", "tiny", "floor", "kinds")
CLASSES = (1, 2, 19, 150)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
STEP_SIZES = {19: (256, 512), 150: (256, 256)}
TINY_CALLS = 100  # timed together, because one call is too short to measure
CELLS = 16  # along height and width: labels are CELLS x CELLS rectangles


@dataclass(frozen=True)
class Workload:
    """A combination of case, shape, dtype and device to measure.

    Attributes:
        case: One of `CASES`, or "step".
        num_images: N.
        num_classes: C.
        size: (H, W) of the target.
        dtype: A key of `DTYPES`: the dtype of the logits, for a step that of autocast.
        device: "cpu" or "cuda".
    """

    case: str
    num_images: int
    num_classes: int
    size: tuple[int, int]
    dtype: str
    device: str = "cpu"

    @property
    def low_resolution(self) -> bool:
        """Return whether the logits are interpolated to the size of the target."""
        return self.case in ("stride4", "step")

    @property
    def activation(self) -> str:
        """Return the activation: "sigmoid" for a single class, otherwise "softmax"."""
        return "sigmoid" if self.num_classes == 1 else "softmax"

    @property
    def calls(self) -> int:
        """Return the number of calls in a run."""
        return TINY_CALLS if self.case == "tiny" else 1

    @property
    def logits_shape(self) -> tuple[int, int, int, int]:
        """Return (N, C, h, w)."""
        stride = 4 if self.low_resolution else 1
        return (self.num_images, self.num_classes, self.size[0] // stride, self.size[1] // stride)

    @property
    def shape(self) -> str:
        """Return the shape as text, as in the results."""
        logits = "x".join(map(str, self.logits_shape))
        return f"{logits} to {self.size[0]}x{self.size[1]}" if self.low_resolution else logits

    @property
    def logits_bytes(self) -> int:
        """Return the bytes of the logits, which equal those of their gradient."""
        return torch.Size(self.logits_shape).numel() * DTYPES[self.dtype].itemsize

    def resized(self, length: int) -> "Workload":
        """Return the same workload with targets of length x length."""
        return replace(self, size=(length, length))


def workloads(
    cases: Sequence[str], classes: Sequence[int], dtypes: Sequence[str], device: str
) -> Iterator[Workload]:
    """Yield every combination, small ones first within a case."""
    for case in cases:
        if case == "tiny":  # the fixed cost of a call
            yield Workload(case, 1, 4, (CELLS, CELLS), "fp32", device)
            continue
        for C in classes:
            for dtype in dtypes:
                if C == 1 and case not in ("hard", "dense", "floor"):
                    continue  # sigmoid losses of other libraries
                N = 8 if C < 3 else 4 if C < 100 else 2 if case == "stride4" else 1
                yield Workload(case, N, C, (512, 512), dtype, device)


def step_workloads(classes: Sequence[int], device: str) -> Iterator[Workload]:
    """Yield the whole training steps."""
    for C, size in STEP_SIZES.items():
        if C in classes:
            yield Workload("step", 4, C, size, "bf16", device)


def prepare(workload: Workload) -> dict[str, Run]:
    """Create the data of a workload, and for each contender a function that runs it once.

    A run is forward and backward, and returns the loss; the floor (plain copies) returns none.
    """
    if workload.case == "floor":
        return {"copies": _copies(_random_logits(workload))}
    if workload.case == "step":
        return _step_runs(workload)
    logits = _random_logits(workload).requires_grad_()
    target = _soft_labels(workload) if workload.case == "dense" else _labels(workload)

    def run(loss: Callable[..., Tensor], target: Tensor | Target) -> Tensor:
        for _ in range(workload.calls):
            value = loss(logits, target)
            torch.autograd.grad(value, logits)
        return value.detach()

    if workload.case == "kinds":
        own = softiou_loss("auto", activation=workload.activation)
        return {name: partial(run, own, one) for name, one in _kinds(workload, target).items()}
    found = losses(workload.case, workload.activation)
    return {name: partial(run, loss, target) for name, loss in found.items()}


def _kinds(workload: Workload, labels: Tensor) -> dict[str, Tensor | Target]:
    """Create targets of all kinds that are read in place; annotators differ at boundaries."""
    probs = _soft_labels(workload)
    weights, indices = probs.topk(min(4, probs.shape[1]), 1)
    shifts = ((0, 0), (2, 1), (-1, 2), (1, -2))
    masks = torch.stack([labels.roll(shift, (1, 2)) for shift in shifts], 1)
    logits = _random_logits(workload)
    return {
        "hard labels": labels,
        "probabilities": probs,
        "smoothed labels": targets.smooth(labels),
        "4 annotators": targets.votes(masks),
        "4 of the classes": targets.sparse(indices, weights),
        "teacher": targets.teacher(logits),
        "teacher at stride 4": targets.teacher(
            logits[..., ::4, ::4].contiguous(), size=workload.size
        ),
        "Gaussian of width 1": targets.gaussian(labels),
        "Gaussian of width 3": targets.gaussian(labels, sigma=1.5, width=3),
    }


def _random_logits(workload: Workload) -> Tensor:
    shape, dtype = workload.logits_shape, DTYPES[workload.dtype]
    return torch.empty(shape, dtype=dtype, device=workload.device).normal_(std=2)


def _soft_labels(workload: Workload) -> Tensor:
    logits = _random_logits(workload)
    return logits.sigmoid() if workload.num_classes == 1 else logits.softmax(1)


def _labels(workload: Workload) -> Tensor:
    """Create labels in rectangles (boundaries affect speed), with every class in every image.

    Every class is present because the libraries treat absent classes differently.
    """
    N, C = workload.num_images, workload.num_classes
    cells = torch.stack([torch.randperm(CELLS * CELLS) % max(C, 2) for _ in range(N)])
    height, width = (length // CELLS for length in workload.size)
    labels = cells.view(N, CELLS, CELLS).repeat_interleave(height, 1).repeat_interleave(width, 2)
    return labels.contiguous().to(workload.device)


def _copies(logits: Tensor) -> Run:
    """Copy as many bytes as a pass needs: two reads of the logits, one write of the gradient.

    A copy is one read and one write, so this is 1.5 copies into existing memory.
    """
    out = logits.clone()
    half = logits.numel() // 2
    source, sink = logits.flatten()[:half], out.flatten()[:half]

    def run() -> None:
        out.copy_(logits)
        sink.copy_(source)

    return run


def _step_runs(workload: Workload) -> dict[str, Run]:
    """Return training steps with each contender: forward, loss and backward."""
    from softiou.models import ModelSpec, SegmentationModel

    spec = ModelSpec("deeplabv3plus", "mobilenet_v2", workload.num_classes)
    model = SegmentationModel(spec).to(workload.device).train()
    weights = list(model.parameters())
    images = torch.rand(workload.num_images, 3, *workload.size, device=workload.device)
    target = _labels(workload)

    def run(loss: Loss) -> Tensor:
        with torch.autocast(workload.device, DTYPES[workload.dtype]):
            value = loss(model(images), target)
        torch.autograd.grad(value, weights)
        return value.detach()

    contenders = losses("step") | {"no loss": lambda logits, _: logits.sum()}
    return {name: partial(run, loss) for name, loss in contenders.items()}
