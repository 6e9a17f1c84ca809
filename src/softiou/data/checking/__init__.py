"""Checks of whole data sets: one pass over all files, what is wrong, and a corrected copy."""

from softiou.data.checking.dataset import check_dataset, fix_dataset, fix_folder
from softiou.data.checking.fixing import FixReport
from softiou.data.checking.report import CheckReport

__all__ = ["CheckReport", "FixReport", "check_dataset", "fix_dataset", "fix_folder"]
