"""Training in several processes: one batch, one teacher, one run directory."""

import json
import os
import runpy
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import softiou
from benchmarks.processes import TEACHER, VERBS, Case, differences, train, write_cases
from benchmarks.reliability.commands import Command
from marks import slow
from softiou._processes import is_first
from softiou.checkpoints import load_trained
from softiou.configuration import load_config
from softiou.data import open_dataset
from softiou.errors import ConfigError
from softiou.evaluation import evaluate
from softiou.training import resume_training, start_training
from softiou.training.callbacks import Checkpoints
from softiou.training.processes import trainer_settings

Make = Callable[..., Any]


def validations(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "val/miou_d" in line]


ALONE = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def as_started(**variables: str) -> None:
    """Forget the tracing and the warnings of the tests in a forked process."""
    sys.settrace(None)
    warnings.resetwarnings()
    for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", kind)
    os.environ.update(ALONE | variables)


def as_main(*arguments: str) -> None:
    run: Callable[..., Any] = runpy.run_path
    if arguments[0] == "-m":
        run, arguments = runpy.run_module, arguments[1:]
    sys.argv = list(arguments)
    try:
        run(arguments[0], run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise


def torchrun(*arguments: str, restarts: int = 0) -> None:
    """Run a script, or -m and a module, in two processes, forked: they import nothing anew."""

    def agent() -> None:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=2,
            run_id=str(os.getpid()),
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=restarts,
            start_method="fork",
        )
        elastic_launch(config, as_main)(*arguments)

    with TemporaryDirectory() as folder:
        command = Command(agent, Path(folder), as_started)
        assert command.wait(600) == 0, command.text()


@pytest.fixture(scope="module")
def two(make_shapes: Make, tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A semi-supervised run of two processes, as users start them, and of one and all images."""
    root = tmp_path_factory.mktemp("processes")
    data = make_shapes(root / "data", train=9, val=3)
    stems = sorted(path.stem for path in (data / "train" / "images").iterdir())
    (data / "splits").mkdir()
    (data / "splits" / "few.txt").write_text("\n".join(stems[:3]))
    settings = [*tiny, "optim.steps=6", "optim.validations=2"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "softiou", "semi", str(data), "--split", "few", "--out", str(root / "two")]
    subprocess.run([*command, *settings], env=os.environ | ALONE, check=True, timeout=600)
    doubled = [*settings, "data.batch_size=4", "data.train_split=few"]
    config = load_config(source=str(data), overrides=doubled, section="semi_supervised")
    return root / "two", start_training(config, directory=root / "one"), data


def test_batches_of_two_processes_are_those_of_one(two: Any) -> None:
    together, alone, _ = two
    ours, theirs = validations(together), validations(alone)
    assert [line["step"] for line in ours] == [3, 6]
    for mine, yours in zip(ours, theirs, strict=True):
        # The labels that were gathered, which no network has a part in.
        for name in ("ground", "box", "nothing"):
            key = f"labels/class/{name}"
            assert mine[key] == pytest.approx(yours[key], rel=1e-5)
    assert ours[0]["labels/class/box"] > 0


def test_both_judge_the_model_that_is_saved(two: Any) -> None:
    run, _, data = two
    last = run / "checkpoints" / "last.ckpt"
    for prefix, weights in (("", "student"), ("teacher_", "teacher")):
        trained = load_trained(last, weights=weights)  # type: ignore[arg-type]
        scored = evaluate(
            trained.model, open_dataset(data, "val"), precision="fp32", data="", checkpoint=""
        )
        logged = validations(run)[-1]
        for name in ("miou_d", "miou_i", "accuracy", "ece_d"):
            assert logged[f"val/{prefix}{name}"] == pytest.approx(scored.metrics[name], abs=1e-3)


def test_one_process_writes(two: Any) -> None:
    run, _, _ = two
    assert {path.name for path in (run / "checkpoints").iterdir()} == {
        "last.ckpt",
        "best.ckpt",
        "best.calibration.json",
        "best.teacher.calibration.json",
    }
    assert len(list((run / "tensorboard").glob("events.*"))) == 1
    assert (run / "report.html").is_file()
    rows = json.loads((run / "comparison.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["student", "teacher, its average"]


# One run that is interrupted, continued by other processes, and started again


@pytest.fixture(scope="module")
def interrupted(
    make_shapes: Make, tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, Path, list[str]]:
    """A run of one process, its copy at half of the steps, its data and settings."""
    root = tmp_path_factory.mktemp("interrupted")
    data = make_shapes(root / "data", train=9, val=3)
    settings = [*tiny, "data.batch_size=4", "optim.steps=6", "optim.validations=2"]
    settings += ["optim.optimizer=sgd", "optim.learning_rate=0.0001"]  # rounding stays small
    return *interrupt(root, data, settings), data, settings


def interrupt(root: Path, data: Path, settings: list[str]) -> tuple[Path, Path]:
    """Train in this process, and return the run and a copy of what it was at half of the steps."""
    config = load_config(source=str(data), overrides=settings)
    own = Checkpoints.on_validation_start

    def copy(self: Checkpoints, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        own(self, trainer, module)
        if trainer.global_step == 3:  # as a kill in the validation would leave it
            shutil.copytree(root / "whole", root / "half")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "on_validation_start", copy)
        start_training(config, directory=root / "whole")
    return root / "whole", root / "half"


def largest_difference(one: Path, other: Path, step: int = 6) -> float:
    """Of all weights and buffers of two last checkpoints."""
    first, second = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (one, other)
    )
    assert first["global_step"] == second["global_step"] == step
    pairs = ((x, second["state_dict"][name]) for name, x in first["state_dict"].items())
    return max(float((x.double() - y.double()).abs().max()) for x, y in pairs)


def test_a_requeued_job_continues_with_more_processes(
    interrupted: tuple[Path, Path, Path, list[str]], tmp_path: Path
) -> None:
    """By srun, without torchrun: the joined batch, its batch norm, the scores of the images."""
    whole, half, data, settings = interrupted
    shutil.copytree(half, run := tmp_path / "run")
    words = ["train", str(data), "--out", str(run)]
    words += ["--resume-if-exists", *settings, "optim.clip_norm=3"]
    slurm = {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    slurm |= {"SLURM_NNODES": "1", "SLURM_JOB_ID": str(os.getpid()), "SLURM_NODEID": "0"}
    slurm |= {"SLURM_JOB_NAME": "train", "SLURM_NODELIST": "127.0.0.1"}
    commands = []
    for rank in "01":
        started = partial(as_started, **slurm, SLURM_PROCID=rank, SLURM_LOCALID=rank)
        commands.append(Command(words, tmp_path, started))
    ends = [command.wait(600) for command in commands]
    said = [command.text() for command in commands]
    assert ends == [0, 0], "\n".join(said)
    assert "its own settings are used instead of optim.clip_norm: 3" in said[0]
    assert "continuing from step 3/6" in said[0]
    assert said[1] == ""
    assert largest_difference(whole, run) <= 1e-5
    together = json.loads((run / "evaluation.json").read_text())
    alone = softiou.evaluate(run, out=tmp_path, progress=False).content
    assert [one["stem"] for one in alone["images"]] == [f"val{n}" for n in range(3)]
    for name in ("metrics", "images", "examples", "confusion", "calibrated"):
        assert json.dumps(together[name]) == json.dumps(alone[name]), name


RESTARTED = """
import os, signal, sys
import softiou
from pytorch_lightning.callbacks import Callback

class Kill(Callback):
    def on_train_batch_end(self, trainer, *_):
        first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if first and trainer.global_step == 5 and trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    data, run, *settings = sys.argv[1:]
    softiou.train(data, run=run, resume_if_exists=True, overrides=settings, callbacks=[Kill()])
"""


@pytest.mark.parametrize("strategy", ["ddp", *slow("fsdp")])
def test_an_elastic_restart_continues(
    interrupted: tuple[Path, Path, Path, list[str]], tmp_path: Path, strategy: str
) -> None:
    """From a checkpoint of two processes, which ends as a run of one: weights, scores."""
    whole, _, data, settings = interrupted
    (tmp_path / "script.py").write_text(RESTARTED)
    run = str(tmp_path / "run")
    halved = [*settings, "data.batch_size=2", f"strategy={strategy}"]
    torchrun(str(tmp_path / "script.py"), str(data), run, *halved, restarts=1)
    assert [line["step"] for line in validations(Path(run))] == [3, 6]
    assert largest_difference(whole, Path(run)) <= 1e-5


def test_divided_weights_go_on_where_one_process_stopped(
    interrupted: tuple[Path, Path, Path, list[str]], tmp_path: Path
) -> None:
    """With AdamW, which keeps two numbers a weight; then the whole is evaluated, and predicts."""
    *_, data, settings = interrupted
    adamw = [*settings, "optim.optimizer=adamw", "strategy=fsdp"]
    whole, half = interrupt(tmp_path, data, adamw)
    torchrun("-m", "softiou", "train", "--resume", str(half))
    assert largest_difference(whole, half) <= 2e-4  # two steps of AdamW in a random direction
    together = json.loads((half / "evaluation.json").read_text())
    alone = softiou.evaluate(half, out=tmp_path, progress=False).content
    assert json.dumps(together["metrics"]) == json.dumps(alone["metrics"])
    image = data / "val" / "images" / "val0.png"
    (prediction,) = softiou.predict(half, image, progress=False)
    assert prediction.labels.shape == (40, 48)


@pytest.mark.slow
def test_divided_weights_learn_from_a_teacher(
    interrupted: tuple[Path, Path, Path, list[str]], tmp_path: Path
) -> None:
    teacher, _, data, settings = interrupted
    settings = [*settings, "strategy=fsdp", "distillation.baseline=none", "optim.steps=2"]
    settings += [f"distillation.teacher={teacher}", "distillation.correlation=1"]
    config = load_config(source=str(data), overrides=settings)
    one, two = start_training(config, directory=tmp_path / "one"), tmp_path / "two"
    settings += ["data.batch_size=2"]
    torchrun("-m", "softiou", "distill", str(data), "--out", str(two), *settings)
    assert largest_difference(one, two, step=2) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "strategy"),
    [("model.gradient_checkpointing=true", "ddp"), ("model.freeze_encoder=true", "fsdp")],
)
def test_recomputed_and_frozen_encoders_take_the_same_steps(
    interrupted: tuple[Path, Path, Path, list[str]], tmp_path: Path, own: str, strategy: str
) -> None:
    start, _, data, settings = interrupted
    settings = [*settings, own, f"strategy={strategy}", f"model.weights={start}", "optim.steps=2"]
    config = load_config(source=str(data), overrides=settings)
    one, two = start_training(config, directory=tmp_path / "one"), tmp_path / "two"
    settings += ["data.batch_size=2"]
    torchrun("-m", "softiou", "train", str(data), "--out", str(two), *settings)
    assert largest_difference(one, two, step=2) <= 1e-5


@pytest.mark.parametrize("other", ["optim.ema=0.9", "model.compile=true"])
def test_what_divided_weights_do_not_go_with(other: str) -> None:
    with pytest.raises(ConfigError, match="strategy=fsdp excludes semi_supervised"):
        load_config(source="digits", overrides=["strategy=fsdp", other])


@pytest.fixture(scope="module")
def cases(
    make_shapes: Make, tiny: tuple[str, ...], trained: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Case]]:
    """A folder with data, and a case of each training method."""
    root = tmp_path_factory.mktemp("same")
    make_shapes(root / "data", train=7, val=2, unlabeled=9)
    base = [*tiny, "data.colour=0.3", "data.scale=[0.5, 2]", "optim.validations=1"]
    return root, [
        Case(verb, [one.replace(TEACHER, str(trained.directory)) for one in (*base, *own)])
        for verb, own in VERBS.items()
    ]


def largest_differences(root: Path, name: str, cases: list[Case]) -> dict[str, dict[int, float]]:
    """Of the weights of one process and of two, by case and step."""
    data, one, two = str(root / "data"), root / name / "one", root / name / "two"
    train(data, cases, one)
    write_cases(cases, two)
    torchrun("-m", "benchmarks.processes", data, str(two))
    return {case.name: differences(one / case.name, two / case.name) for case in cases}


def test_two_processes_take_the_steps_of_one(cases: tuple[Path, list[Case]]) -> None:
    """In float64, where nothing magnifies rounding, with all that images have in common."""
    root, every = cases
    every = [
        replace(case, settings=[*case.settings, "optim.steps=5"], exact=True) for case in every
    ]
    found = largest_differences(root, "exact", every)
    assert [*found] == [*VERBS]
    for steps in found.values():
        assert [*steps] == [1, 2, 5]
        assert max(steps.values()) <= 1e-7  # AdamW's step is almost the sign of a tiny gradient


@pytest.mark.slow
def test_float32_is_as_close_without_what_magnifies_rounding(
    cases: tuple[Path, list[Case]],
) -> None:
    """With small steps of SGD in place of AdamW, and SiLU, which has no kink, in place of ReLU."""
    root, every = cases
    still = ["optim.steps=20", "optim.optimizer=sgd", "optim.learning_rate=0.0005"]
    smooth = []
    for case in every:  # the small variances by which correlations are divided magnify, too
        off = ["distillation.correlation=0"] if case.name == "distill" else []
        smooth.append(replace(case, settings=[*case.settings, *still, *off], smooth=True))
    found = largest_differences(root, "smooth", smooth)
    assert {name: steps[20] <= 1e-5 for name, steps in found.items()} == dict.fromkeys(VERBS, True)


AGREE = """
import sys
from pathlib import Path
import torch
from softiou._processes import rank
from softiou.errors import ConfigError
from softiou.training.batch_size import largest_batch

def step(size):
    if size > (8, 4)[rank()]:
        raise ConfigError("Out of memory") from torch.OutOfMemoryError()

if __name__ == "__main__":
    device = torch.device("cpu")
    for key in sys.argv[2:]:  # the second time they are connected, and do not try
        found = largest_batch(step, device, free=1, most=32, usual=2 + rank(), key=f"{key}{rank()}")
        Path(sys.argv[1], f"{key}{rank()}").write_text(str(found))
"""


def test_processes_agree_on_the_smallest_batch(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(AGREE)
    torchrun(str(tmp_path / "script.py"), str(tmp_path), "first", "second", "first")
    assert [(tmp_path / f"first{rank}").read_text() for rank in (0, 1)] == ["4", "4"]
    assert [(tmp_path / f"second{rank}").read_text() for rank in (0, 1)] == ["2", "2"]


def test_a_batch_that_cannot_be_shared(
    interrupted: tuple[Path, Path, Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, half, *_ = interrupted
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(
        ConfigError, match=r"by 1 processes with 4 images per step .* 3 cannot share"
    ):
        resume_training(half)


def test_resume_if_exists_needs_a_name() -> None:
    with pytest.raises(ConfigError, match=r"--resume-if-exists needs .* --out RUN"):
        softiou.train("digits", resume_if_exists=True)


def test_a_process_ends_with_its_parent() -> None:
    """A launcher that is killed cannot end its processes."""
    child = "from softiou._processes import end_with_parent as e; e(); print(1, flush=True); "
    child += "import time; time.sleep(60)"
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); "
    parent += "time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"1\n"
        started.kill()
        assert started.stdout.read() == b""  # the pipe is closed: the child is gone, too


def test_torchrun_leaves_our_options_alone() -> None:
    """It takes an option for its own where a word of its own begins like it."""
    from torch.distributed.run import get_args_parser

    from scripts.docs_site.command_line import verbs

    for name, verb in verbs():
        options = [option for one in verb.params for option in one.opts if option[:2] == "--"]
        words = ["-m", "softiou", *name.split(), *options]
        assert get_args_parser().parse_args(words).training_script_args == words[2:]


def test_settings_are_those_of_the_launcher(
    monkeypatch: pytest.MonkeyPatch, tiny_config: Make
) -> None:
    def settings() -> tuple[Any, ...]:
        found = trainer_settings()
        return tuple(found.get(name) for name in ("devices", "num_nodes", "strategy"))

    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "8")  # of a job that runs us without srun
    assert is_first()
    assert settings() == (1, 1, "auto")
    srun = {"STEP_NUM_TASKS": "8", "NNODES": "2", "PROCID": "5", "NTASKS_PER_NODE": "4"}
    for name, value in srun.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert not is_first()
    assert settings() == (4, 2, "ddp")
    monkeypatch.setenv("RANK", "0")  # srun starts torchrun
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert is_first()
    assert settings() == (2, 1, "ddp")
    for name, value in {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "RANK": "5"}.items():
        monkeypatch.setenv(name, value)
    assert not is_first()
    assert settings() == (4, 2, "ddp")
    with pytest.raises(ConfigError, match="--out"):
        start_training(tiny_config())
