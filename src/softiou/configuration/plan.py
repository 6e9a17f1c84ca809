"""What a training would be: its settings, why they are so, and its cost (without torch)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from softiou.configuration.files import config_text
from softiou.configuration.sections import Config


@dataclass(frozen=True)
class Cost:
    """What a training needs.

    Attributes:
        parameters: Weights of the network.
        memory_mib: Estimate of weights, gradients, optimiser and activations of a batch.
        seconds: Estimate of all steps, without loading, validation and a teacher: three times a
            measured forward pass.
        step_seconds: Measured for the first step, with the start of its loading processes; None
            without one.
        peak_mib: Measured for that step: memory of the GPU, or of this process; None without one.
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
        config: Without "auto" where a data set was named.
        reasons: Why a value became what it is, by dotted key.
        cost: None without a data set.
    """

    config: Config
    reasons: Mapping[str, str]
    cost: Cost | None = None

    def text(self) -> str:
        """Return the settings as YAML with comments; the cost as comments below."""
        notes = {key: f"auto: {rule}" for key, rule in self.reasons.items()}
        text = config_text(self.config, notes)
        cost = self.cost
        if cost is None:
            return text + "# auto: name a data set to see what each value becomes.\n"
        minutes, memory = cost.seconds / 60, f"{cost.memory_mib:,.0f} MiB"
        text += f"# parameters: {cost.parameters:,}\n# memory: about {memory} for a step\n"
        text += f"# time: about {minutes:.1f} min for {self.config.optim.steps} steps, estimated "
        text += "from a forward pass; loading, validation and a teacher come on top\n"
        if cost.step_seconds is not None:
            text += f"# first step: {cost.step_seconds:.1f} s, with the start of the loading "
            text += "processes"
            text += "\n" if cost.peak_mib is None else f"; peak memory {cost.peak_mib:,.0f} MiB\n"
        return text

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        cost = asdict(self.cost) if self.cost else None
        config = self.config.model_dump(mode="json")
        return {"config": config, "auto": dict(self.reasons), "cost": cost}
