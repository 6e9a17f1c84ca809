"""Check whole data sets in one pass over all files, and write corrected copies."""

from softiou.checking.dataset import check_dataset, fix_dataset, fix_folder
from softiou.checking.fixing import FixReport
from softiou.checking.report import CheckReport

__all__ = ["CheckReport", "FixReport", "check_dataset", "fix_dataset", "fix_folder"]
