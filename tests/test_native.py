"""The compiled libraries: which one is loaded, and what is said where there is none."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from scripts import build_native
from softiou import JaccardMetricLoss, _native
from softiou.overlap import native


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
    monkeypatch.setattr(_native, "_fits", lambda library, name: True)
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


@pytest.mark.parametrize("says", ['const char softiou_sources[] = "of another file";', ""])
def test_a_library_of_other_c_files_is_not_used(
    says: str, libraries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a pull, before the C files are compiled again: PyTorch does the pass."""
    compiler = build_native.find_compiler()
    if compiler is None:
        pytest.skip("needs a C compiler")
    monkeypatch.setattr(_native, "get_cpu_capability", lambda: "AVX2")
    library = libraries / "overlap-x86-64-v3.so"
    command = [*compiler, "-shared", "-fPIC", "-o", str(library), "-x", "c", "-"]
    subprocess.run(command, input=f"{says} int other = {len(says)};", text=True, check=True)
    reason = load()
    assert f"{library} was compiled from C files of another version" in str(reason)
    assert "python scripts/build_native.py" in str(reason)
    monkeypatch.setattr(native, "load_library", lambda name: reason)
    logits, target = torch.randn(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long)
    expected = JaccardMetricLoss(impl="torch")(logits, target)
    with pytest.warns(UserWarning, match="impl='chunked'.* python scripts/build_native.py"):
        assert JaccardMetricLoss()(logits, target).item() == pytest.approx(expected.item())


def test_a_library_fits_its_own_c_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _native.load_library("overlap")
    if isinstance(found, str):
        pytest.skip(found)
    assert isinstance(load(), ctypes.CDLL)
    (tmp_path / "overlap").mkdir()
    source = Path(_native.__file__).parent / "overlap" / "native.c"
    (tmp_path / "_scalars.h").write_bytes(source.parents[1].joinpath("_scalars.h").read_bytes())
    monkeypatch.setattr(_native, "_PACKAGE", tmp_path)
    assert isinstance(load(), ctypes.CDLL)  # a bundle without C files cannot be checked
    copy = shutil.copy(source, tmp_path / "overlap")
    assert isinstance(load(), ctypes.CDLL)
    Path(copy).write_bytes(source.read_bytes() + b"/* changed */")
    assert "was compiled from C files of another" in str(load())
