"""Describe a run in a few lines: data, network, loss, hardware, command."""

from pathlib import Path
from typing import Any

from softiou._reading import parse_yaml, read_json
from softiou.evaluation.schema import Evaluation
from softiou.reports.formatting import counted, duration
from softiou.reports.history import History

Environment = dict[str, Any]
ENVIRONMENT = "environment.json"  # written by the training
NO_OVERLAP = 1.0  # weight of the cross-entropy without overlap loss


def read_environment(run_dir: Path) -> Environment:
    """Read environment.json; return {} if it is missing or damaged."""
    try:
        content = read_json(run_dir / ENVIRONMENT)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def describe(
    config: str, environment: Environment, history: History, evaluation: Evaluation | None
) -> list[tuple[str, str]]:
    """Return names and values of the facts that are known."""
    settings = _settings(config)
    parameters, commit = environment.get("parameters"), environment.get("commit")
    versions = [
        f"{name} {environment[name]}" for name in ("softiou", "torch") if name in environment
    ]
    known = {
        "Data": _data(settings, evaluation),
        "Network": _join(
            _get(settings, "model", "architecture"), _get(settings, "model", "encoder")
        ),
        "Parameters": f"{parameters / 1e6:.1f} million" if isinstance(parameters, int) else "",
        "Loss": _loss(settings),
        "Labels": _get(settings, "labels", "kind"),
        "Steps": _steps(settings, history),
        "Hardware": environment.get("hardware", ""),
        "Time": "" if history.seconds is None else duration(history.seconds),
        "Versions": ", ".join(versions) + (f", commit {commit}" if commit else ""),
        "Evaluated": _join(
            evaluation.checkpoint, evaluation.created, f"softiou {evaluation.softiou_version}"
        )
        if evaluation
        else "",
        "Command": _command(config),
    }
    return [(name, str(value)) for name, value in known.items() if value]


def _settings(config: str) -> dict[str, Any]:
    try:
        settings = parse_yaml(config)
    except ValueError:
        return {}
    return settings if isinstance(settings, dict) else {}


def _get(settings: dict[str, Any], section: str, key: str) -> Any:
    values = settings.get(section)
    return values.get(key, "") if isinstance(values, dict) else ""


def _join(*parts: object) -> str:
    return ", ".join(str(part) for part in parts if part)


def _command(config: str) -> str:
    first = config.partition("\n")[0]
    return first.removeprefix("# ") if first.startswith("# softiou") else ""


def _data(settings: dict[str, Any], evaluation: Evaluation | None) -> str:
    source = _get(settings, "data", "source") or (evaluation.data if evaluation else "")
    train = _get(settings, "data", "train_split")
    scored = ""
    if evaluation:
        scored = f"scored on {counted(evaluation.num_images, 'image')} of {evaluation.split}"
    return _join(source, f"trained on {train}" if train else "", scored)


def _loss(settings: dict[str, Any]) -> str:
    kind, share = _get(settings, "loss", "kind"), _get(settings, "loss", "cross_entropy")
    if not isinstance(share, int | float):
        return str(kind)
    if share >= NO_OVERLAP:
        return "cross-entropy"
    return f"{share:g} cross-entropy + {1 - share:g} {kind}" if share else str(kind)


def _steps(settings: dict[str, Any], history: History) -> str:
    batch = _get(settings, "data", "batch_size")
    crop = _get(settings, "data", "crop_px")
    size = " x ".join(map(str, crop)) if isinstance(crop, list) else ""
    images = f"batches of {batch} crops of {size} px" if batch and size else ""
    return _join(f"{history.last_step:,}" if history.last_step else "", images)
