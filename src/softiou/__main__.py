"""The `softiou` command and `python -m softiou`: say what is missing instead of a traceback."""

import sys
from typing import NoReturn


def main() -> None:
    """Run the command line, which needs the extra `train`."""
    try:
        from softiou.cli import main as run
    except ModuleNotFoundError as error:
        _needs_extra(error)
    try:
        run()
    except ModuleNotFoundError as error:  # verbs import what they need when they run
        _needs_extra(error)


def _needs_extra(error: ModuleNotFoundError) -> NoReturn:
    sys.exit(f"softiou: {error}. The command line needs the extra: pip install 'softiou[train]'")


if __name__ == "__main__":
    main()
