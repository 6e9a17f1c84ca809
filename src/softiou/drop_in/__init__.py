"""Losses under the names and arguments of other libraries: change the import, keep the call.

`softiou.drop_in.smp` speaks segmentation_models_pytorch, `softiou.drop_in.monai` speaks MONAI. On
hard labels each loss has the value of the original, to rounding; on soft labels its minimum is at
the label. None of them imports the library that it stands in for.
"""

__all__: list[str] = []
