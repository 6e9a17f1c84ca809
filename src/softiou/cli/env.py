"""softiou env: print versions, devices and the implementations of losses and metrics."""

import json

from softiou.cli._arguments import Json


def env(json_output: Json = False) -> None:
    """Print versions, devices, and which implementation computes the losses and metrics."""
    from softiou.environment import environment, environment_text

    content = environment()
    print(json.dumps(content, indent=1) if json_output else environment_text(content))
