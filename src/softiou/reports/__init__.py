"""HTML reports: read run directories, and write pages about one run or several."""

from softiou._moved import moved_names as _moved_names
from softiou.reports.collect import ReportData, collect
from softiou.reports.comparison_page import render_comparison, write_comparison_report
from softiou.reports.model_table import ModelRow, ModelTable, save_model_table
from softiou.reports.page import render, write_report
from softiou.reports.tables import ranked_suspects

__all__ = [
    "ModelRow",
    "ModelTable",
    "ReportData",
    "collect",
    "ranked_suspects",
    "render",
    "render_comparison",
    "save_model_table",
    "write_comparison_report",
    "write_report",
]

__getattr__ = _moved_names(
    __name__,
    {
        "softiou.reports": "Comparison:ModelTable ComparisonRow:ModelRow "
        "save_comparison:save_model_table"
    },
)
