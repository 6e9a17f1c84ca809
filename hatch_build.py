"""What hatchling runs for `pip install`: the C files are compiled, and the wheel carries them."""

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent / "scripts"))
from build_native import build, platform_tag


class CompiledFiles(BuildHookInterface):
    """Adds the libraries to a wheel, which then is for one platform and any Python."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; without a compiler the wheel is for every platform and has no libraries."""
        if build():
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform_tag()}"
            build_data["artifacts"].append("src/softiou/_compiled/*.so")
