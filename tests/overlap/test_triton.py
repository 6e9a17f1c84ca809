"""The kernels against the plain path: interpreted on the CPU, compiled without and with a GPU.

Triton decides when it is imported whether it interprets, so a process of its own does that. Tests
send it jobs and compare what comes back.
"""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import fields, replace
from math import inf, nan
from multiprocessing import get_context
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch.utils._pytree import tree_leaves

from benchmarks._interpreter import patch_once
from marks import slow
from reference.cases import Case, cases
from softiou import targets
from softiou.overlap import PassSettings, plain
from softiou.overlap import triton as kernels
from softiou.overlap.job import Job, Sums
from softiou.overlap.triton_kernels import gather_sums
from softiou.targets import DenseTarget, HardTarget, HardTile, Target, as_target
from softiou.tiles import Tile

Run = Callable[..., Any]
KERNELS = ["gather_sums", "write_gradient"]
needs_triton = pytest.mark.skipif(not kernels.is_installed(), reason="needs Triton")


def here(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


# What runs in the other process


def both(job: Job, cotangents: Tensor, enough_programs: int = 512) -> tuple[Sums, Tensor]:
    """Gather the sums and compute the gradient; fewer programs make each of them work longer."""
    kernels._ENOUGH_PROGRAMS = enough_programs
    reason = kernels.unsupported_reason(job)
    if reason is not None:
        raise ValueError(reason)
    return kernels.gather(job), kernels.gradient(job, cotangents)


def start() -> None:
    torch.set_num_threads(1)
    np.seterr(all="ignore")  # the interpreter computes in NumPy, where exp(1e4) warns
    if os.environ.get("TRITON_INTERPRET") == "1":
        patch_once()


def compile_for(job: Job, cotangents: Tensor, arch: int = 90) -> dict[str, tuple[int, int]]:
    """Launch the kernels on a GPU that is not there: up to machine code.

    Returns:
        For each kernel its registers, and the bytes that it spills, as the assembler counts them.
    """
    import triton  # type: ignore[import-untyped]
    from triton.backends.compiler import GPUTarget  # type: ignore[import-untyped]

    class NoDevice:
        def get_current_target(self) -> Any:
            return GPUTarget("cuda", arch, 32)

        def get_current_device(self) -> int:
            return arch  # Triton remembers what it compiled, and for what, by this number

        def get_current_stream(self, device: int) -> int:
            return 0

    found = {}

    def launch(kernel: Any, programs: int, *arguments: Any) -> None:
        options = {"num_warps": arguments[-1].WARPS, "enable_fp_fusion": True}
        compiled = kernel.warmup(*arguments, grid=(programs,), **options)
        if compiled.asm["cubin"]:
            found[compiled.metadata.name] = usage(compiled.asm["cubin"])

    triton.runtime.driver.set_active(NoDevice())
    kernels._launch = launch
    kernels.gather(job)
    kernels.gradient(job, cotangents)
    return found


def usage(machine_code: bytes) -> tuple[int, int]:
    """Return the registers of a kernel, and its bytes of local memory."""
    import triton

    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with NamedTemporaryFile(suffix=".cubin") as file:
        file.write(machine_code)
        file.flush()
        command = [str(tools / "cuobjdump"), "-res-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {name: int(n) for name, n in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}
    return found["REG"], found["STACK"] + found["LOCAL"]


@contextmanager
def worker(**variables: str) -> Iterator[Run]:
    """Start a process with environment variables that this one never has afterwards."""
    with ProcessPoolExecutor(1, get_context("spawn"), start) as pool:

        def run(function: Callable[..., Any], *arguments: Any) -> Any:
            return pool.submit(function, *arguments).result()

        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            run(torch.get_num_threads)
        yield run


@pytest.fixture(scope="module")
def interpreter() -> Iterator[Run]:
    if not kernels.is_installed():
        pytest.skip("needs Triton")
    with worker(TRITON_INTERPRET="1") as run:
        yield run


# Jobs, and what they should give


def make_job(
    num_classes: int,
    *,
    activation: str = "softmax",
    kind: str = "hard",
    space: tuple[int, ...] | None = None,
    dtype: torch.dtype = torch.float32,
    maps: bool = True,
    cross_entropy: bool = True,
    maxima: bool = True,
) -> Job:
    """Two images with everything in them: ignored and impossible labels, `valid`, weights."""
    N, C = 2, num_classes
    space = space or ((7, 37) if C < 10 else (3, 13))  # the interpreter is slow
    target: Target
    if kind == "hard":
        labels = torch.randint(-1, max(C, 2) + 2, (N, *space))
        target = HardTarget(labels, ignore_index=1 if C > 2 else 7)
    else:
        independent = kind == "independent"
        y = torch.rand(N, C, *space) if independent else torch.randn(N, C, *space).softmax(1)
        ignored = torch.rand(N, C if independent else 1, *space) < 0.2
        target = DenseTarget(torch.where(ignored, 255.0, y), 255, independent)
    return Job(
        logits=(
            torch.rand(N, C, *space) if activation == "none" else 3 * torch.randn(N, C, *space)
        ).to(dtype),
        targets=(target,),
        size=space,
        valid=torch.rand(N, *space) < 0.8 if maps else None,
        weights=(torch.rand(N, *space) - 0.2).clamp(min=0) if maps else None,
        settings=PassSettings(
            activation, cross_entropy=cross_entropy and activation != "none", maxima=maxima
        ),
    )


def make_cotangents(job: Job) -> Tensor:
    N, C = job.shape[0], job.num_classes
    return torch.randn(job.rows * len(job.targets), N, C)


def reference(job: Job, cotangents: Tensor) -> tuple[Sums, Tensor]:
    """The plain path in float64."""
    logits = job.logits.double().requires_grad_()
    sums = plain.gather(replace(job, logits=logits))
    (gradient,) = torch.autograd.grad(sums.masses, logits, cotangents.to(logits))
    return sums, gradient


def assert_agrees(run: Run, job: Job, *options: int) -> None:
    cotangents = make_cotangents(job).to(job.logits.device)
    found, gradient = run(both, job, cotangents, *options)
    expected, slope = reference(job, cotangents)
    pixels = max(1, job.logits[:, 0].numel())
    for name, own, right in zip(Sums._fields, found, expected, strict=True):
        if own is None or right is None:
            assert name == "maxima"
            assert not job.settings.maxima
            continue
        assert own.dtype == torch.float32
        assert own.shape == right.shape
        torch.testing.assert_close(
            own.double(), right.detach(), rtol=1e-5, atol=1e-6 * pixels**0.5, msg=name
        )
    assert gradient.dtype == job.logits.dtype
    assert gradient.stride() == torch.empty_like(job.logits).stride()
    # A device rounds to the nearest, the interpreter cuts bfloat16 off.
    rounding = torch.finfo(gradient.dtype).eps / (2 if run is here else 1)
    atol = 1e-5 if rounding < 1e-5 else 1e-4
    torch.testing.assert_close(gradient.double(), slope, rtol=max(2e-5, 1.01 * rounding), atol=atol)


MATRIX = [
    (C, activation, kind)
    for C in (1, 2, 3, 19, 150, 256, 300)
    for activation, kind in (
        ("softmax", "hard"),
        ("softmax", "dense"),
        ("sigmoid", "hard"),
        ("sigmoid", "independent"),
        ("none", "hard"),
        ("none", "independent"),
    )
    if (C > 1 or activation != "softmax") and (C in (1, 19, 300) or activation != "none")
]


# Interpreted


@pytest.mark.parametrize(("num_classes", "activation", "kind"), MATRIX)
def test_agrees_with_plain(interpreter: Run, num_classes: int, activation: str, kind: str) -> None:
    assert_agrees(interpreter, make_job(num_classes, activation=activation, kind=kind))


@given(cases(activations=("softmax", "sigmoid", "none")))
@settings(max_examples=20)
def test_any_case_agrees_with_plain(interpreter: Run, case: Case) -> None:
    logits, values = case.tensors(torch.float32)
    target = as_target(
        values,
        logits_shape=tuple(logits.shape),
        ignore_index=case.ignore_index,
        independent=case.activation == "sigmoid",
    )
    job = Job(
        logits,
        (target,),
        tuple(logits.shape[2:]),
        PassSettings(case.activation, cross_entropy=case.activation != "none", maxima=True),
        **case.maps(),
    )
    assert_agrees(interpreter, job)


@pytest.mark.parametrize("cross_entropy", [False, True])
@pytest.mark.parametrize("maxima", [False, True])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_what_is_not_asked_for_is_absent_or_zero(
    interpreter: Run, activation: str, cross_entropy: bool, maxima: bool
) -> None:
    job = make_job(5, activation=activation, maps=False, cross_entropy=cross_entropy, maxima=maxima)
    assert_agrees(interpreter, job)
    sums = interpreter(kernels.gather, job)
    assert len(sums.masses) == (7 if cross_entropy else 5)
    assert (sums.maxima is not None) == maxima


@pytest.mark.parametrize(("activation", "kind"), [("softmax", "hard"), ("sigmoid", "dense")])
@pytest.mark.parametrize("num_classes", [3, 19])
def test_a_program_may_take_several_steps(
    interpreter: Run, num_classes: int, activation: str, kind: str
) -> None:
    job = make_job(num_classes, activation=activation, kind=kind, space=(13, 29))
    assert_agrees(interpreter, job, 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["hard", "dense"])
def test_half_precision(interpreter: Run, dtype: torch.dtype, kind: str) -> None:
    job = make_job(19, kind=kind, dtype=dtype)
    (target,) = job.targets
    if isinstance(target, DenseTarget):
        job = replace(job, targets=(replace(target, values=target.values.to(dtype)),))
    assert_agrees(interpreter, job)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_an_ignored_value_is_found_in_any_precision(interpreter: Run, dtype: torch.dtype) -> None:
    """Of 1/3 in the target, and of -7 in its own precision, not in that of the kernel."""
    values = torch.full((1, 3, 40), 1 / 3, dtype=dtype)
    values[..., ::3] = -7
    target = DenseTarget(values, ignore_index=-7)
    assert_agrees(interpreter, replace(make_job(3, space=(40,)), targets=(target,), **EVERYWHERE))


EVERYWHERE: dict[str, Any] = {"logits": torch.randn(1, 3, 40), "valid": None, "weights": None}


def irregular(x: Tensor, layout: str) -> Tensor:
    """The same values in another memory layout."""
    if layout == "channels last":
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
    if layout == "transposed":
        return x.mT.contiguous().mT
    if layout == "strided":
        return torch.stack([x, x], -1)[..., 1]
    return torch.cat([x, x], -1)[..., : x.shape[-1]]  # rows with a gap


def with_each(job: Job, change: Callable[[Tensor], Tensor]) -> Job:
    """Change everything but the logits."""
    (target,) = job.targets
    name = fields(target)[0].name  # type: ignore[arg-type]
    target = replace(target, **{name: change(getattr(target, name))})  # type: ignore[type-var]
    valid, weights = (None if x is None else change(x) for x in (job.valid, job.weights))
    return replace(job, targets=(target,), valid=valid, weights=weights)


@pytest.mark.parametrize("layout", ["channels last", "transposed", "strided", "rows"])
@pytest.mark.parametrize("all_maps", [False, True])
@pytest.mark.parametrize("kind", ["hard", "dense"])
def test_memory_layouts(interpreter: Run, layout: str, all_maps: bool, kind: str) -> None:
    job = make_job(3, kind=kind)
    if all_maps:
        job = with_each(job, lambda x: irregular(x, layout))
    assert_agrees(interpreter, replace(job, logits=irregular(job.logits, layout)))


@needs_triton
def test_the_space_is_read_in_the_order_of_the_memory() -> None:
    """Whatever that of the dimensions, so that neighbours of a warp are neighbours in memory."""
    job = make_job(3)
    job = replace(job, logits=irregular(job.logits, "transposed"))
    inputs, plan, _ = kernels._prepare(job)
    assert (inputs.pixels // inputs.columns, inputs.columns) == (37, 7)
    assert (inputs.logits.strides[2:], plan.flat) == ((7, 1), False)
    every = with_each(job, lambda x: irregular(x, "transposed"))
    inputs, plan, _ = kernels._prepare(every)
    assert (inputs.columns, inputs.logits.strides[3], plan.flat) == (7 * 37, 1, True)


@pytest.mark.parametrize("space", [(50,), (3, 5, 7)])
def test_other_spaces(interpreter: Run, space: tuple[int, ...]) -> None:
    assert_agrees(interpreter, make_job(3, space=space))


def test_maps_may_be_expanded(interpreter: Run) -> None:
    job = make_job(3)
    valid = (torch.rand(37) < 0.8).expand(2, 7, 37)
    weights = torch.rand(2, 1, 1).expand(2, 7, 37)
    assert_agrees(interpreter, replace(job, valid=valid, weights=weights))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int32, torch.uint64])
@pytest.mark.parametrize("num_classes", [1, 3])
def test_integer_dtypes(interpreter: Run, dtype: torch.dtype, num_classes: int) -> None:
    activation = "sigmoid" if num_classes == 1 else "softmax"
    labels = torch.tensor([0, 1, 2, 127, 255, -1, 1, 0] * 5).to(dtype).expand(2, 40)
    job = make_job(num_classes, activation=activation, space=(40,))
    assert_agrees(interpreter, replace(job, targets=(HardTarget(labels, 255),)))


@pytest.mark.parametrize(
    ("num_classes", "activation", "kind", "garbage"),
    [
        *((3, "softmax", "hard", garbage) for garbage in (nan, inf, -inf, 1e30)),
        *((3, "softmax", "dense", garbage) for garbage in (nan, inf, -inf, 1e30)),
        *((3, "sigmoid", "independent", garbage) for garbage in (nan, inf, -inf, 1e30)),
        *slow((300, "softmax", "dense", nan)),
    ],
)
def test_ignored_pixels_get_no_gradient_whatever_they_hold(
    interpreter: Run, num_classes: int, activation: str, kind: str, garbage: float
) -> None:
    job = make_job(num_classes, activation=activation, kind=kind, space=(40,))
    assert job.valid is not None
    assert job.weights is not None
    logits, weights = job.logits.clone(), job.weights.clone()
    logits.movedim(1, -1)[~job.valid] = garbage
    weights[~job.valid] = garbage
    (target,) = job.targets
    if isinstance(target, DenseTarget):
        values = target.values.clone()
        values.movedim(1, -1)[~job.valid] = garbage
        target = replace(target, values=values)
    dirty = replace(job, logits=logits, weights=weights, targets=(target,))
    assert_agrees(interpreter, dirty)
    _, gradient = interpreter(both, dirty, make_cotangents(dirty))
    assert gradient.movedim(1, -1)[~job.valid].eq(0).all()


def test_ignored_pixels_get_no_gradient_even_of_a_broken_loss(interpreter: Run) -> None:
    job = make_job(3, space=(40,))
    assert job.valid is not None
    broken = torch.full((7, 2, 3), nan)
    broken[5:] = inf
    _, gradient = interpreter(both, job, broken)
    assert gradient.movedim(1, -1)[~job.valid].eq(0).all()
    assert gradient.isnan().any()


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_the_difference_has_no_slope_where_it_is_zero(interpreter: Run, activation: str) -> None:
    target = DenseTarget(torch.full((1, 2, 8), 0.5))
    job = Job(torch.zeros(1, 2, 8), (target,), (8,), PassSettings(activation))
    of_differences = torch.zeros(5, 1, 2)
    of_differences[2] = torch.tensor([1.0, 2.0])
    _, gradient = interpreter(both, job, of_differences)
    assert gradient.eq(0).all()


@pytest.mark.parametrize("num_classes", [3, 19, *slow(300)])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_extreme_logits(interpreter: Run, num_classes: int, activation: str) -> None:
    job = make_job(num_classes, activation=activation, space=(40,))
    signs = torch.randint(-1, 2, job.logits.shape)
    assert_agrees(interpreter, replace(job, logits=1e4 * signs))


@pytest.mark.parametrize("num_classes", [3, 300])
def test_a_class_that_cannot_be_costs_nothing(interpreter: Run, num_classes: int) -> None:
    job = make_job(num_classes, space=(40,))
    labels = torch.full((2, 40), num_classes - 1)
    logits = job.logits.clone()
    logits[:, : num_classes - 2] = -inf
    sums, gradient = interpreter(
        both, replace(job, logits=logits, targets=(HardTarget(labels),)), make_cotangents(job)
    )
    assert sums.masses.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient[:, : num_classes - 2].eq(0).all()


def test_small_cross_entropies_of_a_sigmoid_keep_their_digits(interpreter: Run) -> None:
    logits = torch.full((1, 1, 64), 20.0)
    wanted = PassSettings("sigmoid", cross_entropy=True)
    job = Job(logits, (HardTarget(torch.ones(1, 64).long()),), (64,), wanted)
    sums = interpreter(kernels.gather, job)
    assert sums.masses[5].item() == pytest.approx(64 * np.log1p(np.exp(-20.0)), rel=1e-5)


def test_the_difference_of_nearly_certain_pixels_keeps_its_digits(interpreter: Run) -> None:
    """D = P + Y - 2 M would be 0, or noise."""
    logits = torch.tensor([12.0, 0.0]).view(1, 2, 1).repeat(1, 1, 4096)
    job = Job(logits, (HardTarget(torch.zeros(1, 4096).long()),), (4096,))
    expected = plain.gather(replace(job, logits=logits.double())).masses[2]
    found = interpreter(kernels.gather, job).masses[2]
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=0)


@pytest.mark.parametrize("num_classes", [19, *slow(300)])
def test_two_runs_are_equal_bit_by_bit(interpreter: Run, num_classes: int) -> None:
    job = make_job(num_classes, space=(40,))
    cotangents = make_cotangents(job)
    one, other = (interpreter(both, job, cotangents) for _ in range(2))
    assert torch.equal(one[0].masses, other[0].masses)
    assert torch.equal(one[1], other[1])


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4)])
def test_nothing_there(interpreter: Run, shape: tuple[int, ...]) -> None:
    target = HardTarget(torch.zeros(shape[0], *shape[2:], dtype=torch.long))
    job = Job(torch.zeros(shape), (target,), shape[2:], PassSettings(maxima=True))
    sums, gradient = interpreter(both, job, make_cotangents(job))
    assert sums.masses.shape == (5, shape[0], 3)
    assert not any(x.any() for x in sums)
    assert gradient.shape == shape


# Low-resolution logits, every kind of target, several of them, smoothing of the cross-entropy


def low(job: Job, h: int = 3, w: int = 5) -> Job:
    """The same with logits of another resolution."""
    logits = 3 * torch.randn(*job.logits.shape[:2], h, w)
    return replace(job, logits=logits.to(job.logits.dtype))


@pytest.mark.parametrize(
    ("source", "size", "align_corners", "kind"),
    [
        ((3, 5), (7, 13), False, "hard"),
        ((1, 4), (5, 9), True, "dense"),
        ((4, 1), (8, 3), False, "dense"),
        ((6, 9), (4, 5), True, "hard"),
        ((2, 3), (6, 5), True, "dense"),
        ((2, 3), (5, 6), False, "dense"),
    ],
)
def test_logits_of_any_resolution(
    interpreter: Run, source: tuple[int, int], size: tuple[int, int], align_corners: bool, kind: str
) -> None:
    job = low(make_job(3, kind=kind, space=size), *source)
    settings = replace(job.settings, align_corners=align_corners)
    assert_agrees(interpreter, replace(job, settings=settings))


@pytest.mark.parametrize(
    ("num_classes", "activation", "dtype"),
    [(1, "sigmoid", torch.float32), (9, "softmax", torch.bfloat16), (19, "sigmoid", torch.float16)],
)
def test_low_resolution_of_any_classes(
    interpreter: Run, num_classes: int, activation: str, dtype: torch.dtype
) -> None:
    job = make_job(num_classes, activation=activation, space=(4, 6), dtype=dtype)
    assert_agrees(interpreter, low(job, 3, 4), 1)


@pytest.mark.parametrize("layout", ["channels last", "rows", *slow("transposed", "strided")])
def test_low_resolution_in_any_memory(interpreter: Run, layout: str) -> None:
    job = low(with_each(make_job(3, space=(6, 10)), lambda x: irregular(x, layout)))
    assert_agrees(interpreter, replace(job, logits=irregular(job.logits, layout)))


TARGETS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "hard": lambda hard, soft: hard,
    "soft": lambda hard, soft: soft,
    "smoothed": lambda hard, soft: targets.smooth(hard, 0.3),
    "boundary": lambda hard, soft: targets.boundary(hard, width=1, ignore_index=2),
    "votes": lambda hard, soft: targets.votes(torch.stack([hard, hard.flip(2)], 1), ignore_index=1),
    "sparse": lambda hard, soft: targets.sparse(*soft.topk(2, 1)[::-1]),
    "whole bytes": lambda hard, soft: targets.sparse(
        hard.unsqueeze(1),
        hard.new_full((), 255).to(torch.uint8).expand(len(hard), 1, *hard.shape[1:]),
    ),
    "teacher": lambda hard, soft: targets.teacher(
        soft[:, :, ::3, ::2].mul(9), size=(hard.shape[1], hard.shape[2]), temperature=2.0
    ),
    "teacher of this size": lambda hard, soft: targets.teacher(soft.mul(9), valid=hard > 0),
    "mixed": lambda hard, soft: targets.mix((0.3, hard), (0.7, soft), (0.0, nan * soft)),
    "pasted": lambda hard, soft: targets.paste(hard, soft, hard % 2 == 0),
    "confident": lambda hard, soft: targets.confident(soft, threshold=0.5),
    "certain": lambda hard, soft: targets.confident(soft, keep=1),
    "sharpened": lambda hard, soft: targets.confident(soft, threshold=0.4, temperature=0.5),
    "inside of each other": lambda hard, soft: targets.paste(
        targets.mix(
            (0.4, targets.smooth(hard, 0.2, ignore_index=2)), (0.6, TARGETS["teacher"](hard, soft))
        ),
        targets.confident(TARGETS["sparse"](hard, soft), threshold=0.6),
        hard == 1,
    ),
    "integers": lambda hard, soft: (soft > 0.4).long() + 5 * (soft < 0.1),
}
# These are made dense, one image at a time.
OTHERS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "gaussian": lambda hard, soft: targets.gaussian(hard, width=1),
    "two kept": lambda hard, soft: targets.confident(soft, keep=2),
    "own": lambda hard, soft: OwnTarget(hard),
}


class OwnTarget(HardTarget):
    """A target of a user, which reads otherwise than its base."""

    def read(self, tile: Tile, num_classes: int, dtype: torch.dtype) -> HardTile:
        read = super().read(tile, num_classes, dtype)
        assert isinstance(read, HardTile)
        return replace(read, index=num_classes - 1 - read.index)


def with_target(job: Job, kind: str) -> Job:
    """The same with another kind of target, for all that the job ignores."""
    N, C, size = job.shape[0], job.num_classes, job.size
    hard, soft = torch.randint(0, C, (N, *size)), torch.randn(N, C, *size).softmax(1)
    made = {**TARGETS, **OTHERS}[kind](hard, soft)
    independent = job.settings.activation == "sigmoid"
    target = as_target(made, logits_shape=(N, C, *size), independent=independent)
    return replace(job, targets=(target,))


@pytest.mark.parametrize("kind", [*TARGETS, *OTHERS])
def test_other_targets(interpreter: Run, kind: str) -> None:
    activation = "sigmoid" if kind == "integers" else "softmax"
    assert_agrees(interpreter, with_target(make_job(3, space=(6, 10), activation=activation), kind))


@pytest.mark.parametrize("kind", ["boundary", "gaussian", *slow("inside of each other")])
def test_other_targets_of_low_resolution(interpreter: Run, kind: str) -> None:
    assert_agrees(interpreter, low(with_target(make_job(3, space=(4, 6)), kind), 3, 4))


@needs_triton
@pytest.mark.parametrize("kind", TARGETS)
def test_targets_are_read_as_they_are(kind: str) -> None:
    """No copy of them as probabilities is made."""
    job = with_target(make_job(3, space=(6, 10)), kind)
    assert list(kernels._in_parts(job)) == [job]
    inputs, _, _ = kernels._prepare(job)
    memory = {x.data_ptr() for x in (job.logits, *job.tensors())}
    read = [x for x in tree_leaves(inputs) if isinstance(x, Tensor)]
    taps = 8 * sum(map(kernels._is_interpolated, job.targets))
    assert sum(x.data_ptr() in memory for x in read) == len(read) - taps


@pytest.mark.parametrize(
    "kind", ["labels", "teacher", *slow("sparse", "votes", "inside of each other")]
)
def test_targets_of_more_classes_than_fit_at_once(interpreter: Run, kind: str) -> None:
    job = make_job(300, space=(6, 10))
    assert_agrees(interpreter, job if kind == "labels" else with_target(job, kind))


@pytest.mark.parametrize(
    ("activation", "kinds", "stride"),
    [
        ("softmax", ["teacher", "hard"], 1),
        ("softmax", ["teacher", "sparse"], 2),
        ("softmax", ["gaussian"], 1),
        ("sigmoid", ["integers", "soft"], 1),
        ("none", ["integers", "hard"], 1),
        ("none", ["soft"], 2),
    ],
)
def test_several_targets(interpreter: Run, activation: str, kinds: list[str], stride: int) -> None:
    """With a single softmax; a pixel may count for some of them only."""
    job = make_job(3, space=(4, 6), activation=activation)
    others = [with_target(job, kind).targets[0] for kind in kinds]
    job = replace(job, targets=(*job.targets, *others))
    assert len(list(kernels._in_parts(job))) == (2 if "gaussian" in kinds else 1)
    job = job if stride == 1 else low(job, 3, 4)
    assert_agrees(
        interpreter, replace(job, logits=job.logits.sigmoid()) if activation == "none" else job
    )


@pytest.mark.parametrize(("gamma", "smoothing"), [(0.5, 0.0), (2.0, 0.1)])
@pytest.mark.parametrize(
    ("num_classes", "activation", "kind"),
    [
        (3, "softmax", "hard"),
        (3, "softmax", "dense"),
        (3, "sigmoid", "independent"),
        *slow((300, "softmax", "hard")),
    ],
)
def test_focal_cross_entropy(
    interpreter: Run, num_classes: int, activation: str, kind: str, gamma: float, smoothing: float
) -> None:
    job = make_job(num_classes, activation=activation, kind=kind, space=(40,))
    focal = replace(job.settings, focal_gamma=gamma, label_smoothing=smoothing)
    assert_agrees(interpreter, replace(job, settings=focal))


@pytest.mark.parametrize(
    ("num_classes", "activation"), [(19, "softmax"), (3, "sigmoid"), *slow((300, "softmax"))]
)
def test_label_smoothing(interpreter: Run, num_classes: int, activation: str) -> None:
    job = make_job(num_classes, activation=activation, space=(40,))
    assert_agrees(interpreter, replace(job, settings=replace(job.settings, label_smoothing=0.1)))


def test_every_kind_of_target_is_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "gather_sums", None)  # as the interpreter, which takes any device
    every = PassSettings("sigmoid", label_smoothing=0.1, focal_gamma=2.0)
    for kind in (*TARGETS, *OTHERS):
        job = with_target(low(make_job(3, space=(6, 10))), kind)
        for how in (PassSettings(), every, PassSettings("none")):
            job = replace(job, targets=(*job.targets, *make_job(3, space=(6, 10)).targets))
            assert kernels.unsupported_reason(replace(job, settings=how)) is None


# What is refused


def irregular_space() -> Job:
    job = make_job(3, space=(4, 6, 8))
    return replace(job, logits=torch.randn(2, 3, 5, 7, 9)[..., :4, :6, :8])


def huge() -> Job:
    size = (2**16, 2**15)
    labels = torch.zeros((), dtype=torch.uint8).expand(1, *size)
    return Job(torch.zeros(()).expand(1, 3, *size), (HardTarget(labels),), size)


REFUSED: list[tuple[str, Callable[[], Job]]] = [
    ("torch.float64", lambda: make_job(3, dtype=torch.float64)),
    ("device", lambda: replace(make_job(3), valid=torch.empty(2, 7, 37, device="meta"))),
    ("1024 classes", lambda: make_job(1025, space=(1,))),
    ("256 classes", lambda: low(make_job(257, space=(4, 8)))),
    ("pixels", huge),
    ("rows and columns", irregular_space),
]


@pytest.mark.parametrize(("reason", "make"), REFUSED, ids=[reason for reason, _ in REFUSED])
def test_refuses(reason: str, make: Callable[[], Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "gather_sums", None)  # as the interpreter, which takes any device
    assert kernels.unsupported_reason(make_job(3)) is None
    said = kernels.unsupported_reason(make())
    assert said is not None
    assert reason in said
    assert said.endswith(".")


def test_refuses_the_cpu() -> None:
    assert kernels.unsupported_reason(make_job(3)) == "The logits are not on a CUDA device."


def test_without_triton_it_says_so_and_nothing_else() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "from softiou.overlap import triton\n"
        "print(triton.unsupported_reason(None))"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("Triton is not installed.\n", "")


# Compiled


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    spec = importlib.util.find_spec("triton")
    if spec is None or spec.origin is None:
        pytest.skip("Triton is not installed")
    if not (Path(spec.origin).parent / "backends" / "nvidia" / "bin" / "ptxas").exists():
        pytest.skip("this Triton comes without the assembler of NVIDIA")
    cache = tmp_path_factory.mktemp("triton")
    with worker(TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(cache)) as run:
        yield run


@pytest.mark.parametrize(
    ("num_classes", "activation", "kind", "dtype"),
    [
        (2, "softmax", "dense", torch.float16),
        *slow(
            (1, "sigmoid", "independent", torch.float32),
            (19, "sigmoid", "hard", torch.float32),
            (300, "softmax", "dense", torch.bfloat16),
            (300, "sigmoid", "independent", torch.float32),
        ),
    ],
)
def test_compiles_for_hopper(
    compiler: Run, num_classes: int, activation: str, kind: str, dtype: torch.dtype
) -> None:
    job = make_job(num_classes, activation=activation, kind=kind, dtype=dtype, space=(32, 64))
    assert list(compiler(compile_for, job, make_cotangents(job))) == KERNELS


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["channels last", "rows"])
def test_other_layouts_compile_for_hopper(compiler: Run, layout: str) -> None:
    job = make_job(19, maps=False, cross_entropy=False, maxima=False)
    job = replace(job, logits=irregular(job.logits, layout))
    assert list(compiler(compile_for, job, make_cotangents(job))) == KERNELS


# The registers of docs/performance.md, forward and backward.
REGISTERS = {torch.float32: (128, 128), torch.bfloat16: (199, 168)}


@pytest.mark.parametrize(
    ("arch", "dtype"),
    [
        (90, torch.bfloat16),
        *slow((90, torch.float32)),
        *slow(*((arch, dtype) for arch in (80, 100) for dtype in REGISTERS)),
    ],
)
def test_nothing_is_spilled_from_stride_4(compiler: Run, arch: int, dtype: torch.dtype) -> None:
    job = make_job(19, dtype=dtype, space=(32, 64), maxima=False)
    job = low(job, 8, 16)
    found = compiler(compile_for, job, make_cotangents(job), arch)
    assert list(found) == ["gather_sums", "write_low_gradient"]
    registers, spilled = zip(*found.values(), strict=True)
    assert spilled == (0, 0)
    if arch == 90:
        assert all(n <= most for n, most in zip(registers, REGISTERS[dtype], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "stride"), [("soft", 4), ("soft", 1), ("hard", 1)])
def test_nothing_else_is_spilled_for_19_classes(compiler: Run, kind: str, stride: int) -> None:
    job = with_target(make_job(19, dtype=torch.bfloat16, space=(32, 64), maxima=False), kind)
    job = job if stride == 1 else low(job, 8, 16)
    found = compiler(compile_for, job, make_cotangents(job))
    assert {name: spilled for name, (_, spilled) in found.items()} == dict.fromkeys(found, 0)
    assert len(found) == 2


@pytest.mark.parametrize(
    "kinds", [["teacher"], *slow(["hard", "teacher"], ["inside of each other"])], ids=str
)
def test_computed_targets_compile_almost_without_spilling(compiler: Run, kinds: list[str]) -> None:
    job = low(make_job(19, dtype=torch.bfloat16, space=(32, 64), maxima=False), 8, 16)
    job = replace(job, targets=tuple(with_target(job, kind).targets[0] for kind in kinds))
    found = compiler(compile_for, job, make_cotangents(job))
    assert list(found) == ["gather_sums", "write_low_gradient"]
    assert all(spilled <= 8 for _, spilled in found.values())  # two registers of 255


# The bytes that they move


def bytes_moved(job: Job, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the bytes that a forward and a backward pass read and write.

    Programs that read the same logits or labels run at about the same time, and find them in the
    L2 cache. So a kernel moves each tensor once. The sums of the programs are written, then read,
    converted to float64, which torch writes, and read again.
    """
    launched: list[Tensor] = []

    def note(kernel: Any, programs: int, *arguments: Any) -> None:
        tensors = [x for x in tree_leaves(arguments) if isinstance(x, Tensor)]
        launched.extend(tensors)
        if kernel is gather_sums:
            partial, weights, U, steps, inputs, plan = arguments
            assert programs == job.shape[0] * U == len(weights) * U
            assert U * steps * plan.BLOCK_P >= inputs.pixels > (U - 1) * steps * plan.BLOCK_P
            for x in (partial, weights):
                launched.extend((x, x.double(), x.double()))

    monkeypatch.setattr(kernels, "_launch", note)
    kernels.gather(job)
    kernels.gradient(job, make_cotangents(job).to(job.logits.device))
    return sum(x.nbytes for x in launched)


@needs_triton
@pytest.mark.parametrize("size", [(512, 1024), (512, 512)])
def test_bytes_per_pixel_are_near_the_ideal(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third row of the table in docs/performance.md."""
    N, C, (H, W) = 8, 19, size
    logits = torch.empty(N, C, H // 4, W // 4, dtype=torch.bfloat16, device="meta")
    labels = torch.empty(N, H, W, dtype=torch.uint8, device="meta")
    job = Job(logits, (HardTarget(labels, 255),), size, PassSettings(cross_entropy=True))
    ideal = (2 * (logits.nbytes + labels.nbytes) + logits.nbytes) / labels.numel()
    found = bytes_moved(job, monkeypatch) / labels.numel()
    assert ideal == 9.125
    assert found / ideal <= 1.5
    assert found == pytest.approx(11.8, abs=0.1)


# On a real device

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def on_cuda(job: Job) -> Job:
    return with_each(replace(job, logits=job.logits.cuda()), lambda x: x.cuda())


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("space", [(64, 512), (63, 511)])
@pytest.mark.parametrize(("num_classes", "activation", "kind"), MATRIX)
def test_agrees_with_plain_on_a_gpu(
    num_classes: int, activation: str, kind: str, space: tuple[int, int], dtype: torch.dtype
) -> None:
    job = make_job(num_classes, activation=activation, kind=kind, space=space, dtype=dtype)
    assert_agrees(here, on_cuda(job))
    assert_agrees(here, on_cuda(job), 16)


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("layout", ["channels last", "transposed", "strided", "rows"])
def test_memory_layouts_on_a_gpu(layout: str) -> None:
    job = on_cuda(make_job(19, space=(64, 128)))
    assert_agrees(here, replace(job, logits=irregular(job.logits, layout)))


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_classes", [2, 19, 150])
def test_low_resolution_on_a_gpu(num_classes: int, dtype: torch.dtype) -> None:
    job = low(make_job(num_classes, space=(64, 512), dtype=dtype), 16, 128)
    assert_agrees(here, on_cuda(job))


@pytest.mark.gpu
@on_gpu
def test_two_runs_are_equal_bit_by_bit_on_a_gpu() -> None:
    job = on_cuda(make_job(19, space=(512, 512)))
    cotangents = make_cotangents(job).cuda()
    one, other = (both(job, cotangents) for _ in range(2))
    assert torch.equal(one[0].masses, other[0].masses)
    assert torch.equal(one[1], other[1])


@pytest.mark.gpu
@on_gpu
def test_more_than_two_to_the_31_entries_on_a_gpu() -> None:
    C, P = 3, 2**30
    logits = torch.zeros(1, C, P, dtype=torch.bfloat16, device="cuda")
    logits[:, 2, -8:] = 1
    labels = torch.full((1, P), 2, dtype=torch.uint8, device="cuda")
    job = Job(logits, (HardTarget(labels),), (P,))
    cotangents = torch.ones(5, 1, C).cuda()
    sums, gradient = both(job, cotangents)
    torch.testing.assert_close(sums.masses[0].sum().item(), float(P), rtol=1e-6, atol=0)
    end = replace(job, logits=logits[..., -64:], targets=(HardTarget(labels[:, -64:]),), size=(64,))
    _, expected = reference(end, cotangents)
    torch.testing.assert_close(gradient[..., -64:].double(), expected, rtol=1e-2, atol=1e-3)
