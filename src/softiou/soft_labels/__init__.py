"""Soft labels on disk: a teacher's probabilities, stored once and read for augmented views."""

from softiou.soft_labels.codes import Quantisation
from softiou.soft_labels.manifest import Manifest, Normalisation, Teacher
from softiou.soft_labels.reading import SoftLabelReader, interpolate_at
from softiou.soft_labels.store import SoftLabelStore

__all__ = [
    "Manifest",
    "Normalisation",
    "Quantisation",
    "SoftLabelReader",
    "SoftLabelStore",
    "Teacher",
    "interpolate_at",
]
