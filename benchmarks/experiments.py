"""Run declared experiments and record one JSON file a run in benchmarks/results/.

    python -m benchmarks.experiments camvid --methods ce jml --seeds 0

A finished run is skipped and a broken one goes on from its last checkpoint. A method with a teacher
needs the teacher's run; soft labels are made from it.
"""

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks._machine import ROOT, current_commit, machine
from softiou._files import write_atomically
from softiou.checkpoints import load_trained
from softiou.cli._console import say
from softiou.cli.evaluate import evaluate_run, score
from softiou.cli.label import label
from softiou.evaluation import Evaluation
from softiou.recipes import load_config, resume_training, start_training

RESULTS = ROOT / "benchmarks" / "results"
RUNS = ROOT / "runs" / "experiments"
PATHS = ("source", "model.encoder_weights")


def main() -> None:
    """Run the chosen part of the grid, one run after the other."""
    grid = yaml.safe_load((ROOT / "benchmarks" / "experiments.yaml").read_text())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("experiment", choices=sorted(grid))
    parser.add_argument("--methods", nargs="+", help="default: all of the experiment")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    experiment = grid[options.experiment]
    for seed in options.seeds:
        for method in options.methods or experiment["methods"]:
            if method not in experiment["methods"]:
                parser.error(f"{options.experiment} has the methods {list(experiment['methods'])}")
            run_one(options.experiment, experiment, method, seed)


def run_one(name: str, experiment: dict[str, Any], method: str, seed: int) -> None:
    """Train and evaluate one method with one seed, and write its result file."""
    result = RESULTS / name / f"{method}-seed{seed}.json"
    if result.exists():
        say(f"{result.relative_to(ROOT)} is there already; skipped")
        return
    run = RUNS / name / f"{method}-seed{seed}"
    commit_file = run.with_suffix(".commit")
    source = _value("source", experiment["source"])
    if (run / "config.yaml").exists():
        resume_training(run, say=say)
    else:
        commit_file.parent.mkdir(parents=True, exist_ok=True)
        commit_file.write_text(current_commit())
        settings = experiment["settings"] | experiment["methods"][method] | {"seed": seed}
        settings |= _teachers(settings, RUNS / name, seed, source)
        overrides = [f"{key}={_value(key, value)}" for key, value in settings.items()]
        config = load_config(source=source, overrides=overrides)
        start_training(config, directory=run, command=f"benchmarks.experiments {name}", say=say)
    evaluation = evaluate_run(run, source, split=experiment["eval_split"])
    more = _of_the_average(run, source, experiment["eval_split"])
    write_result(result, name, method, seed, run, commit_file.read_text(), evaluation, more)


def _of_the_average(run: Path, source: str, split: str) -> dict[str, Any]:
    """Score the teacher of a semi-supervised run, the average of its student, too."""
    if load_config(file=run / "config.yaml").verb != "semi":
        return {}
    scored = score(load_trained(run, weights="teacher"), source, split=split)
    return {"teacher_metrics": scored.metrics}


def _teachers(settings: dict[str, Any], runs: Path, seed: int, source: str) -> dict[str, Any]:
    """Replace the method of a teacher by its run, or by the soft labels that it makes."""
    found: dict[str, Any] = {}
    for key in ("distillation.teacher", "distillation.soft_labels"):
        if key in settings:
            teacher = runs / f"{settings[key]}-seed{seed}"
            found[key] = str(teacher)
            if key.endswith("soft_labels"):
                found[key] = f"{teacher}-soft-labels"
                label(source, teacher=teacher, out=Path(found[key]))
    return found


def write_result(
    path: Path,
    experiment: str,
    method: str,
    seed: int,
    run: Path,
    commit: str,
    evaluation: Evaluation,
    more: dict[str, Any],
) -> None:
    """Write a results file: figures in per cent, with all that is needed to repeat them."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    content = {
        "experiment": experiment,
        "method": method,
        "seed": seed,
        "commit": commit,
        "date": date.today().isoformat(),
        "machine": machine(),
        "seconds": _seconds(run),
        "steps": config["optim"]["steps"],
        "config": _without_own_paths(config),
        "metrics": evaluation.metrics,
        "per_class": evaluation.content["per_class"],
        **more,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically((json.dumps(content, indent=1) + "\n").encode(), path)
    say(f"wrote {path.relative_to(ROOT)}")


def _seconds(run: Path) -> int:
    """Training time over all resumptions, validation included: what the last line says."""
    last = (run / "metrics.jsonl").read_text().splitlines()[-1]
    seconds: float = json.loads(last)["seconds"]
    return round(seconds)


def _value(key: str, value: Any) -> str:
    """A setting as YAML text; paths are taken from the project or the folder that holds it."""
    if isinstance(value, str) and value.endswith(".txt"):
        return str(ROOT / value)
    is_path = key in PATHS and value not in ("none", "imagenet")
    return str(ROOT.parent / value) if is_path else json.dumps(value)


def _without_own_paths(config: Any) -> Any:
    """Replace the folders of this machine by "." and "..", as seen from the project."""
    text = json.dumps(config).replace(str(ROOT), ".").replace(str(ROOT.parent), "..")
    return json.loads(text)


if __name__ == "__main__":
    main()
