"""Annotation formats: one module for each; the files are read in place."""

from softiou.data.annotations.formats import FORMATS, SIGNS, AnnotationLayout

__all__ = ["FORMATS", "SIGNS", "AnnotationLayout"]
