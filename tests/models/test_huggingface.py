"""Models of transformers: tiny ones, drawn at random, without a network."""

import builtins
import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.two_steps import fit_two_steps, stride_of
from softiou.checkpoints import load_trained
from softiou.errors import CheckpointError, ConfigError
from softiou.models import IMAGENET_MEAN, TRANSFORMERS, ModelSpec, SegmentationModel
from softiou.models.memory import kept_for_gradient, recompute_activations
from softiou.models.semantic_head import EPS, semantic_logits
from softiou.recipes.schedule import parameter_groups
from softiou.training import resume_training, start_training

transformers = pytest.importorskip("transformers", reason="needs softiou[transformers]")

CLASSES = 7  # of the models on disk
KINDS = ("segformer", "upernet", "mask2former")
STAGES = ["stage1", "stage2", "stage3", "stage4"]
HEADS = {
    "segformer": "decode_head.classifier.",
    "upernet": "decode_head.classifier.",
    "mask2former": "class_predictor.",
}


def _original(kind: str) -> Any:
    """A tiny model as transformers builds it."""
    if kind == "segformer":
        config = transformers.SegformerConfig(
            hidden_sizes=[8, 8, 16, 16],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 1, 2, 2],
            decoder_hidden_size=16,
            num_labels=CLASSES,
        )
        return transformers.SegformerForSemanticSegmentation(config).eval()
    if kind == "upernet":
        backbone = transformers.ConvNextConfig(
            hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=STAGES
        )
        config = transformers.UperNetConfig(
            backbone_config=backbone, hidden_size=16, auxiliary_channels=8, num_labels=CLASSES
        )
        return transformers.UperNetForSemanticSegmentation(config).eval()
    backbone = transformers.SwinConfig(
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        image_size=64,
        out_features=STAGES,
    )
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        dim_feedforward=16,
        encoder_layers=1,
        decoder_layers=3,
        num_attention_heads=2,
        num_queries=6,
        num_labels=CLASSES,
    )
    return transformers.Mask2FormerForUniversalSegmentation(config).eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """A folder of each kind of model, and the model that it holds."""
    found = {}
    transformers.logging.disable_progress_bar()
    for kind in KINDS:
        folder, model = tmp_path_factory.mktemp(kind), _original(kind)
        model.save_pretrained(folder)
        found[kind] = (folder, model)
    transformers.logging.enable_progress_bar()
    return found


Folders = dict[str, tuple[Path, Any]]


def _load(folder: Path, classes: int = 3, weights: str = "imagenet") -> SegmentationModel:
    spec = ModelSpec(TRANSFORMERS, str(folder), classes)
    return SegmentationModel(spec, encoder_weights=weights).eval()


def _whole(model: Any, kind: str, images: torch.Tensor) -> torch.Tensor:
    """Probabilities by transformers' own forward, at the stride of the logits or of the image."""
    found = model(images)
    if kind != "mask2former":
        probs: torch.Tensor = found.logits.softmax(1)
        return probs
    classes = found.class_queries_logits.softmax(-1)[..., :-1]
    scores = torch.einsum("nqc,nqhw->nchw", classes, found.masks_queries_logits.sigmoid())
    return scores / scores.sum(1, keepdim=True)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_original(folders: Folders, kind: str) -> None:
    folder, original = folders[kind]
    model = _load(folder, CLASSES)
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected = _whole(original, kind, (images - model.mean) / model.std)
        logits = model(images)
        assert logits.shape == (2, CLASSES, 16, 24)  # stride 4, also where transformers hands out 1
        if kind == "upernet":
            logits = model.upsample(logits, (64, 96))
    torch.testing.assert_close(logits.softmax(1), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_classifier_is_replaced_and_the_rest_is_kept(folders: Folders, kind: str) -> None:
    folder, original = folders[kind]
    model = _load(folder, 3)
    assert model.spec.num_classes == 3
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 3, 16, 16)
    own = {weight.data_ptr(): weight for weight in model.net.parameters()}.values()
    kept = [
        weight
        for name, weight in original.named_parameters()
        if not name.startswith((HEADS[kind], "auxiliary_head."))
    ]
    assert len(own) == len(kept) + 2
    assert all(any(torch.equal(weight, other) for other in own) for weight in kept)


@pytest.mark.parametrize("kind", KINDS)
def test_two_steps(folders: Folders, kind: str) -> None:
    folder, _ = folders[kind]
    model = fit_two_steps(TRANSFORMERS, str(folder), "loss.auxiliary=0.4")
    assert stride_of(model) == 4
    assert model.input_stride == 32


@pytest.mark.parametrize("kind", KINDS)
def test_comes_back_without_its_folder(folders: Folders, kind: str) -> None:
    model = _load(folders[kind][0])
    stored = json.loads(json.dumps(model.spec.as_dict()))  # plain values
    assert not {"_name_or_path", "transformers_version"} & set(stored["settings"])
    again = SegmentationModel(ModelSpec(**(stored | {"encoder": "/nowhere"}))).eval()
    again.load_state_dict(model.state_dict())
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(again(images), model(images))
    assert {model.spec: kind}[model.spec] == kind  # a key, whatever the settings


def test_a_checkpoint_chooses_no_code(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = _load(folders["upernet"][0]).spec
    settings = json.loads(json.dumps(spec.settings)) | {"attn_implementation": "evil/kernel"}
    settings["backbone_config"]["_attn_implementation"] = "evil/kernel"
    seen: dict[str, Any] = {}
    for_model = transformers.AutoConfig.for_model
    monkeypatch.setattr(
        transformers.AutoConfig,
        "for_model",
        lambda **found: seen.update(found) or for_model(**found),
    )
    SegmentationModel(replace(spec, settings=settings))
    assert "evil" not in json.dumps(seen)
    assert seen["backbone_config"]["model_type"] == settings["backbone_config"]["model_type"]


def test_run_and_checkpoint(folders: Folders, tiny_config: Any, tmp_path: Path) -> None:
    folder = tmp_path / "segformer"
    folder.mkdir()
    for file in folders["segformer"][0].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = tiny_config(
        "model.architecture=transformers",
        f"model.encoder={folder}",
        "model.encoder_weights=imagenet",
        "optim.steps=2",
        "optim.validations=1",
    )
    run = start_training(config, directory=tmp_path / "run")
    for file in folder.iterdir():
        file.unlink()
    assert resume_training(run) == run  # at its end; the checkpoint says what to build
    trained = load_trained(run)
    assert trained.model.predict_logits(torch.rand(1, 3, 50, 70)).shape == (1, 3, 50, 70)


@pytest.mark.parametrize("kind", KINDS)
def test_backbone_is_slow_and_heads_are_fast(folders: Folders, kind: str) -> None:
    model = _load(folders[kind][0])
    groups = parameter_groups(model, learning_rate=1.0, encoder_rate=0.1, weight_decay=0.0)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        expected = 0.1 if name.startswith("net.encoder.") else 1.0
        assert rates[id(parameter)] == pytest.approx(expected), name


def _kept(model: SegmentationModel) -> tuple[int, torch.Tensor]:
    """Return the bytes kept for the gradient, and the gradient of the first weights."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    with kept_for_gradient() as kept:
        logits = model(images)
    (gradient,) = torch.autograd.grad(logits.sum(), next(model.net.encoder.parameters()))
    return sum(kept.values()), gradient


@pytest.mark.parametrize("kind", KINDS)
def test_activations_are_recomputed(folders: Folders, kind: str) -> None:
    model = _load(folders[kind][0]).train()
    if kind == "upernet":  # here with ConvNeXt, which transformers does not recompute
        with pytest.raises(ConfigError, match=r"gradient_checkpointing: .* Use an encoder of timm"):
            recompute_activations(model)
        return
    before, expected = _kept(model)
    recompute_activations(model)
    after, found = _kept(model)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert after < 0.9 * before


def test_normalisation_is_that_of_the_folder(folders: Folders, tmp_path: Path) -> None:
    assert _load(folders["segformer"][0]).mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)
    for file in folders["segformer"][0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = tmp_path / "preprocessor_config.json"
    settings.write_text(json.dumps({"image_mean": [0.5, 0.25, 0.125], "image_std": [1, 2, 4]}))
    model = _load(tmp_path)
    assert model.mean.flatten().tolist() == [0.5, 0.25, 0.125]
    assert model.std.flatten().tolist() == [1, 2, 4]
    settings.write_text(json.dumps({"do_normalize": False, "image_mean": [9, 9, 9]}))
    model = _load(tmp_path)
    assert model.mean.abs().max() == 0
    assert (model.std == 1).all()


@pytest.mark.parametrize("bars", [True, False])
def test_settings_of_the_library_are_left_alone(
    folders: Folders, bars: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    log = transformers.logging
    level, before = log.get_verbosity(), log.is_progress_bar_enabled()
    try:
        (log.enable_progress_bar if bars else log.disable_progress_bar)()
        _load(folders["upernet"][0])  # another number of classes, and no auxiliary head
        assert (log.get_verbosity(), log.is_progress_bar_enabled()) == (level, bars)
    finally:
        (log.enable_progress_bar if before else log.disable_progress_bar)()
    assert capfd.readouterr() == ("", "")


# Semantic logits


def test_semantic_logits_by_hand() -> None:
    classes = torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]]).log()  # the last is no class
    masks = torch.tensor([[[[0.5]], [[0.25]]]]).logit()
    logits = semantic_logits(classes, masks)
    expected = torch.tensor([0.5 * 0.5 + 0.1 * 0.25, 0.25 * 0.5 + 0.1 * 0.25])
    torch.testing.assert_close(logits[0, :, 0, 0], (expected + EPS).log())
    torch.testing.assert_close(logits.softmax(1)[0, :, 0, 0], expected / expected.sum())


def test_semantic_logits_are_finite_where_no_query_is() -> None:
    classes = torch.zeros(1, 2, 4).requires_grad_()
    masks = torch.full((1, 2, 1, 1), -200.0).requires_grad_()
    logits = semantic_logits(classes, masks)
    torch.testing.assert_close(logits.softmax(1), torch.full((1, 3, 1, 1), 1 / 3))
    logits.sum().backward()  # type: ignore[no-untyped-call]
    assert masks.grad is not None
    assert masks.grad.isfinite().all()


def test_semantic_logits_are_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = semantic_logits(
            torch.rand(1, 5, 4, dtype=torch.bfloat16), torch.rand(1, 5, 2, 2, dtype=torch.bfloat16)
        )
    assert found.dtype == torch.float32


# Errors


def test_missing_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    original = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "transformers":
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'transformers>=5.0'"):
        _load(tmp_path)


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    transformers.BertConfig(hidden_size=8, num_attention_heads=1).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"'bert' .*only mask2former, segformer, upernet\."):
        _load(tmp_path)


def test_folder_without_configuration(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot read .*config\.json and model\.safetensors"):
        _load(tmp_path)


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({}, b"rubbish"),
        ({"hidden_sizes": "large"}, b""),
        ({"hidden_sizes": [8]}, b""),
        ({"model_type": "unheard-of"}, b""),
        ({"model_type": "theirs", "auto_map": {"AutoConfig": "code.Theirs"}}, b""),
    ],
)
def test_damaged_folders(
    folders: Folders, tmp_path: Path, settings: dict[str, Any], weights: bytes
) -> None:
    config = json.loads((folders["segformer"][0] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | settings))
    (tmp_path / "model.safetensors").write_bytes(weights)
    (tmp_path / "code.py").write_text("raise SystemExit('code of a repository was run')")
    with pytest.raises(CheckpointError, match=r"model\.encoder: cannot read"):
        _load(tmp_path)


def test_pickles_are_never_loaded(folders: Folders, tmp_path: Path) -> None:
    folder = folders["segformer"][0]
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickled weights are never loaded"):
        _load(tmp_path)
    assert _load(tmp_path, weights="none").spec.num_classes == 3  # its configuration is enough


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_weights_of_another_configuration(folders: Folders, tmp_path: Path, change: str) -> None:
    folder = folders["segformer"][0]
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    weights = load_file(folder / "model.safetensors")
    name = next(key for key in weights if key.startswith("segformer.") and key.endswith(".weight"))
    weight = weights.pop(name)
    if change == "shape":
        weights[name] = torch.cat([weight, weight])
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="do not fit its configuration: 1 tensors are miss"):
        _load(tmp_path)


def test_encoder_weights_of_a_file_are_refused(folders: Folders) -> None:
    with pytest.raises(ConfigError, match="for transformers, use imagenet"):
        _load(folders["segformer"][0], weights="weights.safetensors")


def test_repository_without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unplugged(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(socket, "create_connection", unplugged)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with pytest.raises(
        CheckpointError, match=r"cannot read 'somebody/segformer'.*downloaded before"
    ):
        _load(Path("somebody/segformer"))
