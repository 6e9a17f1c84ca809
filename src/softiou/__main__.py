"""Entry point of the `softiou` command and `python -m softiou`."""

import sys


def main() -> None:
    """Run the command line; report a missing package of the extra `train`."""
    try:
        from softiou.cli import main as run

        if "--debug" not in sys.argv:  # hide harmless tracebacks of destructors
            sys.unraisablehook = lambda error: None
        run()  # imports happen when a verb runs
    except ModuleNotFoundError as error:
        sys.exit(
            f"softiou: {error}. The command line needs the extra `train`: in a clone of softiou, "
            "pip install '.[train]'; of a wheel, pip install 'FILE.whl[train]'"
        )


if __name__ == "__main__":
    main()
