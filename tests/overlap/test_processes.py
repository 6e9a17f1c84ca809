"""The loss over two real processes (gloo): value and gradient are those of one joined batch."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from softiou import targets
from softiou.accumulation import Accumulation
from softiou.losses import JaccardMetricLoss
from softiou.overlap import gather_images, overlap_statistics

# Which of the four images each process sees.
SHARES = {
    "even": [[0, 1], [2, 3]],
    "uneven": [[0, 1, 2], [3]],
    "nothing for one": [[], [0, 1, 2, 3]],
}
LOSSES: dict[str, dict[str, Any]] = {
    "batch": {"per": "batch"},
    "image": {"per": "image"},
    "class": {"per": "class"},
    "mixture": {"per": {"batch": 1, "image": 1, "class": 1}, "class_weights": [1, 2, 0.5]},
    "both": {"per": "image", "classes": "both", "threshold": 0.4},
    "chunked": {"per": "batch", "impl": "chunked"},
}


def images() -> tuple[Tensor, Tensor]:
    """Four images; the third is half ignored and the last has one pixel that counts."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4, 5, 6, 10, generator=generator)
    target = torch.randint(0, 3, (4, 6, 10), generator=generator)
    target[2, :3] = 255
    target[3] = 255
    target[3, 2, 2] = 1
    return features, target


def head() -> nn.Conv2d:
    torch.manual_seed(1)
    return nn.Conv2d(5, 3, 1)


def loss_of(name: str, **settings: Any) -> JaccardMetricLoss:
    return JaccardMetricLoss(cross_entropy=0.25, ignore_index=255, **LOSSES[name], **settings)


def expected(name: str) -> tuple[Tensor, Tensor]:
    """The loss of all images and the gradient of the weights."""
    model, (features, target) = head(), images()
    loss = loss_of(name)(model(features), target)
    loss.backward()
    assert model.weight.grad is not None
    return loss.detach(), model.weight.grad


def results_of(rank: int) -> dict[str, tuple[Tensor, Tensor]]:
    """The same from the images of one process, with the gradients averaged by DDP."""
    results = {}
    features, target = images()
    for share, of_ranks in SHARES.items():
        own = of_ranks[rank]
        for name in LOSSES:
            model = nn.parallel.DistributedDataParallel(head())
            loss = loss_of(name, process_group="world")(model(features[own]), target[own])
            loss.backward()
            grad = model.module.weight.grad
            assert grad is not None
            results[f"{share}, {name}"] = (loss.detach(), grad)
    results["accumulated"] = accumulated(features, target, SHARES["uneven"][rank])
    return results


def accumulated(features: Tensor, target: Tensor, own: list[int]) -> tuple[Tensor, Tensor]:
    """Micro-batches within processes: rank 0 has two and one images, rank 1 one and none."""
    model = head()
    whole = Accumulation(loss_of("batch", process_group="world"))
    parts = [own[:2], own[2:]]
    for part in parts:
        whole.add(model(features[part]), target[part])
    for part in parts:
        whole.loss(model(features[part]), target[part]).backward()  # type: ignore[no-untyped-call]
    grad = model.weight.grad
    assert grad is not None
    dist.all_reduce(grad)
    return whole.value(), grad / 2


def work(rank: int, folder: str) -> dict[str, tuple[Tensor, Tensor]]:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    try:
        results = results_of(rank)
    finally:
        dist.destroy_process_group()
    torch.save(results, Path(folder, f"{rank}.pt"))
    return results


def work_elsewhere(_: int, folder: str) -> None:
    work(1, folder)


def test_two_processes_agree_with_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    threads = torch.get_num_threads()
    other = spawn(work_elsewhere, args=(str(tmp_path),), join=False)  # type: ignore[no-untyped-call]
    try:
        results = [work(0, str(tmp_path))]
    finally:
        torch.set_num_threads(threads)
    while not other.join():
        pass
    results.append(torch.load(tmp_path / "1.pt", weights_only=True))
    assert len(results[0]) == len(SHARES) * len(LOSSES) + 1
    for case in results[0]:
        name = "batch" if case == "accumulated" else case.split(", ")[1]
        loss, gradient = expected(name)
        for rank in (0, 1):
            found, found_gradient = results[rank][case]
            torch.testing.assert_close(found, loss, rtol=1e-6, atol=1e-7)
            torch.testing.assert_close(found_gradient, gradient, rtol=1e-5, atol=1e-7)


def test_one_process_needs_no_group() -> None:
    logits, target = torch.zeros(1, 2, 4), torch.zeros(1, 4).long()
    with pytest.raises(RuntimeError, match=r"torch.distributed is not initialised"):
        JaccardMetricLoss(process_group="world")(logits, target)
    with pytest.raises(RuntimeError, match=r"leave `process_group` out"):
        gather_images(overlap_statistics(logits, target))


# Micro-batches in one process


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", ["hard", "votes", "two targets"])
def test_micro_batches_add_up_to_the_joined_batch(name: str, kind: str) -> None:
    features, hard = images()

    def target_of(part: slice) -> Any:
        if kind == "votes":
            return targets.votes(torch.stack([hard[part], hard[part].flip(2)], 1))
        two = [(0.5, hard[part]), (0.5, targets.boundary(hard[part]))]
        return two if kind == "two targets" else hard[part]

    model, loss = head(), loss_of(name)
    whole = Accumulation(loss)
    parts = [slice(0, 1), slice(1, 1), slice(1, 3), slice(3, 4)]
    for part in parts:
        whole.add(model(features[part]), target_of(part))
    values = [whole.loss(model(features[part]), target_of(part)) for part in parts]
    torch.autograd.backward(values)
    joined = head()
    other = loss(joined(features), target_of(slice(0, 4)))
    torch.autograd.backward(other)
    for value in (*values, whole.value()):
        torch.testing.assert_close(value.detach(), other.detach(), rtol=1e-6, atol=1e-7)
    assert model.weight.grad is not None
    torch.testing.assert_close(model.weight.grad, joined.weight.grad, rtol=1e-5, atol=1e-7)


def test_the_mean_of_micro_batches_is_another_loss() -> None:
    """What accumulation usually computes, and why there is one of our own."""
    features, target = images()
    loss, logits = loss_of("batch"), head()(features)
    mean = sum(loss(logits[n : n + 1], target[n : n + 1]) for n in range(4)) / 4
    assert abs(mean - loss(logits, target)).item() > 1e-2


def test_accumulation_says_what_is_wrong() -> None:
    logits, target = torch.zeros(2, 3, 4), torch.zeros(2, 4).long()
    whole = Accumulation(JaccardMetricLoss())
    with pytest.raises(ValueError, match=r"micro-batches to be added before"):
        whole.value()
    whole.add(logits, target)
    with pytest.raises(ValueError, match=r"micro-batch 0 to have 2 images, .* but got 1"):
        whole.loss(logits[:1], target[:1])
    whole.loss(logits, target)
    with pytest.raises(ValueError, match=r"before the first loss is computed.*two loops"):
        whole.add(logits, target)
    with pytest.raises(ValueError, match=r"Expected 1 micro-batches, .* but got one more"):
        whole.loss(logits, target)
