"""Hostile files: count what is executed, overwritten or read outside their folder.

Each file is given to the commands that read its kind. A separate folder must not be accessed: the
kernel reports every access to it, and payloads would create a file there. Network connections are
monitored as well.
"""

import ctypes
import gzip
import io
import json
import os
import pickle
import resource
import shutil
import struct
import sys
import tarfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import onnx
import pydicom
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.reliability.commands import MOST_SECONDS, TINY, Command, Figure, Words, must_run
from benchmarks.reliability.inputs import wrong_end
from softiou.fetching.downloading import unpacked
from softiou.soft_labels.codes import Codes
from softiou.soft_labels.files import pack

SCRIPT = "<script>document.title='run'</script>"
STEP = [*TINY, "optim.steps=1", "optim.validations=1", "--out", "out"]
_READ, _WRITTEN, _CREATED = 0x1 | 0x20, 0x2 | 0x4 | 0x40 | 0x80 | 0x200, 0x100  # of inotify.h


class Watched:
    """A folder that must not be accessed, with the accesses since the last query."""

    def __init__(self, folder: Path) -> None:
        self.executed = folder / "executed"
        libc = ctypes.CDLL(None, use_errno=True)
        self._events = libc.inotify_init1(os.O_NONBLOCK)
        watch = libc.inotify_add_watch(
            self._events, os.fsencode(folder), _READ | _WRITTEN | _CREATED
        )
        if watch < 0:
            raise OSError(ctypes.get_errno(), "inotify")

    def seen(self) -> Counter[str]:
        """Return the numbers of executions, writes and reads, and reset them."""
        found: Counter[str] = Counter()
        try:
            content = os.read(self._events, 1 << 16)
        except BlockingIOError:
            content = b""
        while content:
            _, mask, _, length = struct.unpack_from("iIII", content)
            name = content[16 : 16 + length].rstrip(b"\0").decode(errors="replace")
            content = content[16 + length :]
            if name == self.executed.name:
                found["executed"] = 1
            elif mask & (_WRITTEN | _CREATED):
                found["overwritten"] = 1
            else:
                found["read"] = 1
        if self.executed.exists():
            self.executed.unlink()
            self.seen()
        return found


@dataclass(frozen=True)
class Place:
    """Where a hostile file is created: its folder, its target, and valid files to modify.

    Attributes:
        folder: Folder of the file, and working directory of the command.
        outside: The watched folder, with secret.png and secret.bin.
        data: A data set.
        run: A finished run.
        weights: The run as safetensors.
    """

    folder: Path
    outside: Path
    data: Path
    run: Path
    weights: Path

    @property
    def payload(self) -> str:
        """Return a shell command that creates a file in the watched folder."""
        return f"touch {self.outside}/executed"

    @property
    def images(self) -> str:
        """Return a folder of images."""
        return str(self.data / "test" / "images")

    def upwards(self, name: str) -> str:
        """Return the relative path of a file in the watched folder."""
        return os.path.relpath(self.outside / name, self.folder)

    def copy(self, source: Path, name: str) -> Path:
        """Return a copy of a folder."""
        return Path(shutil.copytree(source, self.folder / name))


@dataclass(frozen=True)
class Pickled:
    """Runs a command when it is unpickled."""

    command: str

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def try_hostile(figure: Figure, work: Path, data: Path, run: Path, deadline: float) -> None:
    """Run the commands that read each kind of hostile file."""
    outside = work / "outside"
    outside.mkdir()
    for name in ("secret.png", "secret.image.jpg", "secret.target.png"):
        Image.fromarray(np.zeros((40, 48, 3), np.uint8)).save(outside / name)
    (outside / "secret.bin").write_bytes(bytes(16))
    weights = work / "honest.safetensors"
    must_run(["export", str(run), "--to", "safetensors", "--out", str(weights)], work)
    watched = Watched(outside)
    totals = Counter(executed=0, overwritten=0, read=0, network=0)
    totals.update(figure.details.get("seen", {}))
    for row, make in list(CASES)[figure.tried :]:
        if time.monotonic() > deadline:
            break
        folder = work / "strangers"
        folder.mkdir()
        found, wrong = _tried(make(Place(folder, outside, data, run, weights)), folder, watched)
        totals += found  # adding Counters drops entries of 0
        reason = f"{make.__name__[1:]}: {dict(found)} {wrong}" if found or wrong else ""
        figure.count(reason, row)
        shutil.rmtree(folder)
    figure.details["seen"] = {name: totals[name] for name in SEEN}


SEEN = ("executed", "overwritten", "read", "network")


def _tried(words: Words, folder: Path, watched: Watched) -> tuple[Counter[str], str]:
    """Run a command on a hostile file; record its accesses, and return what is wrong."""
    watched.seen()
    network = folder / ".network"

    def listen() -> None:
        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            local = event == "socket.connect" and isinstance(arguments[1], str | bytes)
            if event in ("socket.connect", "socket.getaddrinfo") and not local:
                network.touch()

        sys.addaudithook(hook)

    command = Command(words, folder, listen)
    wrong = wrong_end(command.wait(MOST_SECONDS), command.text())
    found = watched.seen()
    if network.exists():
        found["network"] = 1
    if any(SCRIPT in page.read_text(errors="replace") for page in folder.rglob("*.html")):
        found["executed"] = 1
    return found, wrong


Case = Callable[[Place], Words]
CASES: list[tuple[str, Case]] = []


def _case(row: str) -> Callable[[Case], Case]:
    """Add a case for the row of the table in SECURITY.md that begins with these words."""

    def add(make: Case) -> Case:
        CASES.append((row, make))
        return make

    return add


def _pickled(place: Place) -> bytes:
    """Return a torch file that runs a command when it is unpickled."""
    buffer = io.BytesIO()
    torch.save(Pickled(place.payload), buffer)
    return buffer.getvalue()


@_case("exported program")
def _program_with_pickle(place: Place) -> Words:
    with zipfile.ZipFile(place.folder / "a.pt2", "w") as archive:
        archive.writestr("a/archive_format", "pt2")
        archive.writestr("a/data/sample_inputs/model.pt", _pickled(place))
        guards = [f"__import__('os').system({place.payload!r})"]
        archive.writestr("a/models/model.json", json.dumps({"guards_code": guards}))
    return ["predict", "a.pt2", place.images]


@_case("exported program")
def _program_that_is_a_pickle(place: Place) -> Words:
    (place.folder / "a.PT2").write_bytes(pickle.dumps(Pickled(place.payload)))
    return ["evaluate", "a.PT2", str(place.data)]


def _onnx(place: Place, location: str) -> Words:
    """Write an ONNX file that adds numbers from another file to its images."""
    weight = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location="EXTERNAL")
    for key, value in {"location": location, "offset": "0", "length": "16"}.items():
        weight.external_data.add(key=key, value=value)
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [4]) for name in ("images", "probs"))
    node = onnx.helper.make_node("Add", ["images", "w"], ["probs"])
    graph = onnx.helper.make_graph([node], "graph", [x], [y], [weight])
    opset = onnx.helper.make_opsetid("", 18)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9)
    (place.folder / "a.onnx").write_bytes(model.SerializeToString())
    return ["predict", "a.onnx", place.images]


@_case("exported model")
def _numbers_above(place: Place) -> Words:
    return _onnx(place, place.upwards("secret.bin"))


@_case("exported model")
def _numbers_elsewhere(place: Place) -> Words:
    return _onnx(place, str(place.outside / "secret.bin"))


@_case("exported model")
def _numbers_behind_a_link(place: Place) -> Words:
    (place.folder / "w.bin").symlink_to(place.outside / "secret.bin")
    return _onnx(place, "w.bin")


def _weights(place: Place, **change: Any) -> Words:
    """Write weights with the specification of another model."""
    with safe_open(place.weights, framework="pt") as file:
        strings = dict(file.metadata())
    strings["model"] = json.dumps(json.loads(strings["model"]) | change)
    save_file({"w": torch.zeros(1)}, place.folder / "a.safetensors", metadata=strings)
    return ["predict", "a.safetensors", place.images]


@_case("exported weights")
def _weights_of_a_python_object(place: Place) -> Words:
    return _weights(place, architecture="python:os.system", encoder=place.payload)


@_case("exported weights")
def _weights_of_a_file_outside(place: Place) -> Words:
    return _weights(place, encoder=str(place.outside / "secret.bin"))


@_case("model of transformers in")
def _weights_of_a_repository_with_code(place: Place) -> Words:
    settings = {"model_type": "segformer", "auto_map": {"AutoConfig": "someone/evil--config.Evil"}}
    return _weights(place, architecture="transformers", encoder="someone/evil", settings=settings)


def _checkpoint(place: Place, **change: Any) -> Path:
    """Copy the run, with changed checkpoints."""
    run = place.copy(place.run, "run")
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    content["softiou"]["model"] |= change
    for name in ("best", "last"):
        torch.save(content, run / "checkpoints" / f"{name}.ckpt")
    return run


@_case("checkpoint")
def _checkpoint_with_pickle(place: Place) -> Words:
    (place.folder / "a.ckpt").write_bytes(_pickled(place))
    return ["predict", "a.ckpt", place.images]


@_case("checkpoint")
def _checkpoint_with_pickle_inside(place: Place) -> Words:
    run = _checkpoint(place)
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    content["callbacks"] = Pickled(place.payload)
    torch.save(content, run / "checkpoints" / "last.ckpt")
    return ["train", "--resume", "run"]


@_case("checkpoint")
def _weights_to_begin_with_are_a_pickle(place: Place) -> Words:
    (place.folder / "a.ckpt").write_bytes(pickle.dumps(Pickled(place.payload)))
    return ["train", str(place.data), *STEP, "model.weights=a.ckpt"]


@_case("checkpoint")
def _checkpoint_of_an_encoder_outside(place: Place) -> Words:
    _checkpoint(place, encoder=str(place.outside / "secret.bin"))
    return ["evaluate", "run", str(place.data)]


@_case("checkpoint")
def _checkpoint_of_an_encoder_on_the_network(place: Place) -> Words:
    _checkpoint(place, encoder="tu-hf-hub:someone/evil")
    return ["label", str(place.data), "--teacher", "run", "--out", "out", "workers=0"]


@_case("model of transformers in")
def _checkpoint_of_a_backbone_on_the_network(place: Place) -> Words:
    settings = {"model_type": "upernet", "backbone": "someone/evil", "backbone_config": None}
    _checkpoint(place, architecture="transformers", encoder="someone/evil", settings=settings)
    return ["export", "run", "--to", "safetensors", "--out", "a.safetensors"]


@_case("model of transformers named")
def _folder_with_code(place: Place) -> Words:
    home = place.folder / "model"
    home.mkdir()
    config = {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"},
    }
    (home / "config.json").write_text(json.dumps(config))
    (home / "evil.py").write_text(f"__import__('os').system({place.payload!r})\n")
    (home / "pytorch_model.bin").write_bytes(_pickled(place))
    settings = [one for one in STEP if not one.startswith("model.")]
    model = ["model.architecture=transformers", f"model.encoder={home}"]
    return ["train", str(place.data), *settings, *model]


def _run_with(place: Place, name: str, content: str) -> Path:
    """Copy the run, and replace one of its files."""
    run = place.copy(place.run, "run")
    (run / name).write_text(content)
    return run


@_case("run directory")
def _configuration_with_a_call(place: Place) -> Words:
    _run_with(place, "config.yaml", f"data: !!python/object/apply:os.system [{place.payload!r}]\n")
    return ["train", "--resume", "run"]


@_case("run directory")
def _settings_with_a_call(place: Place) -> Words:
    (place.folder / "a.yaml").write_text(f"!!python/object/apply:os.system [{place.payload!r}]\n")
    return ["train", str(place.data), *STEP, "--config", "a.yaml"]


@_case("run directory")
def _lock_that_is_a_link(place: Place) -> Words:
    (place.copy(place.run, "run") / ".lock").symlink_to(place.outside / "secret.bin")
    return ["train", "--resume", "run"]


@_case("run directory")
def _curves_that_are_a_link(place: Place) -> Words:
    file = place.copy(place.run, "run") / "metrics.jsonl"
    file.unlink()
    file.symlink_to(place.outside / "new.jsonl")
    return ["train", "--resume", "run"]


@_case("run directory")
def _curves_with_a_script(place: Place) -> Words:
    line = json.dumps({"step": 1, SCRIPT: 1.0, f"val/{SCRIPT}": 0.5, "seconds": SCRIPT})
    _run_with(place, "metrics.jsonl", line + "\n")
    return ["report", "run"]


@_case("`evaluation.json`")
def _stems_outside(place: Place) -> Words:
    run = place.copy(place.run, "run")
    file = run / "evaluation.json"
    content = json.loads(file.read_text())
    for image in content["images"]:
        image["stem"] = os.path.relpath(place.outside / "secret", run / "gallery")
    file.write_text(json.dumps(content))
    return ["report", "run"]


@_case("`evaluation.json`")
def _names_with_a_script(place: Place) -> Words:
    run = place.copy(place.run, "run")
    file = run / "evaluation.json"
    file.write_text(file.read_text().replace('"box"', json.dumps(SCRIPT)))
    return ["report", "run"]


@_case("`evaluation.json`")
def _compared_with_a_pickle(place: Place) -> Words:
    run = place.copy(place.run, "run")
    (run / "evaluation.safetensors").write_bytes(_pickled(place))
    return ["compare", "run", str(place.run)]


@_case("calibration")
def _calibration_of_nonsense(place: Place) -> Words:
    run = place.copy(place.run, "run")
    file = run / "checkpoints" / "best.calibration.json"
    content = json.loads(file.read_text())
    content["scale"] = f"__import__('os').system({place.payload!r})"
    file.write_text(json.dumps(content))
    return ["predict", "run", place.images]


def _store(place: Place) -> Path:
    """Label the data set."""
    words = ["label", str(place.data), "--teacher", str(place.run), "--out", "store", "workers=0"]
    must_run(words, place.folder)
    return place.folder / "store"


@_case("store of soft labels")
def _labels_with_code(place: Place) -> Words:
    source = f"def evil(x=open({str(place.outside / 'executed')!r}, 'w')):\n    return x"
    recipe = {"kind": "lazyudf", "version": 1, "function_kind": "dsl", "dsl_version": 1}
    recipe |= {"name": "evil", "udf_source": source, "dtype": "<f8", "shape": [1], "operands": {}}
    grid = np.zeros((10, 12), np.uint8)
    about = {"image": "train/train0", "evil": msgpack.ExtType(43, msgpack.packb(recipe))}
    (file,) = _store(place).rglob("*.tar")
    with tarfile.open(file) as shard:
        names = shard.getnames()
    content = pack(Codes(grid, grid[None], (0,)), about)
    with tarfile.open(file, "w") as shard:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            shard.addfile(entry, io.BytesIO(content))
    return ["distill", str(place.data), *STEP, "--soft-labels", "store", "--baseline", "none"]


@_case("store of soft labels")
def _manifest_of_another_folder(place: Place) -> Words:
    file = _store(place) / "manifest.json"
    content = json.loads(file.read_text())
    content["data"] = content["teacher"]["name"] = str(place.outside / "secret.bin")
    file.write_text(json.dumps(content))
    return ["distill", str(place.data), *STEP, "--soft-labels", "store", "--baseline", "none"]


def _shard(place: Place, *names: str, **change: Any) -> Words:
    """Write a shard whose entries have these names, and fields such as `linkname`."""
    (place.folder / "shards").mkdir()
    with tarfile.open(place.folder / "shards" / "train.tar", "w") as shard:
        for name in names:
            entry = tarfile.TarInfo(name)
            for field, value in change.items():
                setattr(entry, field, value)
            shard.addfile(entry)
    return ["train", "webdataset:shards", *STEP]


@_case("tables")
def _table_with_paths_and_a_script(place: Place) -> Words:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = place.folder / "hub"
    folder.mkdir()
    (folder / "hub.py").write_text(f"import os\nos.system({place.payload!r})\n")
    (folder / "dataset.yaml").write_text("layout: hf\nclasses: [ground, box]\n")
    file = {"bytes": None, "path": str(place.outside / "secret.png")}
    pq.write_table(pa.table({"image": [file], "mask": [file]}), folder / "train.parquet")
    return ["train", str(folder), *STEP]


@_case("shards, `*.tar`")
def _entries_above_a_shard(place: Place) -> Words:
    up = os.path.relpath(place.outside, place.folder / "shards")
    return _shard(place, f"{up}/secret.png", f"{up}/secret.mask.png")


@_case("shards, `*.tar`")
def _entries_elsewhere(place: Place) -> Words:
    return _shard(place, f"{place.outside}/secret.png", f"{place.outside}/secret.mask.png")


@_case("shards, `*.tar`")
def _links_in_a_shard(place: Place) -> Words:
    outside = str(place.outside / "secret.bin")
    return _shard(place, "a.png", "a.mask.png", type=tarfile.SYMTYPE, linkname=outside)


@_case("shards, `*.tar`")
def _index_that_is_a_pickle(place: Place) -> Words:
    words = _shard(place, "a.png", "a.mask.png")
    (place.folder / "shards" / ".train.tar.index").write_bytes(_pickled(place))
    return words


@_case("what is remembered")
def _remembered_pickle(place: Place) -> Words:
    cache = place.folder / "cache"

    def run() -> None:
        from softiou.__main__ import main

        os.environ["SOFTIOU_CACHE"] = str(cache)
        sys.argv = ["softiou", "train", str(place.data), *STEP]
        with suppress(SystemExit):
            main()
        for file in cache.iterdir():
            file.write_bytes(_pickled(place))
        sys.argv[-1] = "again"
        main()

    return run


def _data(place: Place, **contents: Any) -> Path:
    """Copy the data set, with a changed dataset.yaml."""
    data = place.copy(place.data, "data")
    settings = {"classes": ["ground", "box", "nothing"], **contents}
    (data / "dataset.yaml").write_text(yaml.safe_dump(settings))
    return data


@_case("`dataset.yaml`")
def _data_with_a_call(place: Place) -> Words:
    data = _data(place)
    text = f"classes: !!python/object/apply:os.system [{place.payload!r}]\n"
    (data / "dataset.yaml").write_text(text)
    return ["train", "data", *STEP]


@_case("`dataset.yaml`")
def _masks_outside(place: Place) -> Words:
    _data(place, masks=os.path.relpath(place.outside, place.folder / "data") + "/secret*.png")
    return ["check", "data"]


@_case("`dataset.yaml`")
def _stems_of_a_list_outside(place: Place) -> Words:
    lists = _data(place) / "splits"
    lists.mkdir()
    stem = os.path.relpath(place.outside / "secret", place.folder / "data" / "train" / "images")
    (lists / "train.txt").write_text(f"{stem}\n{place.outside / 'secret'}\n")
    return ["train", "data", *STEP]


@_case("annotation files")
def _entity_of_a_file_outside(place: Place) -> Words:
    secret = (place.outside / "secret.bin").as_uri()
    text = f'<!DOCTYPE a [<!ENTITY b SYSTEM "{secret}">]><annotations>&b;</annotations>'
    (place.folder / "annotations.xml").write_text(text)
    return ["check", "cvat:."]


@_case("annotation files")
def _annotated_images_outside(place: Place) -> Words:
    size = {"height": 40, "width": 48}
    names = (place.upwards("secret.png"), str(place.outside / "secret.png"))
    images = [{"id": i, "file_name": name, **size} for i, name in enumerate(names)]
    shape = {"image_id": 0, "category_id": 1, "segmentation": [[0, 0, 9, 0, 9, 9]]}
    content = {"images": images, "annotations": [shape], "categories": [{"id": 1, "name": "box"}]}
    (place.folder / "instances_train.json").write_text(json.dumps(content))
    return ["train", "coco:.", *STEP]


def _picture_program(place: Place, kind: str) -> Path:
    """Replace a picture by a program in a format for which Pillow may run an interpreter."""
    interpreter = place.folder / "gs"
    interpreter.write_text(f"#!/bin/sh\n{place.payload}\n")
    interpreter.chmod(0o755)
    data = _data(place)
    text = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 48\n%%EndComments\nshowpage\n"
    (data / "train" / kind / "train0.png").write_text(text)
    return data


def _tiff(place: Path, *fields: tuple[int, int, int], data: bytes = b"", ifds: int = 1) -> None:
    """Write a grey 8-bit TIFF of fields (tag, count, value); the last of its IFDs has no end.

    The data follow the IFDs; a value of -1 is replaced by their offset.
    """
    fields = tuple(sorted({(258, 1, 8), (262, 1, 1), (277, 1, 1), *fields}))
    length = 2 + 12 * len(fields) + 4
    values = [(tag, count, 8 + ifds * length if n == -1 else n) for tag, count, n in fields]
    entries = b"".join(struct.pack("<HHII", tag, 4, count, n) for tag, count, n in values)
    starts = [8 + number * length for number in range(1, ifds)]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(
        struct.pack("<2sHI", b"II", 42, 8)
        + b"".join(
            struct.pack("<H", len(fields)) + entries + struct.pack("<I", following)
            for following in (*starts, 8 if ifds > 1 else 0)
        )
        + data
    )


def _bands(place: Place, *fields: tuple[int, int, int], data: bytes = b"", ifds: int = 1) -> Words:
    """Read a TIFF with bands, with a memory limit."""
    data_set = place.folder / "data" / "train"
    _tiff(data_set / "images" / "a.tif", *fields, data=data, ifds=ifds)
    (data_set / "masks").mkdir()
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(data_set / "masks" / "a.png")
    (data_set.parent / "dataset.yaml").write_text("classes: [ground, box]\n")
    return _within_memory(["check", "data", "--bands", "1"])


def _within_memory(words: list[str]) -> Words:
    """Run a command with at most 4 GiB of additional memory."""

    def run() -> None:
        from softiou.__main__ import main

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + (4 << 30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        sys.argv = ["softiou", *words]
        main()

    return run


_SIDES = ((256, 1, 4096), (257, 1, 4096))
_TILE = ((322, 1, 4096), (323, 1, 4096))


@_case("TIFFs of chosen bands")
def _tiff_of_declared_sizes(place: Place) -> Words:
    strip = ((273, 1, -1), (278, 1, 2**31 - 1), (279, 1, 64))
    return _bands(place, (256, 1, 2**31 - 1), (257, 1, 2**31 - 1), *strip, data=bytes(64))


@_case("TIFFs of chosen bands")
def _tiff_of_a_huge_tile(place: Place) -> Words:
    side = 1 << 17
    sizes = ((256, 1, side), (257, 1, side), (322, 1, side), (323, 1, side))
    return _bands(place, *sizes, (324, 1, -1), (325, 1, 64), data=bytes(64))


@_case("TIFFs of chosen bands")
def _tiff_that_is_a_bomb(place: Place) -> Words:
    bomb = zlib.compress(bytes(1 << 24), 9)
    stored = ((259, 1, 8), (324, 1, -1), (325, 1, len(bomb)))
    return _bands(place, *_SIDES, *_TILE, *stored, data=bomb)


@_case("TIFFs of chosen bands")
def _tiff_whose_tile_is_its_header(place: Place) -> Words:
    return _bands(place, *_SIDES, *_TILE, (259, 1, 8), (324, 1, 8), (325, 1, 2**32 - 1))


@_case("TIFFs of chosen bands")
def _tiff_that_is_truncated(place: Place) -> Words:
    strip = ((273, 1, -1), (278, 1, 4096), (279, 1, 1 << 24))
    return _bands(place, *_SIDES, *strip, data=bytes(1 << 20))


@_case("TIFFs of chosen bands")
def _tiff_with_a_circle_of_pages(place: Place) -> Words:
    strip = ((273, 1, -1), (278, 1, 40), (279, 1, 40 * 48))
    return _bands(place, (256, 1, 48), (257, 1, 40), *strip, data=bytes(1920), ifds=3)


@_case("TIFFs of chosen bands")
def _tiff_of_many_pages(place: Place) -> Words:
    strip = ((273, 1, -1), (278, 1, 40), (279, 1, 40 * 48))
    return _bands(place, (256, 1, 48), (257, 1, 40), *strip, data=bytes(1920), ifds=20_000)


def _volume(place: Place, content: bytes, name: str = "a.nii.gz") -> Words:
    """Read a volume as both image and mask."""
    for kind in ("images", "masks"):
        path = place.folder / "data" / kind / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    (place.folder / "data" / "dataset.yaml").write_text("classes: [ground, box]\n")
    return _within_memory(["check", "data"])


def _nifti(*shape: int) -> bytes:
    """Return the header of a volume of bytes."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<hh", header, 70, 2, 8)
    struct.pack_into("<4f", header, 76, 1, 1, 1, 1)
    struct.pack_into("<ff", header, 108, 352, 1)
    header[344:348] = b"n+1\0"
    return bytes(header)


@_case("volumes")
def _volume_of_declared_sizes(place: Place) -> Words:
    return _volume(place, gzip.compress(_nifti(32_000, 32_000, 32_000) + bytes(99)))


@_case("volumes")
def _volume_that_is_a_bomb(place: Place) -> Words:
    return _volume(place, gzip.compress(_nifti(16_000, 16_000, 2) + bytes(1 << 29)))


@_case("volumes")
def _volume_that_is_truncated(place: Place) -> Words:
    return _volume(place, gzip.compress(_nifti(40, 48, 30) + os.urandom(57_600))[:20_000])


@_case("volumes")
def _volume_without_an_axis(place: Place) -> Words:
    header = bytearray(_nifti(40, 48, 3))
    struct.pack_into("<hh", header, 252, 0, 1)
    struct.pack_into("<12f", header, 280, *[float("nan")] * 12)
    return _volume(place, bytes(header) + bytes(40 * 48 * 3), "a.nii")


@_case("volumes")
def _series_that_is_deflated(place: Place) -> Words:
    folder = place.folder / "data" / "images" / "a"
    folder.mkdir(parents=True)
    one = pydicom.Dataset()
    one.file_meta = pydicom.dataset.FileMetaDataset()
    one.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = pydicom.uid.CTImageStorage
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = "1.2.3"
    one.Rows, one.Columns, one.BitsAllocated, one.PixelRepresentation = 60_000, 60_000, 8, 0
    one.add_new(0x7FE00010, "OB", bytes(1 << 26))
    one.save_as(folder / "a.dcm", enforce_file_format=True)
    (folder.parent.parent / "masks").mkdir()
    (folder.parent.parent / "dataset.yaml").write_text("classes: [ground, box]\n")
    return _within_memory(["check", "data"])


def _with_interpreter(words: list[str], place: Place) -> Words:
    def run() -> None:
        from softiou.__main__ import main

        os.environ["PATH"] = f"{place.folder}:{os.environ['PATH']}"
        sys.argv = ["softiou", *words]
        main()

    return run


@_case("images and masks")
def _image_that_is_a_program(place: Place) -> Words:
    _picture_program(place, "images")
    return _with_interpreter(["predict", str(place.run), "data/train/images"], place)


@_case("images and masks")
def _mask_that_is_a_program(place: Place) -> Words:
    _picture_program(place, "masks")
    return _with_interpreter(["check", "data"], place)


@_case("file or stem names")
def _names_that_are_scripts(place: Place) -> Words:
    data = _data(place, classes=["ground", SCRIPT, "\x1b[2Jnothing"])
    for kind in ("images", "masks"):
        file = data / "test" / kind / "test0.png"
        file.rename(file.with_name(f"{SCRIPT.replace('/', '|')}\x1b[2J.png"))
    return ["train", "data", *STEP]


def _archive(place: Place, *members: tuple[str, bytes | str]) -> Words:
    """Write a tar archive of files (bytes) and links (texts), and unpack it."""
    with tarfile.open(place.folder / "a.tar", "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return lambda: _unpack(place.folder / "a.tar")


def _unpack(path: Path) -> None:
    """Unpack an archive and read its content; an error is expected."""
    try:
        with unpacked(path) as folder:
            for file in folder.rglob("*"):
                if file.is_file():
                    file.read_bytes()
    except tarfile.TarError as error:
        raise ValueError(str(error)) from error


@_case("archive")
def _archive_with_a_file_above(place: Place) -> Words:
    return _archive(place, ("../../outside/executed", b"x"))


@_case("archive")
def _archive_with_a_file_elsewhere(place: Place) -> Words:
    return _archive(place, (f"{place.outside}/executed", b"x"))


@_case("archive")
def _archive_with_a_link(place: Place) -> Words:
    return _archive(place, ("a", str(place.outside)), ("a/executed", b"x"))


@_case("archive")
def _archive_with_a_link_to_read(place: Place) -> Words:
    return _archive(place, ("a", str(place.outside / "secret.bin")))


@_case("archive")
def _zip_with_a_file_above(place: Place) -> Words:
    with zipfile.ZipFile(place.folder / "a.zip", "w") as archive:
        archive.writestr("../../outside/executed", "x")
    return lambda: _unpack(place.folder / "a.zip")
