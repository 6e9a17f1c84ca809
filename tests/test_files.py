"""Files and folders appear whole or not at all, also when the process is killed."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from softiou import _files
from softiou._files import (
    atomic_file,
    atomic_folder,
    atomic_path,
    move_into_place,
    remove_stale,
    scratch_folder,
    write_atomically,
    write_once,
)


def run_until_ready(code: str, folder: Path) -> subprocess.Popen[str]:
    """Start a program in a folder, and return once it has printed a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    if process.stdout is None:
        raise RuntimeError("The program has no output.")
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomically(b"one", path)
    write_atomically(b"two", path)
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_file(path) as file:
            file.write(b"half of the n")
            assert path.read_bytes() == b"old"
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_was_never_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_file_is_hidden_and_keeps_the_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "model.onnx") as one, atomic_path(tmp_path / "model.onnx") as two:
        assert one != two
        assert one.parent == two.parent == tmp_path
        assert one.name.startswith(".tmp-")
        assert one.suffix == two.suffix == ".onnx"
        one.write_bytes(b"1")
        two.write_bytes(b"2")
    assert (tmp_path / "model.onnx").read_bytes() == b"1"


def test_a_writer_may_need_another_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "model.bin", suffix=".onnx") as temporary:
        assert temporary.suffix == ".onnx"
        temporary.write_bytes(b"1")
    assert visible(tmp_path) == ["model.bin"]


def test_move_into_place(tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"new")
    (tmp_path / "a").write_bytes(b"old")
    move_into_place(tmp_path / "a.part", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert visible(tmp_path) == ["a"]


def test_the_first_of_several_writers_wins(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_once(b"first", path)
    write_once(b"second", path)
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_without_hard_links_the_file_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr("os.link", fail)
    write_once(b"whole", tmp_path / "manifest.json")
    assert (tmp_path / "manifest.json").read_bytes() == b"whole"
    assert visible(tmp_path) == ["manifest.json"]


def test_a_folder_appears_with_all_of_its_files(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "deep" / "out") as new:
        (new / "sub").mkdir()
        (new / "sub" / "a").write_bytes(b"1")
        (new / "link").symlink_to(tmp_path / "nowhere")
        assert visible(tmp_path / "deep") == []
    assert (tmp_path / "deep" / "out" / "sub" / "a").read_bytes() == b"1"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


@pytest.mark.parametrize("replace", [False, True])
def test_an_empty_folder_is_replaced(tmp_path: Path, replace: bool) -> None:
    (tmp_path / "out").mkdir()
    with atomic_folder(tmp_path / "out", replace=replace) as new:
        (new / "a").write_bytes(b"1")
    assert visible(tmp_path / "out") == ["a"]


def test_a_folder_with_files_is_replaced_on_request_only(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_bytes(b"0")
    with pytest.raises(OSError, match="not empty"), atomic_folder(out) as new:
        (new / "a").write_bytes(b"1")
    assert visible(out) == ["old"]
    with atomic_folder(out, replace=True) as new:
        (new / "a").write_bytes(b"1")
    assert visible(out) == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_error_leaves_the_old_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_bytes(b"0")

    def write_half() -> None:
        with atomic_folder(out, replace=True) as new:
            (new / "a").write_bytes(b"1")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert visible(out) == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_killed_writer_leaves_the_old_file_whole(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"old")
    code = """
import time
from pathlib import Path
from softiou._files import atomic_file
with atomic_file(Path("a.txt")) as file, atomic_file(Path("b.txt")) as other:
    file.write(b"half of the n")
    other.write(b"half")
    file.flush()
    other.flush()
    print("ready", flush=True)
    time.sleep(60)
"""
    kill(run_until_ready(code, tmp_path))
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    assert visible(tmp_path) == ["a.txt"]


def test_a_writer_that_is_killed_at_any_moment_leaves_one_whole_version(tmp_path: Path) -> None:
    size = 300_000
    code = f"""
from pathlib import Path
from softiou._files import write_atomically
write_atomically(b"0" * {size}, Path("a.bin"))
print("ready", flush=True)
number = 0
while True:
    number += 1
    write_atomically(str(number % 10).encode() * {size}, Path("a.bin"))
"""
    for _ in range(3):
        kill(run_until_ready(code, tmp_path))
        content = (tmp_path / "a.bin").read_bytes()
        assert len(content) == size
        assert len(set(content)) == 1


def test_a_killed_writer_leaves_the_old_folder_whole(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_bytes(b"0")
    code = """
import time
from pathlib import Path
from softiou._files import atomic_folder
with atomic_folder(Path("out"), replace=True) as new:
    (new / "a").write_bytes(b"1")
    print("ready", flush=True)
    time.sleep(60)
"""
    kill(run_until_ready(code, tmp_path))
    assert visible(tmp_path / "out") == ["old"]
    assert visible(tmp_path) == ["out"]


def test_what_killed_processes_left_is_removed_by_the_next_writer(tmp_path: Path) -> None:
    code = """
import time
from pathlib import Path
from softiou._files import atomic_file, atomic_folder
with atomic_file(Path("a.txt")) as file, atomic_folder(Path("out")) as new:
    (new / "a").write_bytes(b"1")
    print("ready", flush=True)
    time.sleep(60)
"""
    process = run_until_ready(code, tmp_path)
    remove_stale(tmp_path)  # it is alive
    assert len(list(tmp_path.glob(".tmp-*"))) == 2
    kill(process)
    (tmp_path / ".tmp-of-somebody").touch()
    write_atomically(b"1", tmp_path / "b.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tmp-of-somebody", "b.txt"]


@pytest.mark.parametrize(("hours", "is_kept"), [(23, True), (25, False)])
def test_what_another_machine_left_is_removed_after_a_day(
    hours: int, is_kept: bool, tmp_path: Path
) -> None:
    path = tmp_path / ".tmp-01234567-1-89abcdef.png"
    path.touch()
    then = time.time() - hours * 3600
    os.utime(path, (then, then))
    remove_stale(tmp_path)
    assert path.exists() == is_kept


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    for name in ("a" * 251 + ".png", "." + "b" * 254, "\N{SNOWMAN}" * 84 + ".a"):
        write_atomically(b"1", tmp_path / name)
        write_once(b"1", tmp_path / f"{name[:-1]}2")
        with atomic_folder(tmp_path / f"{name[:-1]}3") as new:
            (new / "a").touch()
    assert len(list(tmp_path.iterdir())) == 9


def test_errors_of_the_system_name_the_file(tmp_path: Path) -> None:
    def full() -> None:
        with atomic_file(tmp_path / "a.txt"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*/a\.txt'"):
        full()
    with pytest.raises(FileNotFoundError, match=r"'.*/nowhere/a\.txt'"):
        write_atomically(b"1", tmp_path / "nowhere" / "a.txt")


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_file_systems_that_cannot_sync(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(os, "fsync", refuse)
    write_atomically(b"1", tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_bytes() == b"1"


def test_a_disk_that_fails_to_sync_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"Input/output error: '.*/a\.txt'"):
        write_atomically(b"1", tmp_path / "a.txt")


def test_scratch_folders_are_hidden_and_removed(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        assert folder.name.startswith(".tmp-")
    assert list(tmp_path.iterdir()) == []
    assert _files.is_alive(os.getpid())
