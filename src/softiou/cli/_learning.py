"""What the command lines of train, distill and semi do with their arguments."""

import json
from pathlib import Path
from typing import Any

from softiou._processes import is_first
from softiou.cli import _console
from softiou.cli._arguments import data_and_settings


def learn(
    verb: str,
    data: str | None,
    overrides: list[str] | None,
    *,
    config: Path | None,
    out: Path | None,
    resume: Path | None,
    resume_if_exists: bool,
    dry_run: bool,
    json_output: bool,
    **options: Any,
) -> None:
    """Train and print the metrics, or print what would be trained.

    The arguments are those of the verb; `options` go to the job where they were given.
    """
    from softiou import jobs

    data, settings = data_and_settings(data, overrides)
    progress = False if json_output else None
    given: dict[str, Any] = {"config": config, "overrides": settings, "progress": progress}
    given |= {key: value for key, value in options.items() if value is not None}
    if dry_run:
        plan = jobs.plan(data, verb=verb, step=True, **given)
        print(json.dumps(plan.as_dict(), indent=1) if json_output else plan.text(), end="")
        return
    command = _console.command_line()
    given |= {"out": out, "resume": resume, "resume_if_exists": resume_if_exists}
    run = getattr(jobs, verb)(data, command=command, **given)
    if not (run.evaluation and is_first()):  # it was finished before, or another process prints
        return
    if json_output:
        contents = run.contents()
        rows = contents.model_table.rows if contents.model_table else ()
        models = {row.name: {"metrics": row.metrics, "intervals": row.intervals} for row in rows}
        _console.print_json({"run": run.path, **run.evaluation.content, "models": models})
    elif verb == "train":
        _console.show_evaluation(run.evaluation, home=run.path)
    else:
        _console.show_models(run)
