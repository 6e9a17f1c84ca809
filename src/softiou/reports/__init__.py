"""The report of a run: `collect` reads the run directory, `render` writes one page from it."""

from softiou.reports.collect import ReportData, collect
from softiou.reports.page import render, write_report

__all__ = ["ReportData", "collect", "render", "write_report"]
