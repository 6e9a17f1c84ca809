"""One run of an experiment: train, calibrate on the validation split, evaluate, and write down."""

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
        declared: What experiments.yaml says of it.
        method: One of its methods.
        seed: Of weights and data.
    """

    experiment: str
    declared: Mapping[str, Any]
    method: str
    seed: int

    @property
    def settings(self) -> dict[str, Any]:
        """Return what the method sets, on top of what all methods share."""
        declared = self.declared
        merged = {**declared["settings"], **declared["methods"][self.method], "seed": self.seed}
        return {key: value for key, value in merged.items() if key != "peer_loss"}

    @property
    def peer_loss(self) -> str | None:
        """Return which loss of another library takes the place of ours, None for ours."""
        name: str | None = self.declared["methods"][self.method].get("peer_loss")
        return name

    @property
    def teacher(self) -> str | None:
        """Return the method that has to be trained first, None for nothing."""
        return next((self.settings[key] for key in TEACHERS if key in self.settings), None)

    @property
    def is_trained(self) -> bool:
        """Say whether its run lies here, finished."""
        return (self.run_of(self.method) / "evaluation.json").exists()

    @property
    def name(self) -> str:
        """Return what to call it."""
        return f"{self.experiment}, {self.method}, seed {self.seed}"

    @property
    def source(self) -> str:
        """Return the data set, at the fraction of its size that `smaller` says."""
        source = _value("source", self.declared["source"])
        factor: int | None = self.declared.get("smaller")
        return source if factor is None else str(smaller_copy(Path(source), factor))

    @property
    def scored(self) -> str:
        """Return the data set that is scored: at a fraction of its size if `scored_at` says so.

        There the truth is the share of the area that each class covers.
        """
        factor: int | None = self.declared.get("scored_at")
        place = Path(self.source)
        return self.source if factor is None else str(smaller_copy(place, factor, shares=True))

    @property
    def result(self) -> Path:
        """Return the results file."""
        return result_file(self.experiment, self.method, self.seed)

    def equals(self, other: "Trial") -> bool:
        """Say whether another trial trains and scores just so; never of one that has a teacher."""
        return self.teacher is None and self._all_of_it == other._all_of_it

    @property
    def _all_of_it(self) -> tuple[Any, ...]:
        """Return what the figures follow from."""
        scored = [
            self.declared.get(key)
            for key in ("source", "smaller", "scored_at", "eval_split", "eval_labels")
        ]
        return (self.settings, self.peer_loss, *scored)

    def run_of(self, method: str) -> Path:
        """Return the run directory of a method with this seed."""
        return RUNS / self.experiment / f"{method}-seed{self.seed}"


def run_trial(trial: Trial, *, again: bool = False) -> None:
    """Train and evaluate, going on from where a killed run stopped, and write the results file.

    A results file that is there stays, unless it is to be made again: of a teacher that is trained
    for its students alone nothing else is wanted.
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
    """Rename a run that another commit began, and what belongs to it, so that a new one begins."""
    run = trial.run_of(trial.method)
    commit = beside(run, ".commit")
    if not commit.exists() or commit.read_text() == current_commit():
        return
    name = f"{run.name}-at-{commit.read_text()}"
    for suffix in ("", "-soft-labels", ".log", ".commit"):
        if beside(run, suffix).exists():
            beside(run, suffix).rename(run.with_name(name + suffix))


def beside(run: Path, suffix: str) -> Path:
    """Return the file next to a run directory that is called as it is."""
    return run.with_name(run.name + suffix)


def _begun_at(run: Path) -> str:
    """Return the commit that a run was begun at, and say when another one goes on with it."""
    file, now = beside(run, ".commit"), current_commit()
    if not (run / "config.yaml").exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(now)
    before = file.read_text()
    if before != now:
        say(f"{run.name} was begun at commit {before}, which stays in its results; this is {now}")
    return before


def _teachers(trial: Trial, source: str) -> dict[str, Any]:
    """Replace the method of a teacher by its run, or by the soft labels that it makes."""
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
    """Score the teacher of a semi-supervised run, the average of its student, too."""
    if load_config(file=run / "config.yaml").verb != "semi":
        return {}
    trained = load_trained(run, weights="teacher")
    scored = score(trained, source, split=split, labels=labels, progress=progress_of(False))
    return {"teacher_metrics": scored.metrics}


def _content(trial: Trial, run: Path, commit: str, evaluation: EvaluationResult) -> dict[str, Any]:
    """Return figures in per cent, with all that is needed to repeat them."""
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
    """Training time over all resumptions, validation included: what the last line says."""
    seconds: float = _lines(run)[-1]["seconds"]
    return round(seconds)


def _learning_curve(run: Path) -> list[dict[str, float]]:
    """Return the scores on the validation split, by step."""
    wanted = {"step": "step", "val/miou_d": "miou_d", "val/ece_d": "ece_d"}
    return [
        {short: line[name] for name, short in wanted.items() if name in line}
        for line in _lines(run)
        if "val/miou_d" in line
    ]


def _value(key: str, value: Any) -> str:
    """A setting as YAML text; paths are taken from the project or the folder that holds it."""
    if isinstance(value, str) and value.endswith(".txt"):
        return str(ROOT / value)
    is_path = key in _PATHS and value not in ("none", "imagenet", "digits")
    return str(ROOT.parent / value) if is_path else _plain(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _without_own_paths(config: Any) -> Any:
    """Replace the folders of this machine by "." and "..", as seen from the project."""
    text = json.dumps(config)
    for folder, short in ((ROOT, "."), (ROOT.parent, "..")):
        text = re.sub(re.escape(str(folder)) + r'(?=[/"])', short, text)
    return json.loads(text)
