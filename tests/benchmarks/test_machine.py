"""What the results files say of the code that made them."""

import subprocess
from pathlib import Path

import pytest

from benchmarks import _machine

AUTHOR = ("-c", "user.name=A", "-c", "user.email=a@example.org")


def test_results_that_are_replaced_do_not_make_the_code_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", *AUTHOR, *arguments], cwd=tmp_path, check=True, capture_output=True)

    result, code = tmp_path / "benchmarks" / "results" / "a.json", tmp_path / "code.py"
    result.parent.mkdir(parents=True)
    for file in (result, code):
        file.write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(_machine, "ROOT", tmp_path)
    commit = _machine.current_commit()
    assert len(commit) == 12
    assert set(commit) <= set("0123456789abcdef")
    result.write_text("2")
    (tmp_path / "new.txt").touch()
    assert _machine.current_commit() == commit
    code.write_text("2")
    assert _machine.current_commit() == f"{commit}-dirty"
