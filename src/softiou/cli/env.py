"""softiou env: versions, devices, and which implementation serves which job."""

import json

from softiou.cli._arguments import Json


def env(json_output: Json = False) -> None:
    """Print versions, devices, what computes the losses and the metrics, and why nothing faster."""
    from softiou.environment import environment, environment_text

    content = environment()
    print(json.dumps(content, indent=1) if json_output else environment_text(content))
