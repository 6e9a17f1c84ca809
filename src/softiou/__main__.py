"""The `softiou` command and `python -m softiou`: say what is missing instead of a traceback."""

import sys


def main() -> None:
    """Run the command line, which needs the extra `train`."""
    try:
        from softiou.cli import main as run

        if "--debug" not in sys.argv:  # tracebacks of destructors, which change nothing
            sys.unraisablehook = lambda error: None
        run()  # verbs import what they need when they run
    except ModuleNotFoundError as error:
        sys.exit(
            f"softiou: {error}. The command line needs the extra `train`: in a clone of softiou, "
            "pip install '.[train]'; of a wheel, pip install 'FILE.whl[train]'"
        )


if __name__ == "__main__":
    main()
