"""The configuration: mistakes, overrides, and the file that a run keeps."""

from pathlib import Path

import pytest
import yaml

from softiou.configuration import Config, load_config, save_config, validate_config
from softiou.errors import ConfigError


def _mistakes(*overrides: str, source: str | None = "digits") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(source=source, overrides=list(overrides))
    first, *lines = str(caught.value).splitlines()
    assert first == "The configuration has mistakes:"
    return [line.strip() for line in lines]


def test_all_mistakes_are_reported_at_once() -> None:
    found = _mistakes(
        "optim.stepz=3",
        "optm.ema=0.5",
        "steps=3",
        "data.flip=2",
        "data.batch_size=0",
        "data.skip_corrupt=maybe",
        "model.encoder=5",
        "loss.kind=lovasz",
        "optim.learning_rate=.nan",
        "seed=-1",
        "optim.validations",
        "=3",
        "optim.ema=[1",
        "data.source.name=x",
    )
    assert sorted(found) == sorted(
        [
            "optim.stepz: unknown key; did you mean optim.steps? For instance optim.steps=3",
            "optm: unknown key; did you mean optim.ema? For instance optim.ema=0.5",
            "steps: unknown key; did you mean optim.steps? For instance optim.steps=3",
            "data.flip: expected a number of at most 1, but got 2 (probability of a "
            "horizontal flip; default null)",
            "data.batch_size: expected auto or a number of at least 1, but got 0 (images per "
            "batch in each process; default auto)",
            "data.skip_corrupt: expected true or false, but got 'maybe' (skip unreadable images "
            "instead of stopping; default false)",
            "model.encoder: expected text, but got 5 (encoder of segmentation_models_pytorch; "
            "tu-NAME from timm; for transformers, a model repository or folder; default "
            "mobilenet_v2)",
            "loss.kind: expected jaccard, dice, tversky or soft_jaccard, but got 'lovasz' "
            "(overlap loss: jaccard, dice, tversky or soft_jaccard; default jaccard)",
            "optim.learning_rate: expected auto or a finite number, but got nan (peak learning "
            "rate of the decoder; auto: adamw 0.0005, sgd 0.01; default auto)",
            "seed: expected a number of at least 0, but got -1 (seed of the initial weights, the "
            "data order and the augmentation; default 0)",
            "optim.validations: expected KEY=VALUE, for instance optim.steps=500",
            "=3: expected KEY=VALUE, for instance optim.steps=500",
            "optim.ema=[1: the value is not valid YAML",
            "data.source.name=x: data.source is a value, not a section",
        ]
    )


@pytest.mark.parametrize(
    ("override", "mistake"),
    [
        ("data.scale=[2, 0.5]", "data.scale: the smallest must come first, but got [2, 0.5]"),
        ("data.scale=[0, 1]", "data.scale: expected a number above 0, but got 0"),
        ("data.colour=1.5", "data.colour: expected a number of at most 1, but got 1.5"),
        (
            "loss.per={batch: 0}",
            "loss.per: expected batch, image or class or not all weights may be 0, but got",
        ),
        ("loss.class_weights=[0, 0]", "loss.class_weights: not all weights may be 0, but got"),
        (
            "loss.class_weights=[1, -1]",
            "loss.class_weights: expected a number of at least 0, but got",
        ),
        ("optim.ema=1", "optim.ema: expected auto or a number below 1, but got 1"),
        ("optim=5", "optim: is a section, not a setting; use optim.KEY, for instance"),
        ("optim.optimizer=adam", "optim.optimizer: expected adamw or sgd, but got"),
        ("optim.momentum=1", "optim.momentum: expected a number below 1, but got 1"),
        ("optim.momentum=0.9", "optim: momentum needs the optimizer sgd, not adamw: remove it"),
        ("optim.weight_decay=-1", "optim.weight_decay: expected auto or a number of at least 0"),
        ("resolution=5", "resolution: unknown key"),
        ("optim.steps=100000000000000000000", "optim.steps: expected at most 1000000000, b"),
        ("optim.accumulate=100000", "optim.accumulate: expected 1 to 10000, because a step"),
        ("data.crop_px=[1000000, 32]", "data.crop_px: expected 1 to 16384, because a larger crop"),
        ("data.batch_size=1000000000", "data.batch_size: expected 1 to 65536, because more images"),
        ("data.workers=1000", "data.workers: expected 0 to 256, because more loading processes"),
        ("data.scale=[1e-9, 1]", "data.scale: expected 0.05 to 20, because outside this range"),
        ("labels={kind: boundary, width: 1000000}", "labels.width: expected 1 to 256, because"),
        ("labels={kind: gaussian, sigma: 1e9}", "labels.sigma: expected 0.05 to 16, because the"),
        ("labels={kind: gaussian, width: 100}", "labels: expected 0.05 to 16, because the time"),
        ("loss.per={batch: 1e300}", "loss.per: expected at most 1000000000, because larger"),
        ("data={source: x, crop_px: [8192, 8192], batch_size: 8}", "data: batch_size x crop_px is"),
    ],
)
def test_value_out_of_range_is_named(override: str, mistake: str) -> None:
    (found,) = _mistakes(override)
    assert found.startswith(mistake)


def test_missing_data_set_is_named() -> None:
    assert _mistakes(source=None) == ["data: missing"]
    with pytest.raises(ConfigError, match=r"data\.source: missing"):
        validate_config({"data": {}})


def test_file_then_source_then_overrides(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("data:\nseed: 1\nloss:\n  smooth: 0\noptim:\n  steps: 7\n  ema: 0.5\n")
    config = load_config(
        source="digits",
        file=file,
        overrides=["optim.steps=9", "optim.learning_rate=1e-3", "loss.per={image: 1, batch: 3}"],
    )
    assert config.data.source == "digits"
    assert (config.seed, config.loss.smooth, config.optim.ema) == (1, 0, 0.5)
    assert (config.optim.steps, config.optim.learning_rate) == (9, 0.001)
    assert config.loss.per == {"image": 1, "batch": 3}
    assert load_config(file=file, source="a", overrides=["data.source=b"]).data.source == "b"


def test_names_of_splits_are_no_numbers(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("data: {source: digits, train_split: 1_8}\noptim: {steps: 1_000}\n")
    config = load_config(file=file)
    assert (config.data.train_split, config.optim.steps) == ("1_8", 1000)
    assert (
        load_config(source="digits", overrides=["data.train_split=1_16"]).data.train_split == "1_16"
    )
    save_config(config, tmp_path / "again.yaml")
    assert load_config(file=tmp_path / "again.yaml") == config


def test_another_optimiser_brings_its_own_rates(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    given = load_config(source="digits", overrides=["optim.optimizer=sgd", "optim.momentum=0.8"])
    save_config(given.model_copy(update={"optim": given.optim.with_defaults()}), file)
    same = load_config(file=file, overrides=["optim.optimizer=sgd", "optim.warmup=0"]).optim
    assert (same.learning_rate, same.weight_decay, same.momentum) == (0.01, 5e-4, 0.8)
    other = load_config(file=file, overrides=["optim.optimizer=adamw", "optim.weight_decay=0"])
    assert (other.optim.learning_rate, other.optim.momentum) == ("auto", None)
    assert other.optim.with_defaults().learning_rate == 5e-4
    assert other.optim.with_defaults().weight_decay == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "Cannot read the configuration .*: No such file"),
        (b"optim: [1", "is not valid YAML"),
        (b"- 1\n- 2\n", "contains no settings"),
        (b"data: \xff\xfe", "is not valid YAML"),
    ],
)
def test_bad_file_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "settings.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_config(source="digits", file=file)


def test_saved_configuration_is_complete_commented_and_equal(tmp_path: Path) -> None:
    config = load_config(
        source="Zürich #1: a 'set'",
        overrides=[
            "data.crop_px=[64, 96]",
            "loss.per={batch: 1, class: 0.5}",
            "loss.class_weights=[1, 2, 0.5]",
            "loss.classes=[0, 2]",
            "optim.learning_rate=1e-7",
        ],
    )
    file = tmp_path / "config.yaml"
    save_config(config, file, header="softiou train 'Zürich #1'\n--out x")
    assert load_config(file=file) == config
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# softiou train 'Zürich #1'\n# --out x\ndata:\n")
    assert yaml.safe_load(text) == config.model_dump(mode="json")
    knobs = [line for line in text.splitlines() if not line.startswith("#")]
    sections = {f"{name}:" for name in Config.model_fields}
    # Every knob is written with its comment, the sections alone have none.
    assert all("  # " in line for line in knobs if line not in sections)
    assert "  crop_px: [64, 96]  # height and width of the training crops in pixels" in knobs


def test_default_configuration_survives_the_file(tmp_path: Path) -> None:
    config = load_config(source="digits")
    save_config(config, tmp_path / "config.yaml")
    assert load_config(file=tmp_path / "config.yaml") == config


def test_key_of_the_same_section_is_meant() -> None:
    (found,) = _mistakes("semi_supervised.threshold=0.9")
    assert found.endswith("semi_supervised.classes_threshold=0.9")


def test_a_mistake_of_an_override_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    file = tmp_path / "good.yaml"
    file.write_text("data: {source: digits}\n")
    with pytest.raises(ConfigError, match=r"^The configuration has mistakes"):
        load_config(file=file, overrides=["optim.steps=-1"])
    file.write_text("data: {source: digits}\noptim: {steps: -1}\n")
    with pytest.raises(ConfigError, match=r"good\.yaml: The configuration has mistakes"):
        load_config(file=file, overrides=["seed=1"])
