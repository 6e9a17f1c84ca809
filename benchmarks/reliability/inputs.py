"""Generated invalid input: settings, command lines, data sets and checkpoints."""

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from benchmarks.reliability.calls import call
from benchmarks.reliability.commands import MOST_SECONDS, TINY, Command, Figure, Words
from softiou.configuration import Config

VALUES = (
    *("-1", "0", "1", "2", "1e-9", "1e9", "1e300", ".nan", ".inf", "-.inf", "null", "true", "[]"),
    *("{}", "''", "x", "[1,2]", "[0,0]", "[-1,1]", "{a: 1}", "auto", "none", "all", "1_8", "~"),
    *("100000000000000000000", "0.5", "'\\u001b[2J'", "/etc/passwd", "../..", "a" * 5000, "[[[[["),
    *("&a [*a]", "!!python/object:os.system x", "2001-01-01", "0x10", "hard", "\N{SNOWMAN}"),
)
WORDS = (
    *("--resume", "--config", "--out", "--window", "--scales", "--split", "--labels"),
    *("--to", "--teacher", "", "0", "-1", "nowhere", "digits", "a=b", "=", "--json", "x.ckpt"),
    *("--batch-size", "--overlap", "2", "1e999", "/", "\x1b[2J", "--flips", "--weights", "teacher"),
)
VERBS = (
    *("train", "evaluate", "predict", "label", "distill", "semi", "calibrate", "compare"),
    *("export", "check", "split", "report", "fetch", "models", "recipes"),
)
SCRATCH = "bad"


def try_inputs(
    figure: Figure, work: Path, data: Path, teacher: Path, number: int, deadline: float, seed: int
) -> None:
    """Run commands on invalid input; each must end in time with a message, not a traceback."""
    kinds: dict[str, Callable[[random.Random, Path, Path, Path], Words]] = {
        "setting": _setting,
        "words": _words,
        "file": _file,
        "checkpoint": _checkpoint,
        "call": call,
    }
    while figure.tried < number and time.monotonic() < deadline:
        generator = random.Random(f"{seed} {figure.tried}")
        kind = list(kinds)[figure.tried % len(kinds)]
        folder = work / SCRATCH
        folder.mkdir()
        command = Command(kinds[kind](generator, folder, data, teacher), folder)
        status = command.wait(MOST_SECONDS)
        found = wrong_end(status, command.text())
        figure.count(f"{kind} {figure.tried}: {command!s:.200}: {found}" if found else "", kind)
        shutil.rmtree(folder, ignore_errors=True)


def wrong_end(status: int | None, text: str) -> str:
    """Return what is wrong with the exit status or output of a command."""
    if status is None:
        return f"it did not end in {MOST_SECONDS:.0f} s"
    if status < 0 or status == 99:
        return f"it died with {status}: {text[-300:]}"
    for words in ("Traceback", "should not happen", "\x1b[2J"):
        if words in text:
            return f"{words!r} in {text[-300:]}"
    if status != 0 and not text.strip():
        return f"it ended with {status} in silence"
    return ""


def _setting(generator: random.Random, folder: Path, data: Path, teacher: Path) -> list[str]:
    """Return a command with a wrong value of a setting, on the command line or in a file."""
    keys = [f"{name}.{key}" for name, kind in Config.sections() for key in kind.model_fields]
    changed = {generator.choice(keys): generator.choice(VALUES) for _ in range(2)}
    lines = [f"{key}={value}" for key, value in changed.items()]
    short = [one for one in TINY if one.partition("=")[0] not in changed]
    short += [one for one in ("optim.steps=1", "optim.validations=1") if one[:11] != lines[0][:11]]
    if generator.random() < 0.5:
        return ["train", str(data), *short, *lines, "--out", "run"]
    text = "".join(f"{key.replace('.', ': {')}: {value}}}\n" for key, value in changed.items())
    (folder / "settings.yaml").write_text(text, encoding="utf-8")
    return ["train", str(data), *short, "--config", "settings.yaml", "--out", "run"]


def _words(generator: random.Random, folder: Path, data: Path, teacher: Path) -> list[str]:
    """Return a command with random arguments."""
    own = [*WORDS, str(data), str(teacher), str(data / "test" / "images"), *TINY[:2]]
    verb = generator.choice(VERBS)
    words = [generator.choice(own) for _ in range(generator.randint(0, 4))]
    if verb in ("train", "distill", "semi"):
        words += [*TINY, "optim.steps=1", "optim.validations=1"]
    return [verb, *words]


def _file(generator: random.Random, folder: Path, data: Path, teacher: Path) -> list[str]:
    """Return a command on a data set with a damaged file."""
    copy = folder / "data"
    shutil.copytree(data, copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    victims = [copy / "dataset.yaml", generator.choice(files), generator.choice(files)]
    _damage(generator, generator.choice(victims), files)
    short = [*TINY, "optim.steps=1", "optim.validations=1", "--out", "run"]
    return generator.choice(
        [
            ["check", "data"],
            ["check", "data", "--fix", "out"],
            ["train", "data", *short],
            ["evaluate", str(teacher), "data", "--out", "scores"],
            ["predict", str(teacher), "data/test/images", "--out", "masks"],
            ["label", "data", "--teacher", str(teacher), "--out", "store", "workers=0"],
        ]
    )


def _damage(generator: random.Random, path: Path, files: list[Path]) -> None:
    """Damage a file, or replace it by something else."""
    content = path.read_bytes()
    kind = generator.randrange(9)
    if kind == 0:
        path.write_bytes(content[: generator.randrange(len(content))])
    elif kind == 1:
        damaged = bytearray(content)
        for _ in range(generator.randint(1, 64)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        path.write_bytes(damaged)
    elif kind == 2:
        path.write_bytes(b"")
    elif kind == 3:
        path.write_bytes(generator.randbytes(1000))
    elif kind == 4:
        path.unlink()
        path.mkdir()
    elif kind == 5:
        path.unlink()
        path.symlink_to(path.name)  # a loop
    elif kind == 6:
        path.write_bytes(generator.choice(files).read_bytes())
    elif kind == 7:
        path.unlink()
    else:
        values = {"classes": generator.choice([[], 3, "x", ["a", "a"], [None], {"a": 1}, ["a"]])}
        path.write_text(yaml.safe_dump(values), encoding="utf-8")


def _checkpoint(generator: random.Random, folder: Path, data: Path, teacher: Path) -> list[str]:
    """Return a command on a damaged checkpoint, or on a run with a damaged file."""
    copy = folder / "run"
    shutil.copytree(teacher, copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    named = [path for path in files if path.suffix in (".ckpt", ".yaml", ".json", ".jsonl")]
    _damage(generator, generator.choice(named), files)
    return generator.choice(
        [
            ["predict", "run", str(data / "test" / "images"), "--out", "masks"],
            ["evaluate", "run", str(data)],
            ["export", "run", "--to", "safetensors", "--out", "model.safetensors"],
            ["train", "--resume", "run"],
            ["report", "run"],
            ["compare", "run", str(teacher)],
            ["calibrate", "run", str(data)],
        ]
    )
