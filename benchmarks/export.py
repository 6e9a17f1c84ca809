"""Compare exported files with their models: each architecture and format, on real images.

    python -m benchmarks.export                                # all models, ten minutes
    python -m benchmarks.export --only unet,pan                # only these; keep other results
    python -m benchmarks.export --images DIR                   # a folder of photographs

A model has random weights and random batch norm statistics, and its logits are scaled to a standard
deviation of 3, so that probabilities are neither uniform nor one-hot. It is exported, which checks
the file on random squares, and then run on five images, each cropped to another odd size: images of
CamVid's test split, or the embedded scenes of digits. The reported difference is the largest one of
a probability between the file and PyTorch, in float32 on the CPU.
Writes benchmarks/results/export/cpu.json.
"""

import argparse
import gc
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import onnxruntime
import torch
import transformers
from torch import Tensor, nn

from benchmarks._machine import ROOT, measured_on, save
from softiou.checkpoints import TrainedModel
from softiou.data import DatasetDescription, open_dataset, read_image
from softiou.errors import SoftiouError
from softiou.exporting import (
    FORMATS,
    SUFFIXES,
    TOLERANCE,
    ExportError,
    Format,
    export_model,
    largest_difference,
    open_exported,
)
from softiou.inference import find_images
from softiou.models import TRANSFORMERS, ModelSpec, SegmentationModel
from softiou.temperature import LogitScaling

RESULT = ROOT / "benchmarks" / "results" / "export" / "cpu.json"
CAMVID = ROOT.parent / "shared" / "data" / "camvid" / "test" / "images"
NUM_CLASSES = 11
LOGIT_DEVIATION = 3.0
STAGES = ["stage1", "stage2", "stage3", "stage4"]
PAIRS = (
    ("deeplabv3", "resnet18"),
    ("deeplabv3plus", "mobilenet_v2"),
    ("dpt", "tu-vit_tiny_patch16_224"),
    ("fpn", "efficientnet-b0"),
    ("linknet", "resnet18"),
    ("manet", "resnet18"),
    ("pan", "resnet18"),
    ("pspnet", "resnet18"),
    ("segformer", "mit_b0"),
    ("unet", "xception"),
    ("unetplusplus", "resnet18"),
    ("upernet", "tu-convnext_atto"),
    ("upernet", "tu-swin_tiny_patch4_window7_224"),
)


def configurations() -> dict[str, dict[str, Any]]:
    """Return configurations of transformers by their names in the table."""
    features: dict[str, Any] = {"out_features": STAGES}
    convnext, swin = transformers.ConvNextConfig(**features), transformers.SwinConfig(**features)
    found = {
        "SegFormer": transformers.SegformerConfig(),
        "UPerNet, ConvNeXt": transformers.UperNetConfig(backbone_config=convnext),
        "Mask2Former, Swin": transformers.Mask2FormerConfig(
            backbone_config=swin, encoder_layers=2, decoder_layers=3
        ),
    }
    return {
        name: json.loads(config.to_json_string(use_diff=False)) for name, config in found.items()
    }


def specs() -> list[ModelSpec]:
    """Return the exported models: each architecture with an encoder, and transformers."""
    own = [ModelSpec(architecture, encoder, NUM_CLASSES) for architecture, encoder in PAIRS]
    theirs = [
        ModelSpec(TRANSFORMERS, name, NUM_CLASSES, settings=settings)
        for name, settings in configurations().items()
    ]
    return own + theirs


def main() -> None:
    """Measure and write the file after each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", help="architectures, with commas between; default: all")
    parser.add_argument("--images", type=Path, default=CAMVID, help="a folder of photographs")
    options = parser.parse_args()
    images, source = load_images(options.images)
    wanted = options.only.split(",") if options.only else [spec.architecture for spec in specs()]
    rows = {_key(row): row for row in _earlier()}
    for spec in specs():
        if spec.architecture in wanted:
            for row in measure(spec, images):
                rows[_key(row)] = row
                print(json.dumps(row), flush=True)
            write(list(rows.values()), source)


def write(rows: list[dict[str, Any]], source: str) -> None:
    """Write the file of results, in the order of `specs`."""
    order: list[tuple[str, str, str]] = [
        (spec.architecture, spec.encoder, to) for spec in specs() for to in FORMATS
    ]
    content = {
        **measured_on(),
        "versions": {
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
        "images": source,
        "tolerance": TOLERANCE,
        "rows": sorted(
            (row for row in rows if _key(row) in order), key=lambda r: order.index(_key(r))
        ),
    }
    save(RESULT, content)


def measure(spec: ModelSpec, images: list[Tensor]) -> list[dict[str, Any]]:
    """Export a model in each format; return a row for each."""
    model = draw_model(spec)
    scaling = sharpen(model, images[0])
    names = tuple(f"class {index}" for index in range(NUM_CLASSES))
    with TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "none.ckpt"
        checkpoint.write_bytes(b"")
        trained = TrainedModel(model, DatasetDescription(names), {}, checkpoint, 0)
        rows = [_measure(trained, scaling, to, images) for to in FORMATS]
    gc.collect()
    return rows


def _measure(
    trained: TrainedModel, scaling: LogitScaling, to: Format, images: list[Tensor]
) -> dict[str, Any]:
    spec = trained.model.spec
    row: dict[str, Any] = {"architecture": spec.architecture, "encoder": spec.encoder, "format": to}
    start = time.perf_counter()
    path = trained.path.with_suffix(SUFFIXES[to])
    try:
        report = export_model(trained, path, to=to, scaling=scaling)
        seconds = time.perf_counter() - start
        exported = open_exported(path, precision="fp32", trust=True)
        batches = [image.unsqueeze(0) for image in images]
        difference = largest_difference(exported, trained.model, scaling, batches)
        if difference > TOLERANCE:
            raise ExportError(f"a probability differs by {difference:.1e}")
    except SoftiouError as error:
        return {**row, "ok": False, "why": str(error)}
    return {
        **row,
        "ok": True,
        "difference": difference,
        "size_mib": round(report.size_bytes / 2**20, 1),
        "smallest_px": report.info.smallest_px,
        "seconds": round(seconds, 1),
    }


def draw_model(spec: ModelSpec) -> SegmentationModel:
    """Build a random model with random batch norm statistics."""
    torch.manual_seed(0)
    model = SegmentationModel(spec).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            torch.nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def sharpen(model: SegmentationModel, image: Tensor) -> LogitScaling:
    """Return the temperature at which logits have a standard deviation of 3."""
    with torch.inference_mode():
        deviation = model(image.unsqueeze(0)).std(1).mean()
    return LogitScaling("temperature", (LOGIT_DEVIATION / float(deviation),))


def load_images(folder: Path) -> tuple[list[Tensor], str]:
    """Return five images (3, H, W) of different odd sizes, and a description of them."""
    if folder.is_dir():
        images = [read_image(file) for file in find_images(folder)[:5]]
        source = f"{len(images)} photographs of {'/'.join(folder.parts[-3:])}"
    else:
        digits = open_dataset("digits", "test")
        images, source = [digits[index]["image"] for index in range(5)], "5 scenes of digits"
    cut = [
        image[:, : image.shape[1] - 7 * k - 1, : image.shape[2] - 11 * k - 3]
        for k, image in enumerate(images)
    ]
    return cut, source


def _key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["architecture"], row["encoder"], row["format"]


def _earlier() -> list[dict[str, Any]]:
    return json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []


if __name__ == "__main__":
    main()
