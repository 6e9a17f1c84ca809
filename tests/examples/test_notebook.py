"""The notebook: as its script makes it, and every cell runs."""

from typing import Any

import pytest

from scripts.write_notebook import NOTEBOOK, SCRIPT, as_text, notebook
from softiou.jobs import Run


def test_notebook_is_what_the_script_makes() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert text == as_text(SCRIPT.read_text(encoding="utf-8")), "python -m scripts.write_notebook"
    assert '"outputs": []' in text


def test_cells_are_code_or_words() -> None:
    made = notebook("# %% [markdown]\n# # Title\n#\n# Words.\n\n# %%\na = 1\n\nb = a\n")
    kinds = [(cell["cell_type"], "".join(cell["source"])) for cell in made["cells"]]
    assert kinds == [("markdown", "# Title\n\nWords."), ("code", "a = 1\n\nb = a")]


def test_every_cell_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    cells = notebook(SCRIPT.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), SCRIPT.name, "exec"), names)
    run = names["run"]
    assert isinstance(run, Run)
    assert "0 errors in the data" in capsys.readouterr().out
    assert names["metrics"]["miou_d"] > 60
    assert "<table" in run._repr_html_()
    assert "<iframe" in run.report()._repr_html_()
