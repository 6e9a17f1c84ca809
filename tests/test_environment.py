"""What an installation says of itself: versions, devices, and who serves which job."""

from typing import Any

import pytest
import torch

import softiou
from softiou import _native, environment
from softiou.overlap import native


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return environment.environment()


def served(content: dict[str, Any], job: str) -> tuple[str, str | None]:
    found = next(x for x in content["served"] if (x["device"], x["job"]) == ("cpu", job))
    return found["impl"], found["reason"]


def test_versions_and_devices(content: dict[str, Any]) -> None:
    assert content["softiou"] == softiou.__version__
    assert content["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert environment._version("no-such-package") is None
    assert "1 thread" in content["devices"]["cpu"] or "threads" in content["devices"]["cpu"]
    assert ("cuda" in content["devices"]) == torch.cuda.is_available()


def test_who_serves_which_job(content: dict[str, Any]) -> None:
    if isinstance(reason := native.library(), str):
        pytest.skip(reason)
    for job in ("labels", "votes", "labels, logits at another stride", "labels, sigmoid"):
        assert served(content, job) == ("native", None)
    impl, reason = served(content, "labels, float64")
    assert impl == "chunked"
    assert "It computes in float32, but the logits are torch.float64." in str(reason)
    assert served(content, "metrics")[0] == f"native ({_native.cpu_variants()[0]})"


def test_why_nothing_faster_does(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = "softiou was built without a C compiler."
    for module in (environment, native):
        monkeypatch.setattr(module, "load_library", lambda name: missing)
    content = environment.environment()
    assert served(content, "labels") == ("chunked", missing)
    assert served(content, "metrics") == ("torch", missing)
    assert f"  labels: chunked. {missing}\n" in environment.environment_text(content)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_why_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for version, expected in ((None, "built without CUDA"), ("12.8", "Check nvidia-smi")):
        monkeypatch.setattr(torch.version, "cuda", version)
        softiou.show_env()
        assert expected in capsys.readouterr().out.splitlines()[-1]
