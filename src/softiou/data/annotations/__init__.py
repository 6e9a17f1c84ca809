"""Annotation files, read in place: one module for each format."""

from softiou.data.annotations.formats import FORMATS, SIGNS, AnnotationLayout

__all__ = ["FORMATS", "SIGNS", "AnnotationLayout"]
