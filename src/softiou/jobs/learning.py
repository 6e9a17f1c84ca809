"""Shared code of train, distill and semi: load the settings, and train or resume a run."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from softiou._lock import only_writer
from softiou._screen import Progress
from softiou.errors import ConfigError, DataError
from softiou.jobs.settings import as_overrides, config_file

if TYPE_CHECKING:
    from softiou.configuration import Config
    from softiou.jobs.run import Run
    from softiou.training import CustomParts

NO_DATA = "DATA"  # the data source of settings that are only printed
Configuration: TypeAlias = "Path | str | Mapping[str, Any] | None"


@dataclass(frozen=True)
class Request:
    """The arguments of a training, as the caller gave them."""

    verb: str  # "train", "distill" or "semi"; "" to print the settings of any of them
    data: str | Path | None  # data set
    config: Configuration  # YAML file, name of a recipe, or a mapping of settings
    run: Path | str | None  # new run directory
    resume: Path | str | None  # run directory to continue instead
    settings: Mapping[str, Any]  # by name, see `as_overrides`
    overrides: Sequence[str]  # "dotted.key=value"
    command: str = ""  # command that started the run, recorded in config.yaml
    parts: "CustomParts | None" = None  # Python objects: model, loss, data sets, ...
    resume_if_exists: bool = False  # whether to continue `run` if it already exists

    def load(self) -> "Config":
        """Return the configuration, without importing torch so that errors appear at once."""
        from softiou.configuration import Config, load_config

        section = {verb: name for name, verb in Config.verbs().items()}.get(self.verb)
        if isinstance(self.config, Mapping):
            file, lines = None, as_overrides(self.config, section=section)
        else:
            file, lines = config_file(self.config), []
        lines += [*as_overrides(self.settings, section=section), *self.overrides]
        source = self.data or (self.parts and self.parts.source)
        named = any(line.startswith("data.source=") for line in lines)
        if source is None and self.config is None and not named:
            if self.verb:
                raise ConfigError(f"Name a data set: softiou {self.verb} DATA, or --config FILE.")
            source = NO_DATA
        config = load_config(
            source=None if source is None else str(source),
            file=file,
            overrides=lines,
            section=section if self.verb == "semi" else None,
        )
        if self.verb == "train":
            check_verb(config, "train", resume=None)
        if self.verb == "distill" and config.distillation is None:
            raise ConfigError("Name a teacher: --teacher RUN|CKPT, or --soft-labels FOLDER.")
        _require_folder(config.data.source)
        return config


def learn(
    request: Request,
    progress: Progress,
    finish: Callable[["Run"], object],
    *,
    check: Callable[["Config"], None] = lambda config: None,
) -> "Run":
    """Train into a new run directory or continue a run, then call `finish` while it is locked.

    A finished run is returned unchanged. `check` raises for a configuration that would otherwise
    fail only at the end of the training.
    """
    if request.resume_if_exists:
        request = _continued(request, progress)
    if finished := _finished_run(request, progress):
        return finished
    run = _trained(request, progress, check)
    with only_writer(run.path):
        finish(run)
    return run


def _trained(request: Request, progress: Progress, check: Callable[["Config"], None]) -> "Run":
    """Train into a new run directory, or continue a run."""
    config = request.load() if request.resume is None else None
    with progress.doing("loading PyTorch"):
        from softiou.data.source_names import overlooked
        from softiou.jobs.run import Run
        from softiou.training import config_of, resume_training, start_training

    shown: Any = {"say": progress.say, "progress_bar": progress.bars}
    model = None
    if request.parts is not None:
        shown["custom"], model = request.parts, request.parts.model
    if config is None:
        directory = Path(str(request.resume))
        check_verb(config_of(directory), request.verb, resume=directory)
        return Run(resume_training(directory, **shown), model)
    check(config)
    for line in overlooked(config.data.source):
        progress.say(line)
    directory = start_training(
        config,
        directory=None if request.run is None else Path(request.run),
        command=request.command or f"softiou.{request.verb}(...), called from Python",
        **shown,
    )
    return Run(directory, model)


def _continued(request: Request, progress: Progress) -> Request:
    """Return a request that continues `run` if it already exists, else the same request."""
    if request.run is None:
        raise ConfigError("--resume-if-exists needs a fixed run directory: add --out RUN.")
    run = Path(request.run)
    if not (run / "config.yaml").is_file():
        return request
    config = request.load()
    with progress.doing("loading PyTorch"):
        from softiou.training import config_of, differences

    for line in differences(config, config_of(run)):
        progress.say(f"{run} already exists; its own settings are used instead of {line}")
    nothing: Any = {"data": None, "config": None, "run": None, "settings": {}, "overrides": ()}
    return replace(request, **nothing, resume=run)


def _finished_run(request: Request, progress: Progress) -> "Run | None":
    """Return the run to resume if it is finished, with a message; otherwise None."""
    if request.resume is None:
        return None
    others = (request.data, request.config, request.run, request.settings, request.overrides)
    if any(others):
        raise ConfigError("--resume uses the settings of the run; leave out all other arguments.")
    with progress.doing("loading PyTorch"):
        from softiou.jobs.run import Run
        from softiou.training import config_of, finished_at

    run = Path(request.resume)
    if (done := finished_at(run)) is None:
        return None
    config, place = config_of(run), shlex.quote(str(run))
    steps, patience = config.optim.steps, config.optim.patience
    early = "" if done == steps else f" (early stop, optim.patience={patience})"
    progress.say(
        f"run   {run}: finished, with {done} of {steps} steps{early} and an evaluation; nothing "
        f"was done. To train longer, start a new run from its weights:\n  softiou {config.verb} "
        f"--config {place}/config.yaml model.weights={place} optim.steps={steps}"
    )
    return Run(run)


def split_setting(split: str | Path | None) -> dict[str, str]:
    """Return `data.train_split` from a split, a list in DATA/splits or a file of stems."""
    if split is None:
        return {}
    is_file = str(split).endswith(".txt")
    return {"data.train_split": str(Path(split).expanduser().resolve() if is_file else split)}


def unlabeled_setting(unlabeled: str | Path | None) -> dict[str, Path]:
    """Return `semi_supervised.unlabeled` from a folder of images without masks."""
    if unlabeled is None:
        return {}
    return {"semi_supervised.unlabeled": Path(unlabeled).expanduser().resolve()}


def split_parts(settings: Mapping[str, Any]) -> "tuple[CustomParts | None, dict[str, Any]]":
    """Divide the keywords into Python objects and settings."""
    given, parts = dict(settings), dict[str, Any]()
    for name in ("callbacks", "transform", "train_dataset", "val_dataset", "classes"):
        if name in given:
            parts[name] = given.pop(name)
    for name in ("model", "loss"):
        if callable(given.get(name)):
            parts[name] = given.pop(name)
    if "loggers" in given:
        loggers = given.pop("loggers")
        parts["loggers"] = [one for one in loggers if not isinstance(one, str)]
        if named := [one for one in loggers if isinstance(one, str)]:
            given["loggers"] = named
    if not parts:
        return None, given
    from softiou.training import CustomParts

    return CustomParts(**parts), given


def _require_folder(source: str) -> None:
    if source in ("digits", NO_DATA) or ":" in source or Path(source).expanduser().is_dir():
        return
    raise DataError(
        f"{source}: the folder does not exist. Check the path. Write published data sets as "
        "LAYOUT:FOLDER, such as voc:/data/VOCdevkit, and the embedded data set as digits."
    )


def check_verb(config: "Config", verb: str, *, resume: Path | None) -> None:
    """Raise ConfigError if the settings belong to another verb, which evaluates differently."""
    if config.verb == verb:
        return
    if resume:
        raise ConfigError(
            f"{resume} was started by another verb; use `softiou {config.verb} --resume {resume}`."
        )
    raise ConfigError(f"The settings have a section {config.method}; use `softiou {config.verb}`.")
