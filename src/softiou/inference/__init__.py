"""Inference: predict probabilities at the original resolution, and write masks."""

from softiou.inference.devices import Precision, autocast, best_device, best_precision, emulation
from softiou.inference.pictures import encode_image, index_image, overlay
from softiou.inference.prediction import (
    image_probs,
    images_at_once,
    of_equal_size,
    predict_bands,
    predict_batch,
    predict_logits,
    predict_probs,
    probability_bands,
)
from softiou.inference.predictors import ModelPredictor, Predictor, require_finite
from softiou.inference.settings import WHOLE_IMAGE, InferenceSettings
from softiou.inference.writing import MaskWriter, find_images

__all__ = [
    "WHOLE_IMAGE",
    "InferenceSettings",
    "MaskWriter",
    "ModelPredictor",
    "Precision",
    "Predictor",
    "autocast",
    "best_device",
    "best_precision",
    "emulation",
    "encode_image",
    "find_images",
    "image_probs",
    "images_at_once",
    "index_image",
    "of_equal_size",
    "overlay",
    "predict_bands",
    "predict_batch",
    "predict_logits",
    "predict_probs",
    "probability_bands",
    "require_finite",
]
