"""One run of an experiment: train, calibrate on the validation split, evaluate, save."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from benchmarks._machine import ROOT, current_commit, machine
from benchmarks.peer_losses import peer_loss
from benchmarks.results_files import result_file, write_result
from benchmarks.smaller import smaller_copy
from softiou import jobs
from softiou._screen import progress_of, say
from softiou.checkpoints import load_trained
from softiou.configuration import load_config
from softiou.data import TargetKind
from softiou.evaluation import EvaluationResult
from softiou.jobs.scoring import score
from softiou.training import resume_training, start_training

RUNS = ROOT / "runs" / "experiments"
TEACHERS = ("distillation.teacher", "distillation.soft_labels", "model.weights")
_PATHS = ("source", "model.encoder_weights")


@dataclass(frozen=True)
class Trial:
    """One method of an experiment with one seed.

    Attributes:
        experiment: Its name.
        declared: Its declaration in experiments.yaml.
        method: One of its methods.
        seed: Seed of weights and data.
    """

    experiment: str
    declared: Mapping[str, Any]
    method: str
    seed: int

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings of the method, including those shared by all methods."""
        declared = self.declared
        merged = {**declared["settings"], **declared["methods"][self.method], "seed": self.seed}
        return {key: value for key, value in merged.items() if key != "peer_loss"}

    @property
    def peer_loss(self) -> str | None:
        """Return the name of the loss of another library, or None."""
        name: str | None = self.declared["methods"][self.method].get("peer_loss")
        return name

    @property
    def teacher(self) -> str | None:
        """Return the method of the teacher, which has to be trained first, or None."""
        return next((self.settings[key] for key in TEACHERS if key in self.settings), None)

    @property
    def is_trained(self) -> bool:
        """Return whether its run exists and is finished."""
        return (self.run_of(self.method) / "evaluation.json").exists()

    @property
    def name(self) -> str:
        """Return the name of the trial."""
        return f"{self.experiment}, {self.method}, seed {self.seed}"

    @property
    def source(self) -> str:
        """Return the data set, downscaled by `smaller`."""
        source = _value("source", self.declared["source"])
        factor: int | None = self.declared.get("smaller")
        return source if factor is None else str(smaller_copy(Path(source), factor))

    @property
    def scored(self) -> str:
        """Return the data set for evaluation, downscaled by `scored_at`.

        Its labels are the area fractions of the classes.
        """
        factor: int | None = self.declared.get("scored_at")
        place = Path(self.source)
        return self.source if factor is None else str(smaller_copy(place, factor, shares=True))

    @property
    def result(self) -> Path:
        """Return the path of the results file."""
        return result_file(self.experiment, self.method, self.seed)

    def equals(self, other: "Trial") -> bool:
        """Return whether another trial is equal; False for trials with a teacher."""
        return self.teacher is None and self._all_of_it == other._all_of_it

    @property
    def _all_of_it(self) -> tuple[Any, ...]:
        """Return everything that determines the metrics."""
        scored = [
            self.declared.get(key)
            for key in ("source", "smaller", "scored_at", "eval_split", "eval_labels")
        ]
        return (self.settings, self.peer_loss, *scored)

    def run_of(self, method: str) -> Path:
        """Return the run directory of a method with this seed."""
        return RUNS / self.experiment / f"{method}-seed{self.seed}"


def run_trial(trial: Trial, *, again: bool = False) -> None:
    """Train (or resume a killed run), evaluate, and write the results file.

    An existing results file is kept unless it is to be replaced, for instance if only the run of a
    teacher is needed.
    """
    run = trial.run_of(trial.method)
    commit = _begun_at(run)
    source = trial.source
    with peer_loss(trial.peer_loss):
        if (run / "config.yaml").exists():
            resume_training(run, say=say)
        else:
            settings = trial.settings | _teachers(trial, source)
            overrides = [f"{key}={_value(key, value)}" for key, value in settings.items()]
            config = load_config(source=source, overrides=overrides)
            command = f"benchmarks.experiments {trial.experiment}"
            start_training(config, directory=run, command=command, say=say)
    split, labels = trial.declared["eval_split"], trial.declared.get("eval_labels", "auto")
    jobs.calibrate(run, trial.scored, labels=labels)
    evaluation = jobs.evaluate(run, trial.scored, split=split, labels=labels)
    if trial.result.exists() and not again:
        say(f"{trial.result.relative_to(ROOT)} stays as it was")
        return
    content = _content(trial, run, commit, evaluation)
    content |= _of_the_average(run, trial.scored, split, labels)
    stems = [image["stem"] for image in evaluation.content["images"]]
    write_result(trial.result, content, evaluation.statistics, stems)
    say(f"wrote {trial.result.relative_to(ROOT)}")


def set_aside(trial: Trial) -> None:
    """Rename a run that was started by another commit, so that a new one is started."""
    run = trial.run_of(trial.method)
    commit = beside(run, ".commit")
    if not commit.exists() or commit.read_text() == current_commit():
        return
    name = f"{run.name}-at-{commit.read_text()}"
    for suffix in ("", "-soft-labels", ".log", ".commit"):
        if beside(run, suffix).exists():
            beside(run, suffix).rename(run.with_name(name + suffix))


def beside(run: Path, suffix: str) -> Path:
    """Return the file next to a run directory with the same name."""
    return run.with_name(run.name + suffix)


def _begun_at(run: Path) -> str:
    """Return the commit that started a run; print a line if another one continues it."""
    file, now = beside(run, ".commit"), current_commit()
    if not (run / "config.yaml").exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(now)
    before = file.read_text()
    if before != now:
        say(f"{run.name} was begun at commit {before}, which stays in its results; this is {now}")
    return before


def _teachers(trial: Trial, source: str) -> dict[str, Any]:
    """Replace the name of a teacher's method by its run or its soft labels."""
    found: dict[str, Any] = {}
    for key in TEACHERS:
        if key in trial.settings:
            teacher = trial.run_of(trial.settings[key])
            found[key] = str(teacher)
            if key.endswith("soft_labels"):
                found[key] = f"{teacher}-soft-labels"
                jobs.label(source, teacher=teacher, out=Path(found[key]))
    return found


def _of_the_average(run: Path, source: str, split: str, labels: TargetKind) -> dict[str, Any]:
    """Evaluate the teacher of a semi-supervised run, the moving average of the student."""
    if load_config(file=run / "config.yaml").verb != "semi":
        return {}
    trained = load_trained(run, weights="teacher")
    scored = score(trained, source, split=split, labels=labels, progress=progress_of(False))
    return {"teacher_metrics": scored.metrics}


def _content(trial: Trial, run: Path, commit: str, evaluation: EvaluationResult) -> dict[str, Any]:
    """Return the metrics in per cent, with everything needed to reproduce them."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    found = evaluation.content
    truth = [[image["stem"], image["truth"]] for image in found["images"]]
    return {
        "experiment": trial.experiment,
        "method": trial.method,
        "seed": trial.seed,
        "commit": commit,
        "date": date.today().isoformat(),
        "machine": machine(),
        "seconds": _seconds(run),
        "steps": config["optim"]["steps"],
        "config": _without_own_paths(config),
        "peer_loss": trial.peer_loss,
        "metrics": evaluation.metrics,
        "calibrated": found["calibrated"] and found["calibrated"]["metrics"],
        "per_class": found["per_class"],
        "learning_curve": _learning_curve(run),
        "images": sha256(json.dumps(truth).encode()).hexdigest()[:16],
    }


def _lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _seconds(run: Path) -> int:
    """Return the training time in seconds, including validation and earlier parts of the run."""
    seconds: float = _lines(run)[-1]["seconds"]
    return round(seconds)


def _learning_curve(run: Path) -> list[dict[str, float]]:
    """Return the metrics on the validation split by step."""
    wanted = {"step": "step", "val/miou_d": "miou_d", "val/ece_d": "ece_d"}
    return [
        {short: line[name] for name, short in wanted.items() if name in line}
        for line in _lines(run)
        if "val/miou_d" in line
    ]


def _value(key: str, value: Any) -> str:
    """Return a setting as YAML; relative paths are relative to the project or its parent."""
    if isinstance(value, str) and value.endswith(".txt"):
        return str(ROOT / value)
    is_path = key in _PATHS and value not in ("none", "imagenet", "digits")
    return str(ROOT.parent / value) if is_path else _plain(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _without_own_paths(config: Any) -> Any:
    """Replace absolute paths by paths relative to the project."""
    text = json.dumps(config)
    for folder, short in ((ROOT, "."), (ROOT.parent, "..")):
        text = re.sub(re.escape(str(folder)) + r'(?=[/"])', short, text)
    return json.loads(text)
