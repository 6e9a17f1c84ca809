"""Downloads from a server in this process: whole, resumed, broken off, wrong."""

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from softiou.errors import DataError
from softiou.fetching.downloading import Archive, download, unpacked

CONTENT = bytes(range(256)) * 8192  # two chunks


class Server:
    """Serves the content of one file, up to a limit, and notes what was asked for."""

    def __init__(self) -> None:
        self.ranges: list[str | None] = []
        self.resumes = True
        self.limit = len(CONTENT)
        self.answer: bytes | None = None  # instead of HTTP as it should be
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                outer.ranges.append(asked)
                if outer.answer is not None:
                    self.wfile.write(outer.answer)
                    return
                start = int(asked.split("=")[1].rstrip("-")) if asked and outer.resumes else 0
                if start >= len(CONTENT):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(CONTENT) - start))
                self.end_headers()
                self.wfile.write(CONTENT[start : outer.limit])

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def archive(self, digest: str | None = None) -> Archive:
        url = f"http://127.0.0.1:{self.http.server_port}/data.tar"
        return Archive(url, "data.tar", "md5", digest or hashlib.md5(CONTENT).hexdigest())

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


class Watched:
    """Notes how many chunks are announced and seen."""

    def __init__(self) -> None:
        self.total = self.seen = 0

    def __call__(self, chunks: Iterable[bytes], total: int) -> Iterable[bytes]:
        self.total = total
        for chunk in chunks:
            self.seen += 1
            yield chunk


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    watched = Watched()
    path = download(server.archive(), tmp_path / "new", watch=watched)
    assert path == tmp_path / "new" / "data.tar"
    assert path.read_bytes() == CONTENT
    assert (watched.total, watched.seen) == (2, 2)
    assert list(path.parent.iterdir()) == [path]
    download(server.archive(), tmp_path / "new", watch=watched)
    assert server.ranges == [None]


def test_what_broke_off_goes_on(server: Server, tmp_path: Path) -> None:
    server.limit = 1_500_000
    with pytest.raises(DataError, match=r"data\.tar cannot be downloaded: .*again to resume"):
        download(server.archive(), tmp_path, watch=Watched())
    part = tmp_path / "data.tar.part"
    have = part.stat().st_size
    assert 0 < have <= 1_500_000
    assert part.read_bytes() == CONTENT[:have]
    server.limit = len(CONTENT)
    assert download(server.archive(), tmp_path, watch=Watched()).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={have}-"]
    assert not part.exists()


def test_a_server_that_cannot_resume_starts_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.tar.part").write_bytes(CONTENT[:5])
    server.resumes = False
    assert download(server.archive(), tmp_path, watch=Watched()).read_bytes() == CONTENT


@pytest.mark.parametrize("extra", [0, 3])
def test_a_part_that_leaves_nothing_to_ask_for_is_begun_again(
    server: Server, tmp_path: Path, extra: int
) -> None:
    (tmp_path / "data.tar.part").write_bytes(bytes(len(CONTENT) + extra))
    path = download(server.archive(), tmp_path, watch=Watched())
    assert path.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT) + extra}-", None]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"nonsense\r\n\r\n", "BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nab", "IncompleteRead"),
    ],
)
def test_an_answer_that_is_not_http(
    server: Server, tmp_path: Path, answer: bytes, error: str
) -> None:
    server.answer = answer
    with pytest.raises(DataError, match=rf"data\.tar cannot be downloaded: {error}.+ Run the"):
        download(server.archive(), tmp_path, watch=Watched())


def test_a_part_that_is_whole_needs_no_server(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.tar.part").write_bytes(CONTENT)
    assert download(server.archive(), tmp_path, watch=Watched()).read_bytes() == CONTENT
    assert server.ranges == []


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Expected the md5 checksum 123, but got [0-9a-f]{32}\."):
        download(server.archive("123"), tmp_path, watch=Watched())
    assert list(tmp_path.iterdir()) == []


def test_another_file_of_that_name_is_not_touched(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.tar").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"data\.tar: Expected the md5 .* remove it and run"):
        download(server.archive(), tmp_path, watch=Watched())
    assert (tmp_path / "data.tar").read_bytes() == b"mine"
    assert server.ranges == []


def test_no_server(tmp_path: Path) -> None:
    archive = Archive((tmp_path / "nowhere").as_uri(), "data.tar", "md5", "123")
    with pytest.raises(DataError, match=r"nowhere cannot be downloaded: .* download the file to"):
        download(archive, tmp_path, watch=Watched())


def test_archives_are_unpacked_for_a_while(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("folder/a.txt", "a")
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as packed:
        member = tarfile.TarInfo("folder/a.txt")
        member.size = 1
        packed.addfile(member, io.BytesIO(b"a"))
    for name in ("a.zip", "a.tgz"):
        with unpacked(tmp_path / name) as folder:
            assert (folder / "folder" / "a.txt").read_text() == "a"
            assert folder.parent == tmp_path
        assert not folder.exists()


def test_archives_stay_within_their_folder(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as packed:
        packed.addfile(tarfile.TarInfo("../outside.txt"))
    with pytest.raises(tarfile.FilterError), unpacked(tmp_path / "a.tar"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]
