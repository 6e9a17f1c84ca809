"""The report of a run: `collect` reads the run directory, `render` writes one page from it."""

from softiou.reports.collect import ReportData, collect
from softiou.reports.comparison import Comparison, ComparisonRow, save_comparison
from softiou.reports.page import render, write_report

__all__ = [
    "Comparison",
    "ComparisonRow",
    "ReportData",
    "collect",
    "render",
    "save_comparison",
    "write_report",
]
