"""Checkpoints: what comes back from a file, and what is refused."""

import pickle
import socket
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from softiou.checkpoints import (
    SCHEMA_VERSION,
    TrainedModel,
    check_classes,
    entry,
    find_checkpoint,
    load_trained,
    read_checkpoint,
    run_directory,
)
from softiou.data import DatasetDescription
from softiou.errors import CheckpointError
from softiou.models import ModelSpec, SegmentationModel

SPEC = ModelSpec("linknet", "tu-test_efficientnet", 2)
CLASSES = DatasetDescription(("sky", "road"), ignore_index=9, palette=((1, 2, 3), (4, 5, 6)))


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """What Lightning would write for a model, without the optimiser."""
    model = SegmentationModel(SPEC)
    return {
        "softiou": entry(SPEC, CLASSES, {"seed": 3}),
        "state_dict": {f"model.{name}": value for name, value in model.state_dict().items()}
        | {"loss.class_weights": torch.ones(2)},
        "global_step": 12,
    }


@pytest.fixture
def file(content: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "some.ckpt"
    torch.save(content, path)
    return path


def test_model_comes_back_as_it_was(file: Path, content: dict[str, Any]) -> None:
    trained = load_trained(file)
    assert trained.description == CLASSES
    assert trained.config == {"seed": 3}
    assert (trained.path, trained.step) == (file, 12)
    assert not trained.model.training
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, content["state_dict"][f"model.{name}"]), name


def test_checkpoint_from_before_there_were_other_settings(
    content: dict[str, Any], tmp_path: Path
) -> None:
    model = {"architecture": SPEC.architecture, "encoder": SPEC.encoder, "num_classes": 2}
    colours = {"model.mean": torch.full((3, 1, 1), 0.4), "model.std": torch.full((3, 1, 1), 0.3)}
    weights = content["state_dict"] | colours
    old = content | {"softiou": content["softiou"] | {"model": model}, "state_dict": weights}
    torch.save(old, tmp_path / "old.ckpt")
    trained = load_trained(tmp_path / "old.ckpt")
    assert trained.model.spec == SPEC
    assert torch.equal(trained.model.mean, colours["model.mean"])  # as it was trained
    assert torch.equal(trained.model.std, colours["model.std"])


def test_setting_of_a_newer_version(content: dict[str, Any], tmp_path: Path) -> None:
    model = content["softiou"]["model"] | {"wings": 2}
    torch.save(content | {"softiou": content["softiou"] | {"model": model}}, tmp_path / "new.ckpt")
    with pytest.raises(CheckpointError, match=r"new\.ckpt .*'wings'.* Update softiou"):
        load_trained(tmp_path / "new.ckpt")


def test_run_gives_its_best_checkpoint_then_its_last(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "last.ckpt").touch()
    assert find_checkpoint(tmp_path) == folder / "last.ckpt"
    (folder / "best.ckpt").touch()
    assert find_checkpoint(tmp_path) == folder / "best.ckpt"
    assert find_checkpoint(folder / "last.ckpt") == folder / "last.ckpt"


def test_run_without_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no checkpoints: expected a run directory"):
        find_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        find_checkpoint(tmp_path / "nowhere")


def test_run_directory_is_where_the_configuration_lies(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "best.ckpt"
    assert run_directory(checkpoint) is None
    (tmp_path / "config.yaml").touch()
    assert run_directory(checkpoint) == tmp_path


class Evil:
    """Unpickling it would run a command."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("owned"),))


def test_pickled_objects_are_never_loaded(
    tmp_path: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content | {"extra": Evil()}, tmp_path / "evil.ckpt")
    (tmp_path / "pickle.ckpt").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.ckpt", "pickle.ckpt"):
        with pytest.raises(CheckpointError, match="which are never loaded"):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("length", [0, 10, 5000, -1])
def test_cut_file_is_refused(length: int, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"some\.ckpt"):
        read_checkpoint(file)


def test_changed_bytes_are_noticed(file: Path) -> None:
    original = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        largest = max(archive.infolist(), key=lambda one: one.file_size)
    inside = largest.header_offset + largest.file_size // 2
    file.write_bytes(original[:inside] + bytes(64) + original[inside + 64 :])
    with pytest.raises(CheckpointError, match=r"some\.ckpt is damaged.*checksum"):
        read_checkpoint(file)


def test_files_that_unpack_to_more_than_their_size_are_not_unpacked(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for one in old.infolist():
            new.writestr(one.filename, old.read(one))
        new.writestr("archive/data/99", bytes(1 << 24))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(CheckpointError, match="its entries are larger than the file"):
        read_checkpoint(bomb)


def _nested(levels: int, width: int = 1) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value] * width
    return value


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": "one"},
        {"schema_version": None},
        {"model": None},
        {"model": {"architecture": 3, "encoder": 4, "num_classes": 2}},
        {"model": {**SPEC.as_dict(), "num_classes": 10**9}},
        {"model": {**SPEC.as_dict(), "encoder": None}},
        {"model": {**SPEC.as_dict(), "architecture": "no such"}},
        {"model": {**SPEC.as_dict(), "output_stride": "wide"}},
        {"classes": 5},
        {"classes": None},
        {"palette": [[1, 2]]},
        {"palette": [["a", "b", "c"]] * 2},
        {"ignore_index": "x"},
        {"config": _nested(80)},
        {"config": _nested(30, width=9)},
    ],
)
def test_wrong_entries_are_named(
    change: dict[str, Any], content: dict[str, Any], tmp_path: Path
) -> None:
    torch.save(content | {"softiou": content["softiou"] | change}, tmp_path / "wrong.ckpt")
    with pytest.raises(CheckpointError, match=r"wrong\.ckpt"):
        load_trained(tmp_path / "wrong.ckpt")


@pytest.mark.parametrize(
    "change",
    [
        {"softiou": None},
        {"softiou": []},
        {"softiou": {}},
        {"state_dict": None},
        {"state_dict": [1]},
        {"state_dict": {3: torch.ones(2)}},
        {"state_dict": {"model.mean": "text"}},
        {"global_step": "many"},
    ],
)
def test_wrong_parts_are_named(
    change: dict[str, Any], content: dict[str, Any], tmp_path: Path
) -> None:
    torch.save(content | change, tmp_path / "wrong.ckpt")
    with pytest.raises(CheckpointError, match=r"wrong\.ckpt"):
        load_trained(tmp_path / "wrong.ckpt")


HOSTILE_SETTINGS = [
    None,
    {"model_type": "upernet", "backbone": "microsoft/resnet-50", "backbone_config": None},
    {"model_type": "upernet", "backbone": "resnet50", "use_timm_backbone": True},
    {
        "model_type": "upernet",
        "backbone": "resnet50",
        "use_timm_backbone": True,
        "use_pretrained_backbone": True,
    },
    {
        "model_type": "segformer",
        "auto_map": {"AutoConfig": "someone/evil--config.Evil"},
        "depths": 1,
    },
    {"model_type": "mask2former", "backbone_config": {"model_type": "no such"}},
]


@pytest.mark.parametrize("settings", HOSTILE_SETTINGS)
def test_models_of_transformers_never_use_the_network(
    settings: Any, content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it used the network"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("it asked for a name"))
    model = ModelSpec("transformers", "someone/else", 2, settings=settings).as_dict()
    torch.save(content | {"softiou": content["softiou"] | {"model": model}}, tmp_path / "net.ckpt")
    with pytest.raises(CheckpointError, match=r"net\.ckpt"):
        load_trained(tmp_path / "net.ckpt")


@pytest.mark.parametrize("encoder", ["tu-hf-hub:timm/resnet18.a1_in1k", "tu-hf_hub:a/b", "../x"])
def test_encoders_never_use_the_network(
    encoder: str, content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it used the network"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("it asked for a name"))
    model = content["softiou"]["model"] | {"encoder": encoder}
    torch.save(content | {"softiou": content["softiou"] | {"model": model}}, tmp_path / "net.ckpt")
    with pytest.raises(CheckpointError, match=r"net\.ckpt"):
        load_trained(tmp_path / "net.ckpt")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"Cannot read the checkpoint .*No such file"):
        read_checkpoint(tmp_path / "none.ckpt")


@pytest.mark.parametrize("foreign", [{"state_dict": {}}, torch.ones(3), [1, 2]])
def test_file_of_another_program_is_refused(foreign: Any, tmp_path: Path) -> None:
    torch.save(foreign, tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointError, match="was not written by softiou"):
        read_checkpoint(tmp_path / "foreign.ckpt")


def test_newer_format_is_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    newer = content["softiou"] | {"schema_version": SCHEMA_VERSION + 1}
    torch.save(content | {"softiou": newer}, tmp_path / "newer.ckpt")
    with pytest.raises(CheckpointError, match=r"format 2, newer than .* \(1\)\. Update softiou"):
        read_checkpoint(tmp_path / "newer.ckpt")


def test_weights_of_another_model_are_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    other = ModelSpec("fpn", "tu-test_efficientnet", 2).as_dict()
    torch.save(content | {"softiou": content["softiou"] | {"model": other}}, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="do not match its model"):
        load_trained(tmp_path / "x.ckpt")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("sky", "road", "car"), "than DATA: 2 classes instead of 3"),
        (("sky", "street"), "than DATA: 'road' as class 1 instead of 'street'"),
        (("road", "sky"), "than DATA: 'sky' as class 0 instead of 'road'"),
    ],
)
def test_other_classes_are_refused(classes: tuple[str, ...], message: str, file: Path) -> None:
    trained: TrainedModel = load_trained(file)
    own = trained.path, trained.description
    check_classes(*own, DatasetDescription(("sky", "road")), data="DATA")  # colours may differ
    with pytest.raises(CheckpointError, match=f"{message}.*list the same classes"):
        check_classes(*own, DatasetDescription(classes), data="DATA")
