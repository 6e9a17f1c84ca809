"""The C file of the package: compiled once, kept in a cache, done without where that fails."""

import ctypes
import os
from pathlib import Path

import pytest

from softiou import _compile

SOURCE = ("softiou.overlap", "native.c")


def load() -> ctypes.CDLL | str:
    """Load as if for the first time."""
    return _compile.load_library.__wrapped__(*SOURCE)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def _compiler() -> None:
    if _compile._compiler() is None:
        pytest.skip("needs a C compiler")


def write_compiler(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "softiou").iterdir())


@pytest.mark.usefixtures("_compiler")
def test_it_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = load()
    assert isinstance(library, ctypes.CDLL)
    assert library.softiou_gather is not None
    record, file = kept(tmp_path)
    assert file.match("native-*.so")
    assert record == file.with_suffix(".sha256")
    folder = file.parent
    assert oct(folder.stat().st_mode)[-3:] == "700"

    def fail(*_: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(_compile, "_compile", fail)
    assert isinstance(load(), ctypes.CDLL)


@pytest.mark.usefixtures("_compiler")
def test_another_processor_gets_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    real = _compile._processor()
    monkeypatch.setattr(_compile, "_processor", lambda: real + b" another")
    load()
    assert len(kept(tmp_path)) == 4


@pytest.mark.usefixtures("_compiler")
def test_a_compiler_without_threads_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'case " $* " in *" -fopenmp "*) echo no such option >&2; exit 1;; esac; exec cc "$@"'
    if not os.environ.get("CC"):
        monkeypatch.setenv("CC", write_compiler(tmp_path / "mycc", script))
    assert isinstance(load(), ctypes.CDLL)


@pytest.mark.usefixtures("_compiler")
def test_a_compiler_with_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'case "$1" in -DMINE) exec cc "$@";; *) exit 1;; esac'
    monkeypatch.setenv("CC", f"{write_compiler(tmp_path / 'mycc', script)} -DMINE")
    assert isinstance(load(), ctypes.CDLL)


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    assert load() == "There is no C compiler (cc, gcc or clang; or name one as CC)."


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = write_compiler(tmp_path / "mycc", "echo first >&2; echo bad machine >&2; exit 3")
    monkeypatch.setenv("CC", compiler)
    assert load() == f"{compiler} failed: bad machine."
    assert kept(tmp_path) == []  # nothing half-made is left


def test_a_compiler_that_makes_nothing_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", write_compiler(tmp_path / "mycc", "exit 0"))
    reason = load()
    assert isinstance(reason, str)
    assert reason.startswith("Compiling it failed:")


@pytest.mark.usefixtures("_compiler")
def test_a_cache_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be", encoding="utf-8")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert isinstance(load(), ctypes.CDLL)
    assert len(list(tmp_path.glob("softiou-*/native-*.so"))) == 1


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("damage", ["empty", "cut", "others may write", "changed", "no record"])
def test_a_library_that_is_not_as_it_was_compiled_is_replaced(damage: str, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "softiou"
    load()
    record, file = kept(tmp_path)
    content = file.read_bytes()
    copy = folder / "copy"  # the loaded one stays as it is
    changes = {"empty": b"", "cut": content[: len(content) // 2], "changed": content + b"x"}
    copy.write_bytes(changes.get(damage, content))
    copy.replace(file)
    if damage == "others may write":
        file.chmod(0o777)
    if damage == "no record":
        record.unlink()
    assert isinstance(load(), ctypes.CDLL)
    assert len(file.read_bytes()) > len(content) // 2
    assert file.read_bytes() != changes.get(damage)
    assert not file.stat().st_mode & 0o022
    assert kept(tmp_path) == [record, file]


@pytest.mark.usefixtures("_compiler")
def test_a_library_or_folder_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    before = [path.stat().st_mtime_ns for path in kept(tmp_path)]
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(os, "getuid", lambda: os.stat(tmp_path).st_uid + 1)
    load()
    assert [path.stat().st_mtime_ns for path in kept(tmp_path)] == before
    assert len(list(tmp_path.glob("softiou-*/native-*.so"))) == 1


def test_a_compiler_that_hangs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = write_compiler(tmp_path / "mycc", "exec sleep 60")
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setattr(_compile, "_PATIENCE_S", 0.1)
    assert load() == f"{compiler} did not end within 0.1 seconds."
    assert kept(tmp_path) == []


def test_windows_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Windows")
    monkeypatch.setattr(_compile, "_compiler", lambda: "cl")
    assert load() == "It does not support Windows."


@pytest.mark.parametrize(
    ("machine", "processor", "flags"),
    [
        ("x86_64", b"flags: avx512f", ("-march=native", "-mprefer-vector-width=512")),
        ("x86_64", b"flags: avx2", ("-march=native",)),
        ("arm64", b"", ("-mcpu=native",)),
    ],
)
def test_flags_of_the_processor(
    machine: str, processor: bytes, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(_compile, "_processor", lambda: processor)
    assert _compile._processor_flags() == flags
