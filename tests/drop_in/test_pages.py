"""What the pages on other trainers and other libraries show, runs; and what they claim, holds."""

import re
import sys
import types
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from softiou import JaccardMetricLoss, TverskyLoss

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def sections(page: str) -> dict[str, list[str]]:
    """The Python blocks under each heading that has some; those of the introduction under ""."""
    text = (PAGES / page).read_text(encoding="utf-8")
    introduction, *rest = re.split(r"^## ", text, flags=re.MULTILINE)
    parts = {"": introduction} | {part.partition("\n")[0]: part for part in rest}
    return {title: BLOCK.findall(part) for title, part in parts.items() if BLOCK.search(part)}


def run(page: str, title: str) -> None:
    """Run a section after the introduction, in a module of its own."""
    found = sections(page)
    names: dict[str, Any] = {"__name__": page}
    for code in [*found.get("", []), *(found[title] if title else [])]:
        exec(compile(code, page, "exec"), names)


@pytest.mark.parametrize("title", sections("migration.md"))
def test_migration(title: str) -> None:
    if "kornia" in title and find_spec("kornia") is None:
        pytest.skip("kornia is not installed: softiou[benchmarks] has it")
    run("migration.md", title)


@pytest.mark.parametrize("title", sections("other-trainers.md"))
def test_other_trainers(title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "Hugging Face" in title:
        pytest.importorskip("transformers", reason="needs softiou[transformers]")
    if title == "Keras":
        pytest.importorskip("h5py", reason="needs keras")
        monkeypatch.setenv("KERAS_BACKEND", "torch")
    run("other-trainers.md", title)


def test_the_loss_for_mmsegmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for mmseg's registry, which is called as theirs."""
    text = (PAGES / "migration.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```py\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    found: dict[str, Any] = {}

    class Registry:
        def register_module(self) -> Any:
            return lambda kind: found.setdefault(kind.__name__, kind)

    registry = types.ModuleType("mmseg.registry")
    vars(registry)["MODELS"] = Registry()
    monkeypatch.setitem(sys.modules, "mmseg", types.ModuleType("mmseg"))
    monkeypatch.setitem(sys.modules, "mmseg.registry", registry)
    exec(compile(code, "migration.md", "exec"), {"__name__": "losses"})
    loss = found["SoftIoULoss"](loss_weight=0.4, cross_entropy=0.5)
    logits, labels = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    labels[0, 0] = 255
    expected = JaccardMetricLoss(cross_entropy=0.5, ignore_index=255)(logits, labels)
    torch.testing.assert_close(loss(logits, labels, weight=None, ignore_index=255), 0.4 * expected)


def test_what_to_use_beside_softiou_exists() -> None:
    from monai import losses, metrics
    from torchmetrics import segmentation

    text = (PAGES / "migration.md").read_text(encoding="utf-8")
    beside = text.partition("What softiou does not have:")[2].partition("\n\n")[0]
    names = re.findall(r"`(?:monai\.losses\.)?(\w+(?:Metric|Distance|Loss))`", beside)
    assert len(names) == 6
    assert all(any(hasattr(p, n) for p in (losses, metrics, segmentation)) for n in names)


def test_every_library_has_its_snippets() -> None:
    assert {"segmentation_models_pytorch", "MONAI", "torchmetrics", "kornia"} < set(
        sections("migration.md")
    )
    files = set(re.findall(r"`([\w/]+\.py)`", (PAGES / "other-trainers.md").read_text("utf-8")))
    examples = PAGES.parents[1] / "examples"
    scripts = {str(f.relative_to(examples)) for f in examples.rglob("*.py")}
    assert files == scripts - {"from_python.py"}  # the notebook's, of softiou's own trainer


# The paper's code cannot be installed: what its loss computes, written from its description.


def jdt(
    probs: Tensor,
    y: Tensor,
    *,
    weights: Sequence[float],
    alpha: float,
    beta: float,
    gamma: float,
    smooth: float,
    log: bool,
    everything: bool,
) -> Tensor:
    """D w_D + I w_I + C w_C of probabilities and labels (N, C, P), "ALL" or "PRESENT" classes."""

    def loss(p: Tensor, y: Tensor) -> Tensor:
        tp = torch.minimum(p, y).sum(-1)
        fp, fn = (p - y).clamp(min=0).sum(-1), (y - p).clamp(min=0).sum(-1)
        score = (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)
        return (-score.log() if log else 1 - score) ** gamma

    def mean(values: Tensor, active: Tensor, dim: int) -> Tensor:
        counts = active.sum(dim)
        return ((values * active).sum(dim)[counts > 0] / counts[counts > 0]).mean()

    by_image, active = loss(probs, y), torch.ones(y.shape[:2], dtype=torch.bool)
    if not everything:
        active = y.amax(-1) > 0.01
    joined = loss(probs.transpose(0, 1).flatten(1), y.transpose(0, 1).flatten(1))
    parts = (joined[active.any(0)].mean(), mean(by_image, active, 1), mean(by_image, active, 0))
    return torch.stack([w * part for w, part in zip(weights, parts, strict=True)]).sum()


@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.0, 0.5, 0.5)])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("gamma", "log"), [(1.0, False), (2.0, False), (1.0, True)])
def test_the_table_of_the_papers_code(
    weights: tuple[float, float, float], soft: bool, gamma: float, log: bool
) -> None:
    logits = torch.randn(3, 5, 20, dtype=torch.float64)
    labels = torch.randint(0, 4, (3, 20))
    labels[0].clamp_(max=1)  # not every class in every image
    y = torch.nn.functional.one_hot(labels, 5).movedim(-1, 1).double()
    if soft:
        y = 0.8 * y + 0.2 / 5
    expected = jdt(
        logits.softmax(1),
        y,
        weights=weights,
        alpha=1.0,
        beta=0.7,
        gamma=gamma,
        smooth=1e-3,
        log=log,
        everything=soft,
    )
    loss = TverskyLoss(
        alpha=1.0,
        beta=0.7,
        gamma=gamma,
        log=log,
        smooth=1e-3,
        per=dict(zip(("batch", "image", "class"), weights, strict=True)),
        classes="all" if soft else "present",
    )
    found = loss(logits, y if soft else labels)
    torch.testing.assert_close(found, expected / sum(weights), rtol=1e-6, atol=1e-9)


def test_alpha_and_beta_of_one_are_the_jaccard_metric_loss() -> None:
    logits, labels = torch.randn(2, 3, 20), torch.randint(0, 3, (2, 20))
    tversky = TverskyLoss(alpha=1.0, beta=1.0, smooth=1e-3)
    torch.testing.assert_close(
        tversky(logits, labels), JaccardMetricLoss(smooth=1e-3)(logits, labels)
    )
