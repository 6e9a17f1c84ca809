"""The compiled libraries: which one is loaded, and what is said where there is none."""

from pathlib import Path

import pytest

from softiou import _native


def load(name: str = "overlap") -> object:
    """Load as if for the first time."""
    return _native.load_library.__wrapped__(name)


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_native, "FOLDER", tmp_path)
    monkeypatch.setattr("softiou._native.platform.machine", lambda: "x86_64")
    return tmp_path


@pytest.mark.parametrize(
    ("machine", "capability", "expected"),
    [
        ("x86_64", "AVX512", ("x86-64-v4", "x86-64-v3")),
        ("AMD64", "AVX2", ("x86-64-v3",)),
        ("x86_64", "DEFAULT", ()),
        ("aarch64", "SVE256", ("arm64",)),
        ("arm64", "DEFAULT", ("arm64",)),
        ("riscv64", "DEFAULT", ()),
    ],
)
def test_processors(
    machine: str, capability: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("softiou._native.platform.machine", lambda: machine)
    monkeypatch.setattr(_native, "get_cpu_capability", lambda: capability)
    assert _native.cpu_variants() == expected


def test_the_fastest_library_that_is_there(
    libraries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_native, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr("softiou._native.ctypes.CDLL", lambda path: Path(path).name)
    (libraries / "overlap-x86-64-v3.so").touch()
    assert load() == "overlap-x86-64-v3.so"
    (libraries / "overlap-x86-64-v4.so").touch()
    assert load() == "overlap-x86-64-v4.so"


def test_no_library(libraries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_native, "get_cpu_capability", lambda: "AVX2")
    assert "built without a C compiler. Install a wheel" in str(load())
    (libraries / "overlap-x86-64-v3.so").write_bytes(b"")
    assert "cannot be loaded" in str(load())
    monkeypatch.setattr(_native, "get_cpu_capability", lambda: "DEFAULT")
    assert load() == "There is no compiled code for this processor (x86_64)."
