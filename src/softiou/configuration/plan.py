"""The plan of a training: its settings, the reasons for automatic ones, and its cost."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from softiou.configuration.files import config_text
from softiou.configuration.sections import Config


@dataclass(frozen=True)
class Cost:
    """Memory and time of a training.

    Attributes:
        parameters: Number of parameters of the network.
        memory_mib: Estimated memory of weights, gradients, optimiser and activations, in MiB.
        seconds: Estimated time of all steps, as three times a measured forward pass each; without
            loading, validation and a teacher.
        step_seconds: Measured time of the first step, with the start of the loading processes;
            None if no step was taken.
        peak_mib: Measured peak memory of that step, of the GPU or else of this process; or None.
    """

    parameters: int
    memory_mib: float
    seconds: float
    step_seconds: float | None = None
    peak_mib: float | None = None


@dataclass(frozen=True)
class Plan:
    """Settings and cost of a training.

    Attributes:
        config: The settings; without "auto" if a data set was given.
        reasons: The rule behind each value that was "auto", by dotted key.
        cost: The estimated cost; None without a data set.
    """

    config: Config
    reasons: Mapping[str, str]
    cost: Cost | None = None

    def text(self) -> str:
        """Return the settings as YAML with comments, followed by the cost as comments."""
        notes = {key: f"auto: {rule}" for key, rule in self.reasons.items()}
        text = config_text(self.config, notes)
        cost = self.cost
        if cost is None:
            return text + "# Give a data set to see the value of each setting that is auto.\n"
        minutes, memory = cost.seconds / 60, f"{cost.memory_mib:,.0f} MiB"
        text += f"# parameters: {cost.parameters:,}\n# memory: about {memory} for a step\n"
        text += f"# time: about {minutes:.1f} min for {self.config.optim.steps} steps, estimated "
        text += "from a forward pass; loading, validation and a teacher are not included\n"
        if cost.step_seconds is not None:
            text += f"# first step: {cost.step_seconds:.1f} s, including the start of the loading "
            text += "processes"
            text += "\n" if cost.peak_mib is None else f"; peak memory {cost.peak_mib:,.0f} MiB\n"
        return text

    def as_dict(self) -> dict[str, Any]:
        """Return settings, reasons and cost as plain values, for JSON."""
        cost = asdict(self.cost) if self.cost else None
        config = self.config.model_dump(mode="json")
        return {"config": config, "auto": dict(self.reasons), "cost": cost}
