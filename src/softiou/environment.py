"""Versions, devices, and the implementations of losses and metrics."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import softiou
from softiou._native import cpu_variants, load_library
from softiou._screen import say
from softiou.overlap import PassSettings
from softiou.overlap.job import Job
from softiou.overlap.operators import served_by
from softiou.targets import DenseTarget, HardTarget, SparseTarget, TeacherTarget, VotesTarget

_PACKAGES = (
    "torch",
    "torchvision",
    "triton",
    "pytorch-lightning",
    "torchmetrics",
    "segmentation-models-pytorch",
    "timm",
    "numpy",
    "pillow",
    "onnxruntime",
)


def environment() -> dict[str, Any]:
    """Return versions, devices, and the implementations of losses and metrics.

    Returns:
        Plain values: `softiou`, `commit`, `python`, `platform`, `packages` (None if not
        installed), `devices` by name, and `served`, a list of objects with `device`, `job`, `impl`
        and `reason`, which says why no faster implementation is used, or None.
    """
    return {
        "softiou": softiou.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "devices": (found := devices()),
        "served": [entry for name in found for entry in _served(torch.device(name))],
    }


def show_env() -> None:
    """Print the result of `softiou.environment.environment`, for bug reports."""
    say(environment_text(environment()))


def environment_text(content: dict[str, Any]) -> str:
    """Format the result of `environment` as text."""
    made_from = f", commit {content['commit']}" if content["commit"] else ""
    lines = [f"softiou {content['softiou']}{made_from}"]
    lines += [f"Python {content['python']}, {content['platform']}"]
    lines += [f"{name} {found or '-'}" for name, found in content["packages"].items()]
    for device, words in content["devices"].items():
        lines += ["", f"{device}: {words}"]
        for entry in content["served"]:
            if entry["device"] == device:
                reason = f". {entry['reason']}" if entry["reason"] else ""
                lines.append(f"  {entry['job']}: {entry['impl']}{reason}")
    if "cuda" not in content["devices"]:
        lines += ["", f"cuda: {_no_cuda()}"]
    return "\n".join(lines)


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def commit() -> str | None:
    """Return the commit of softiou, or None outside a clone or without git."""
    root = Path(softiou.__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def devices() -> dict[str, str]:
    """Return descriptions of the processor and the accelerators."""
    threads = torch.get_num_threads()
    capability = torch.backends.cpu.get_cpu_capability()
    found = {"cpu": f"{processor()}, {capability}, {threads} thread{'s' * (threads > 1)}"}
    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        names = [f"{x.name}, sm_{x.major}{x.minor}, {x.total_memory >> 30} GiB" for x in cards]
        found["cuda"] = "; ".join(names)
    other = torch.accelerator.current_accelerator(check_available=True)
    if other is not None and other.type != "cuda":
        found[other.type] = "the accelerator of this machine"
    return found


def _no_cuda() -> str:
    if torch.version.cuda is None:
        return (
            "this PyTorch was built without CUDA. For an NVIDIA GPU, install the build of "
            "https://pytorch.org/get-started"
        )
    return "no device found. Check nvidia-smi and CUDA_VISIBLE_DEVICES"


def _served(device: torch.device) -> list[dict[str, Any]]:
    """Return the implementation of each job on a device."""
    entries = []
    for name, job in _jobs(device).items():
        impl, reasons = served_by(job)
        reason = reasons.get("native" if device.type == "cpu" else "triton")
        entries.append({"device": device.type, "job": name, "impl": impl, "reason": reason})
    library = load_library("metrics") if device.type == "cpu" else "PyTorch operators are used."
    reason = library if isinstance(library, str) else None
    impl = "torch" if reason else f"native ({cpu_variants()[0]})"
    return [*entries, {"device": device.type, "job": "metrics", "impl": impl, "reason": reason}]


def _jobs(device: torch.device) -> dict[str, Job]:
    """Return a small job of each kind on a device."""
    logits, small = (torch.zeros(1, 3, n, n, device=device) for n in (8, 2))
    labels = torch.zeros(1, 8, 8, dtype=torch.uint8, device=device)
    hard, probs = HardTarget(labels), DenseTarget(torch.full_like(logits, 1 / 3))
    top = SparseTarget(labels.unsqueeze(1), torch.ones(1, 1, 8, 8, device=device))
    softmax, sigmoid = (PassSettings(one, cross_entropy=True) for one in ("softmax", "sigmoid"))
    single = {
        "labels": hard,
        "probabilities": probs,
        "votes": VotesTarget(labels.unsqueeze(1)),
        "top classes": top,
        "a teacher's logits": TeacherTarget(small, size=(8, 8)),
    }
    jobs = {name: Job(logits, (target,), (8, 8), softmax) for name, target in single.items()}
    jobs["labels and probabilities"] = Job(logits, (hard, probs), (8, 8), softmax)
    jobs["labels, logits at another stride"] = Job(small, (hard,), (8, 8), softmax)
    jobs["labels, sigmoid"] = Job(logits, (hard,), (8, 8), sigmoid)
    jobs["labels, probabilities for logits"] = Job(logits, (hard,), (8, 8), PassSettings("none"))
    if device.type != "mps":
        jobs["labels, float64"] = Job(logits.double(), (hard,), (8, 8), softmax)
    return jobs
