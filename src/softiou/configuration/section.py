"""The base class of the sections of the configuration, and the types of their settings."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from softiou.configuration.limits import check_limits

Auto: TypeAlias = Literal["auto"]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
PositiveNumber = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Workers = Annotated[int, Field(ge=0)]


def ordered(value: tuple[float, float]) -> tuple[float, float]:
    """Raise unless the first of two numbers is at most the second."""
    if value[0] > value[1]:
        raise ValueError("the smallest must come first")
    return value


def two(value: Any) -> Any:
    """Parse 352x480 and 352,480 as [352, 480], and a single integer as both sides."""
    if isinstance(value, str) and value != "auto":
        return re.split(r"[x, ]+", value.strip())
    return (value, value) if isinstance(value, int) else value


def several(value: Any) -> Any:
    """Parse 4,3,2 as [4, 3, 2], and 4 as [4]."""
    if isinstance(value, str):
        return re.split(r"[, ]+", value.strip())
    return [value] if isinstance(value, int) else value


def inline_yaml(value: object) -> str:
    """Return a value as YAML on one line."""
    plain = list(value) if isinstance(value, tuple) else value
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=10_000)
    return text.removesuffix("...\n").strip()


class Section(BaseModel):
    """A group of settings; an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )

    @field_validator("*")
    @classmethod
    def _check_limits(cls, value: Any, info: ValidationInfo) -> Any:
        check_limits(info.field_name or "", value)
        return value

    @classmethod
    def sections(cls) -> Iterator[tuple[str, "type[Section]"]]:
        """Yield the name and class of each nested section, including optional ones."""
        for name, field in cls.model_fields.items():
            for one in get_args(field.annotation) or (field.annotation,):
                if isinstance(one, type) and issubclass(one, Section):
                    yield name, one

    @classmethod
    def dotted_keys(cls) -> list[str]:
        """Return "section.key" for every setting of the nested sections."""
        return [f"{name}.{key}" for name, one in cls.sections() for key in one.model_fields]


class Method(Section):
    """The section of a training method; a run has at most one, and is supervised if it has none."""

    verb: ClassVar[str] = "train"  # the command that trains and resumes such runs
