"""What the benchmarks import."""

from pathlib import Path

import benchmarks


def test_benchmarks_import_no_command_line() -> None:
    files = sorted(Path(benchmarks.__file__).parent.glob("*.py"))
    assert len(files) > 10
    assert [file.name for file in files if "softiou.cli" in file.read_text(encoding="utf-8")] == []
