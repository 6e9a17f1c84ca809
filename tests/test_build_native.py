"""Building the compiled libraries, and the wheel that carries them."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from scripts import build_native

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(build_native, "FOLDER", tmp_path / "compiled")
    monkeypatch.setattr(build_native, "LONGEST", 1)
    return tmp_path / "compiled"


def write_compiler(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


# A compiler that writes what it was given into the library, which is its argument after -o.
COPIES = 'while [ $# -gt 0 ]; do [ "$1" = -o ] && cat > "$2"; shift; done; echo run >> "$0.log"'


def test_a_library_for_each_file_and_processor(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", write_compiler(tmp_path / "cc", COPIES))
    assert build_native.build("x86_64")
    libraries = sorted(path.name for path in folder.glob("*.so"))
    assert libraries == [
        f"{name}-{variant}.so"
        for name in ("data", "metrics", "overlap")
        for variant in ("x86-64-v3", "x86-64-v4")
    ]
    assert "softiou_pixels" in (folder / "metrics-x86-64-v4.so").read_text(encoding="utf-8")
    runs = len((tmp_path / "cc.log").read_text().split())
    assert build_native.build("x86_64")  # nothing has changed
    assert len((tmp_path / "cc.log").read_text().split()) == runs + 1  # --version
    assert build_native.build("arm64")
    assert sorted(path.name for path in folder.glob("*.so")) == [
        "data-arm64.so",
        "metrics-arm64.so",
        "overlap-arm64.so",
    ]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo bad machine >&2; exit 3", "bad machine"),
        ("exit 0", "failed"),  # and made nothing
        ('[ "$1" = --version ] || exec sleep 5', "took over 1 s"),
    ],
)
def test_a_compiler_that_fails_is_quoted(
    script: str,
    expected: str,
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(build_native, "FILES", {"overlap": build_native.FILES["overlap"]})
    monkeypatch.setitem(build_native.VARIANTS, "x86_64", {"x86-64-v3": ()})
    monkeypatch.setenv("CC", write_compiler(tmp_path / "cc", script))
    assert not build_native.build("x86_64")
    said = capsys.readouterr().out
    assert "overlap-x86-64-v3.so is missing" in said
    assert expected in said
    assert not list(folder.iterdir())


def test_without_a_compiler(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    assert not build_native.build("x86_64")
    assert "no C compiler found" in capsys.readouterr().out


def test_another_processor(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", write_compiler(tmp_path / "cc", COPIES))
    assert not build_native.build("riscv64")
    assert not list(folder.glob("*.so"))


def test_the_wheel(tmp_path: Path) -> None:
    if build_native.find_compiler() is None:
        pytest.skip("needs a C compiler")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith(f"-py3-none-{build_native.platform_tag()}.whl")
    assert wheel.stat().st_size < 2e6
    with ZipFile(wheel) as file:
        names = file.namelist()
    assert sum(name.startswith("softiou/_compiled/") for name in names) >= 2
    assert "softiou/overlap/native.c" in names
