"""Compare names of other libraries with those of softiou: values and speed.

    python -m benchmarks.name_by_name
    python -m benchmarks.name_by_name --stated      # write STATED, keep what was measured

Runs both if the other library is installed; STATED has facts from its documentation instead.
Losses: 2x19x256x256, forward and backward; binary ones 8x1x256x256. Metrics: an update with
2x19x256x256 and the value. Values are compared in float64. Ratios are other library / softiou, the
median over interleaved rounds on one thread. Writes benchmarks/results/name_by_name/cpu.json, from
which the table in the documentation is written (`python -m benchmarks.tables`).
"""

import argparse
import importlib
import json
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from statistics import median
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._machine import ROOT, measured_on, save
from benchmarks.loss_measures import interleaved_seconds

RESULT = ROOT / "benchmarks" / "results" / "name_by_name" / "cpu.json"
TOLERANCE = 1e-5  # relative error in float64; some libraries sum in float32
SMP, MONAI = "segmentation_models_pytorch", "monai"
SIZE = (2, 19, 256, 256)
BINARY = (8, 1, 256, 256)


class Row(NamedTuple):
    """A name of another library and its replacement.

    Attributes:
        library: Package of the other library.
        theirs: Module, name and settings of the original.
        ours: Module, name and settings of the replacement.
        data: Key of `tensors`, the arguments of both.
        note: A remark.
    """

    library: str
    theirs: tuple[str, str, dict[str, Any]]
    ours: tuple[str, str, dict[str, Any]]
    data: str
    note: str = ""


def rows() -> list[Row]:
    """Return the measured rows."""
    found = []
    drop_in = partial(_alike, SMP, f"{SMP}.losses", "softiou.drop_in.smp")
    for name in ("JaccardLoss", "DiceLoss", "TverskyLoss", "FocalLoss", "LovaszLoss"):
        found.append(drop_in(name, {"mode": "multiclass"}, "labels"))
    found += [
        drop_in("DiceLoss", {"mode": "binary"}, "binary"),
        drop_in("SoftCrossEntropyLoss", {"smooth_factor": 0.1}, "labels"),
        drop_in("SoftBCEWithLogitsLoss", {}, "binary floats"),
        drop_in("MCCLoss", {}, "binary probs"),
        Row(
            SMP,
            (f"{SMP}.losses", "JaccardLoss", {"mode": "multiclass"}),
            ("softiou", "JaccardMetricLoss", {"smooth": 0}),
            "labels",
            "where every class occurs",
        ),
    ]
    drop_in = partial(_alike, MONAI, "monai.losses", "softiou.drop_in.monai")
    softmax = {"softmax": True, "to_onehot_y": True}
    for name in ("DiceLoss", "DiceCELoss", "GeneralizedDiceLoss", "TverskyLoss", "DiceFocalLoss"):
        found.append(drop_in(name, softmax, "channel labels"))
    found += [
        drop_in("GeneralizedDiceFocalLoss", softmax, "channel labels"),
        drop_in("FocalLoss", {"to_onehot_y": True}, "channel labels"),
        drop_in("DiceLoss", softmax | {"squared_pred": True}, "channel labels"),
        drop_in(
            "DiceLoss",
            {"softmax": True, "soft_label": True},
            "soft",
            "theirs is off by 3e-4 in float32",
        ),
        drop_in("MaskedDiceLoss", {"softmax": True}, "masked"),
    ]
    drop_in = partial(_alike, "torchmetrics")
    of_classes = {"num_classes": SIZE[1], "ignore_index": 255}
    kinds = "torchmetrics.classification", "softiou.drop_in.torchmetrics"
    for name in ("MulticlassJaccardIndex", "MulticlassCalibrationError"):
        found.append(drop_in(*kinds, name, of_classes, "metric"))
    indices = {"num_classes": SIZE[1], "input_format": "index"}
    segmentation = "torchmetrics.segmentation"
    metrics = "softiou.metrics"
    found += [
        drop_in(segmentation, kinds[1], "MeanIoU", indices, "indices"),
        Row(
            "torchmetrics",
            (kinds[0], "MulticlassJaccardIndex", of_classes),
            (metrics, "MeanIoU", of_classes | {"absent": "zero"}),
            "metric",
        ),
        Row(
            "torchmetrics",
            (kinds[0], "MulticlassAccuracy", of_classes | {"average": "micro"}),
            (metrics, "PixelAccuracy", of_classes),
            "metric",
        ),
        Row(
            "torchmetrics",
            (segmentation, "DiceScore", indices | {"average": "macro"}),
            (metrics, "MeanDice", {"num_classes": SIZE[1], "per": "image"}),
            "indices",
            "where every class is in every image",
        ),
    ]
    for name, theirs, ours in (
        ("DiceLoss", {"average": "macro"}, "DiceSemimetricLoss"),
        ("TverskyLoss", {"alpha": 0.5, "beta": 0.5}, "TverskyLoss"),
    ):
        settings = {"per": "image", "smooth": 0}
        row = Row("kornia", ("kornia.losses", name, theirs), ("softiou", ours, settings), "labels")
        found.append(row)
    return found


# (library, theirs, ours, same value?): not run, because the library is not easily installed.
STATED = (
    (
        "mmsegmentation",
        "CrossEntropyLoss(avg_non_ignore=True)",
        "`cross_entropy=1.0` of any loss",
        "yes; by default theirs divides by the ignored pixels, too",
    ),
    (
        "mmsegmentation",
        "TverskyLoss",
        '`TverskyLoss(alpha=0.3, beta=0.7, per="image", classes="all")`',
        "yes",
    ),
    ("mmsegmentation", "DiceLoss", "`DiceSemimetricLoss`", "no: its masses below are squared"),
    ("mmsegmentation", "LovaszLoss", "`softiou.drop_in.smp.LovaszLoss`", "yes"),
    ("mmsegmentation", "IoUMetric", "`SegmentationScores`", "yes, where every class occurs"),
    (
        "nnU-Net",
        "DC_and_CE_loss",
        '`DiceSemimetricLoss(cross_entropy=0.5, per="image", classes="all", smooth=5e-6)`',
        "theirs is twice ours minus 1; do_bg=False: `classes=[1, 2, ...]`",
    ),
    ("nnU-Net", "TopKLoss", "none", ""),
    ("JDTLosses", "JDTLoss", "`JaccardMetricLoss`, `TverskyLoss`", "yes, see below"),
    ("JDTLosses", "mIoUDMetric", "`MeanIoU`", "yes"),
    (
        "JDTLosses",
        "mIoUICMetric",
        '`MeanIoU(per="image")`, `"class"`',
        "yes; two classes: foreground",
    ),
    ("JDTLosses", "mIoUIq, mIoUCq", '`MeanIoU(worst="averaged")`', "no: ceil of q n, theirs floor"),
)


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--stated", action="store_true", help="keep what was measured")
    arguments = parser.parse_args()
    if arguments.stated:
        save(RESULT, json.loads(RESULT.read_text()) | {"stated": [list(row) for row in STATED]})
        return
    rounds = arguments.rounds
    torch.set_num_threads(1)
    content = {
        **measured_on(),
        "rounds": rounds,
        "versions": {library: version(library) for library in {row.library for row in rows()}},
        "rows": [measure(row, rounds=rounds) for row in rows()],
        "stated": [list(row) for row in STATED],
    }
    save(RESULT, content)
    print(json.dumps(content["rows"], indent=1))


def measure(row: Row, *, rounds: int) -> dict[str, Any]:
    """Return names, values, whether the values are equal, and the ratio of the times."""
    arguments = tensors(row.data)
    runs = {
        name: _run(_made(*which), arguments)
        for name, which in (("theirs", row.theirs), ("ours", row.ours))
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exact = arguments
        if row.theirs[1] != "LovaszLoss":  # smp's mixes dtypes
            exact = tuple(x.double() if x.is_floating_point() else x for x in arguments)
        values = {
            name: float(_run(_made(*which), exact)())
            for name, which in (("theirs", row.theirs), ("ours", row.ours))
        }
        seconds = interleaved_seconds(runs, rounds=rounds, device="cpu")
    pairs = zip(seconds["theirs"], seconds["ours"], strict=True)
    error = abs(values["ours"] - values["theirs"]) / max(abs(values["theirs"]), 1e-12)
    return {
        "library": row.library,
        "theirs": _call(row.theirs),
        "ours": f"{row.ours[0]}.{row.ours[1]}",
        "settings": _call(row.ours),
        "note": row.note,
        "values": values,
        "same": error < TOLERANCE,
        "times_as_fast": median(theirs / ours for theirs, ours in pairs),
    }


def tensors(data: str) -> tuple[Tensor, ...]:
    """Return the arguments of a loss or metric: prediction, target, and optionally a mask."""
    generator = torch.Generator().manual_seed(0)
    if data.startswith("binary"):
        logits = torch.randn(BINARY, generator=generator)
        labels = torch.randint(0, 2, BINARY, generator=generator)
        if data == "binary probs":
            return logits.sigmoid(), labels
        return logits, labels.float() if data == "binary floats" else labels
    logits = torch.randn(SIZE, generator=generator)
    labels = torch.randint(0, SIZE[1], (SIZE[0], *SIZE[2:]), generator=generator)
    if data in ("metric", "indices"):
        logits.scatter_add_(
            1, labels.unsqueeze(1), torch.full((1,), 3.0).expand(SIZE[0], 1, *SIZE[2:])
        )
        return (logits.softmax(1), labels) if data == "metric" else (logits.argmax(1), labels)
    onehot = F.one_hot(labels, SIZE[1]).movedim(-1, 1).float()
    mask = torch.randint(0, 2, (SIZE[0], 1, *SIZE[2:]), generator=generator)
    return {
        "labels": (logits, labels),
        "channel labels": (logits, labels.unsqueeze(1)),
        "soft": (logits, 0.9 * onehot + 0.1 / SIZE[1]),
        "masked": (logits, onehot, mask),
    }[data]


def _alike(
    library: str,
    theirs: str,
    ours: str,
    name: str,
    settings: dict[str, Any],
    data: str,
    note: str = "",
) -> Row:
    return Row(library, (theirs, name, settings), (ours, name, settings), data, note)


def _made(module: str, name: str, settings: dict[str, Any]) -> Any:
    return getattr(importlib.import_module(module), name)(**settings)


def _run(made: Any, arguments: tuple[Tensor, ...]) -> Callable[[], Tensor]:
    """Return a function that runs a loss with its gradient, or one update of a metric."""
    if hasattr(made, "update"):

        def score() -> Tensor:
            made.reset()
            made.update(*arguments)
            value: Tensor = made.compute()
            return value

        return score
    logits = arguments[0].clone().requires_grad_()

    def step() -> Tensor:
        loss: Tensor = made(logits, *arguments[1:])
        torch.autograd.backward(loss)
        logits.grad = None
        return loss.detach()

    return step


def _call(which: tuple[str, str, dict[str, Any]]) -> str:
    """Return the call as text, with the relevant settings."""
    _, name, settings = which
    shown = {k: v for k, v in settings.items() if k not in ("num_classes", "ignore_index")}
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in shown.items())})"


if __name__ == "__main__":
    main()
