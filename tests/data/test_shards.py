"""The index of a tar: as Python's own reader finds the files, kept beside it, and hostile ones."""

import ast
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from softiou.data import shards
from softiou.data.shards import BLOCK, Index, indices
from softiou.errors import DataError

NAMES = ("a.jpg", "folder/b.png", "long/" + "x" * 200 + ".png", "ü.png", "./c.png", "e" * 99)


def write(path: Path, form: int = tarfile.GNU_FORMAT, **entries: bytes) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in entries.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return path


def index(path: Path) -> Index:
    (found,) = indices([str(path)])
    return found


def contents(found: Index) -> dict[str, bytes]:
    numbers = range(len(found.names))
    return {found.names[n]: found.member(n).read_bytes() for n in numbers}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_files_are_those_of_python(form: int, tmp_path: Path) -> None:
    names = [name for name in NAMES if form != tarfile.USTAR_FORMAT or len(name) < 100]
    entries = {name: bytes([n]) * 300 * n for n, name in enumerate(names)}
    found = contents(index(write(tmp_path / "a.tar", form, **entries)))
    assert found == {name.removeprefix("./"): content for name, content in entries.items()}


def test_links_and_folders_are_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE):
            about = tarfile.TarInfo(f"one{kind.decode()}.png")
            about.type, about.linkname = kind, "/etc/passwd"
            tar.addfile(about)
    assert index(tmp_path / "a.tar").names == []


def test_an_index_is_kept_until_the_shard_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.tar", a=b"1")
    first = index(path)
    monkeypatch.setattr(shards, "_entries", lambda *_: pytest.fail("read again"))
    again = index(path)
    assert (again.names, list(again.starts), list(again.sizes)) == (["a"], [512], [1])
    assert again.shard == first.shard
    monkeypatch.undo()
    write(path, b=b"22")
    os.utime(path, ns=(1, 1))
    assert contents(index(path)) == {"b": b"22"}


def test_an_index_goes_to_the_cache_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOFTIOU_CACHE", str(tmp_path / "cache"))
    path = write(tmp_path / "a.tar", a=b"1")
    (tmp_path / ".a.tar.index").mkdir()  # where no file can be written
    assert index(path).names == ["a"]
    assert len(list((tmp_path / "cache/shards").iterdir())) == 1


@pytest.mark.parametrize(
    ("numbers", "name"),
    [
        ([1, 512, 1], b"../a"),
        ([1, 512, 1], b"b\nc"),
        ([1, -512, 1], b"b"),
        ([1, 2**62, 2**62], b"b"),
        ([1, 512, 2**63 - 1], b"b"),
        ([2, 512, 512, 1, 1], b"b"),
        ([2, 512, 1], b"b"),
        ([2**62, 512, 1], b"b"),
        ([-2, 512, 1], b"b"),
        ([], b"b"),
    ],
    ids=[
        "name",
        "names",
        "before",
        "overflow",
        "size",
        "two",
        "short",
        "many",
        "negative",
        "empty",
    ],
)
def test_a_hostile_index_is_made_anew(numbers: list[int], name: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", a=b"1")
    numbers[1:1] = [path.stat().st_mtime_ns, path.stat().st_size][: len(numbers)]
    (tmp_path / ".a.tar.index").write_bytes(np.array(numbers, "<i8").tobytes() + name)
    assert contents(index(path)) == {"a": b"1"}


def test_a_stored_index_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", a=b"1")
    numbers = [1, path.stat().st_mtime_ns, path.stat().st_size, 512, 1]
    (tmp_path / ".a.tar.index").write_bytes(np.array(numbers, "<i8").tobytes() + b"b")
    assert contents(index(path)) == {"b": b"1"}


def test_threads_parse_no_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython's parser fails at random in several threads before 3.11.8 (gh-106905)."""
    path = write(tmp_path / "a.tar", a=b"1")
    monkeypatch.setattr(ast, "parse", lambda *_, **__: pytest.fail("parsed"))
    assert index(path).names == index(path).names == ["a"]


def raw(name: bytes = b"a", size: bytes = b"00000000001\0", kind: bytes = b"0") -> bytes:
    """Return a header with any fields and the right checksum."""
    header = bytearray(name.ljust(100, b"\0") + bytes(24) + size + bytes(12) + b" " * 8 + kind)
    header += bytes(BLOCK - len(header))
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def pax(*records: bytes) -> bytes:
    content = b"".join(records)
    return raw(size=b"%011o\0" % len(content), kind=b"x") + content.ljust(BLOCK, b"\0") + raw()


HOSTILE: dict[str, tuple[bytes, str]] = {
    "above": (raw(b"../../x.png"), "leads elsewhere"),
    "inside above": (raw(b"x/../../x.png"), "leads elsewhere"),
    "absolute": (raw(b"/etc/passwd"), "leads elsewhere"),
    "control characters": (raw(b"a\x1b[2J.png"), "control characters"),
    "lines": (raw(b"a\nb.png"), "control characters"),
    "beyond the end": (raw(size=b"77777777777\0"), "in an archive of"),
    "negative": (raw(size=b"-0000000001\0"), "of -1 bytes"),
    "negative, in binary": (raw(size=b"\xff" * 12), "of -1 bytes"),
    "huge, in binary": (raw(size=b"\x80" + b"\xff" * 11), "in an archive of"),
    "no number": (raw(size=b"1e5\0\0\0\0\0\0\0\0\0"), "no tar header at byte 0 .invalid"),
    "checksum": (raw()[:-1] + b"x", "no tar header at byte 0"),
    "cut short": (raw()[:100], "no tar header at byte 0"),
    "compressed": (b"\x1f\x8b" + bytes(600), "no tar header"),
    "huge pax": (raw(size=b"00000200001\0", kind=b"x") + bytes(1 << 17), "of 65537 bytes"),
    "pax above": (pax(b"15 path=../../\n"), "leads elsewhere"),
    "pax of a negative size": (pax(b"11 size=-5\n"), "of -5 bytes"),
    "pax of a huge size": (pax(b"20 size=99999999999\n", b"x=y\n"), "in an archive of"),
    "long name above": (
        raw(size=b"00000000005\0", kind=b"L") + b"../a\0".ljust(BLOCK, b"\0") + raw(),
        "leads elsewhere",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives(name: str, tmp_path: Path) -> None:
    content, message = HOSTILE[name]
    (tmp_path / "a.tar").write_bytes(content + bytes(3 * BLOCK))
    with pytest.raises(DataError, match=r"a\.tar: Cannot read the archive: .*" + message):
        index(tmp_path / "a.tar")


def test_sparse_files_are_left_out(tmp_path: Path) -> None:
    content = pax(b"22 GNU.sparse.major=1\n") + bytes(BLOCK) + raw(b"b")
    (tmp_path / "a.tar").write_bytes(content + bytes(3 * BLOCK))
    assert index(tmp_path / "a.tar").names == ["b"]


def test_damage_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", a=b"1", b=b"2", c=b"3")
    content = bytearray(path.read_bytes())
    content[1024] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="no tar header at byte 1024"):
        index(path)
