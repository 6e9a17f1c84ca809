"""Segmentation models by name, from plain RGB to logits at the decoder's stride.

Shapes: N images, C classes, (H, W) the image, (h, w) the logits at the decoder's stride.
"""

from softiou.models.building import architectures
from softiou.models.custom import CustomModel, count_classes
from softiou.models.segmentation import SegmentationModel, model_of_file
from softiou.models.spec import TRANSFORMERS, ModelSpec
from softiou.models.unused import freeze_unused
from softiou.models.weights import IMAGENET_MEAN, IMAGENET_STD, load_encoder

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "TRANSFORMERS",
    "CustomModel",
    "ModelSpec",
    "SegmentationModel",
    "architectures",
    "count_classes",
    "freeze_unused",
    "load_encoder",
    "model_of_file",
]
