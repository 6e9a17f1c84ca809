"""Pages for people: `collect` reads a run directory, `render` makes a page of it, or of several."""

from softiou.reports.collect import ReportData, collect
from softiou.reports.comparison import Comparison, ComparisonRow, save_comparison
from softiou.reports.comparison_page import render_comparison, write_comparison_report
from softiou.reports.page import render, write_report

__all__ = [
    "Comparison",
    "ComparisonRow",
    "ReportData",
    "collect",
    "render",
    "render_comparison",
    "save_comparison",
    "write_comparison_report",
    "write_report",
]
