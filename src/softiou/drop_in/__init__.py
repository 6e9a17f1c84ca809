"""Losses and metrics with the names and arguments of other libraries: only the import changes.

`softiou.drop_in.smp` replaces segmentation_models_pytorch, `softiou.drop_in.monai` MONAI. For hard
labels each loss has the value of the original, up to rounding; for soft labels the overlap losses
are minimal at p = y. The original libraries are not imported, except MONAI for its losses that
have no replacement here.
"""

__all__: list[str] = []
