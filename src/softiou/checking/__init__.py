"""Checks of whole data sets: one pass over all files, what is wrong, and a corrected copy."""

from softiou.checking.dataset import check_dataset, fix_dataset, fix_folder
from softiou.checking.fixing import FixReport
from softiou.checking.report import CheckReport

__all__ = ["CheckReport", "FixReport", "check_dataset", "fix_dataset", "fix_folder"]
