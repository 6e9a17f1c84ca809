"""kill -9 at random moments of every command that writes files, and the result after resuming."""

import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reliability.commands import TINY, Command, Figure, must_run, run, write_data
from benchmarks.reliability.comparing import (
    difference_of_evaluations,
    difference_of_folders,
    difference_of_runs,
    leftovers,
)

STEPS = ["optim.steps=6", "optim.validations=2", *TINY]


@dataclass
class Verb:
    """A command, how it is continued after a kill, and how its result is compared.

    Attributes:
        words: Returns the arguments for a result at a path.
        again: Returns the arguments to continue.
        difference: Compares two results.
        prepare: Copies the initial files of a result.
    """

    words: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]]
    difference: Callable[[Path, Path], str]
    prepare: Callable[[Path], None] = lambda path: None


def kill_all(
    figure: Figure, work: Path, data: Path, rounds: int, deadline: float, seed: int
) -> None:
    """Kill each command in turn at a random moment, for a number of rounds or a time."""
    teacher = work / "teacher"
    must_run(["train", str(data), *STEPS, "--out", str(teacher)], work)
    verbs = _verbs(work, data, teacher)
    durations: dict[str, float] = {}
    while figure.tried < rounds and time.monotonic() < deadline:
        number = figure.tried
        name = list(verbs)[number % len(verbs)]
        verb, reference, result = verbs[name], work / f"reference-{name}", work / f"{name}-{number}"
        if name not in durations:
            verb.prepare(reference)
            begun = time.monotonic()
            must_run(verb.words(reference), work)
            durations[name] = time.monotonic() - begun
        generator = random.Random(f"{seed} {number}")
        moments = [generator.uniform(0, 1.05 * durations[name]) for _ in range(2)]
        figure.count(_trial(verb, work, result, reference, moments), name)
        shutil.rmtree(result, ignore_errors=True)


def _trial(verb: Verb, work: Path, result: Path, reference: Path, moments: list[float]) -> str:
    """Kill a command once or twice, continue to the end, and compare the result."""
    verb.prepare(result)
    words = verb.words(result)
    for moment in moments[: 1 + int(moments[0] * 1000) % 2]:
        command = Command(words, work)
        time.sleep(moment)
        command.kill()
        if (result / "config.yaml").exists() or verb.words(result)[0] not in RESUMABLE:
            words = verb.again(result)
    status, text = run(words, work)
    what = f"{words[0]} killed after {[round(moment, 2) for moment in moments]} s: "
    if status != 0:
        return f"{what}ended with {status}: {text[-400:]}"
    try:
        difference = verb.difference(result, reference)
    except (OSError, ValueError, KeyError) as error:
        difference = repr(error)
    return what + difference if difference else ""


RESUMABLE = ("train", "distill", "semi")


def _verbs(work: Path, data: Path, teacher: Path) -> dict[str, Verb]:
    more = write_data(work / "more", {"train": 4}, seed=1)

    def trained(verb: str, *settings: str) -> Verb:
        return Verb(
            lambda run: [verb, str(data), *settings, *STEPS, "--out", str(run)],
            lambda run: [verb, "--resume", str(run)],
            difference_of_runs,
        )

    def evaluate(run: Path) -> list[str]:
        return ["evaluate", str(run), str(data)]

    def copy(run: Path) -> None:
        shutil.copytree(teacher, run)
        for name in ("evaluation.json", "evaluation.safetensors", "report.html"):
            (run / name).unlink()

    def label(out: Path) -> list[str]:
        return ["label", str(data), "--teacher", str(teacher), "--out", str(out), "workers=0"]

    def export(out: Path) -> list[str]:
        out.mkdir(exist_ok=True)
        file = str(out / "model.safetensors")
        return ["export", str(teacher), "--to", "safetensors", "--out", file, "--overwrite"]

    def fix(out: Path) -> list[str]:
        return ["check", str(data), "--fix", str(out)]

    return {
        "train": trained("train"),
        "label": Verb(label, label, difference_of_folders),
        "export": Verb(export, export, difference_of_folders),
        "check": Verb(fix, lambda out: _fix_again(out, fix(out)), difference_of_folders),
        "evaluate": Verb(evaluate, evaluate, _evaluation, copy),
        "distill": trained("distill", f"distillation.teacher={teacher}"),
        "semi": trained("semi", f"semi_supervised.unlabeled={more / 'train' / 'images'}"),
    }


def _fix_again(out: Path, words: list[str]) -> list[str]:
    """Return the arguments to continue; a complete copy is removed first."""
    shutil.rmtree(out, ignore_errors=True)
    return words


def _evaluation(run: Path, other: Path) -> str:
    return difference_of_evaluations(run, other) or leftovers(run)
