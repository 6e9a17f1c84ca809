"""`dataset.yaml`: names of the classes and meaning of the mask values."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from softiou._reading import read_yaml
from softiou._screen import visible
from softiou.data.base import Colour, DatasetDescription
from softiou.data.drawings import Overlap
from softiou.data.patterns import FilePattern
from softiou.data.problems import DataProblemsError, Problem, data_error, some_of
from softiou.data.reading import MaskReader
from softiou.data.shards import as_path, inside, is_url

FILE_NAME = "dataset.yaml"
SHARDED = ("webdataset", "hf")  # layouts whose classes come from dataset.yaml or the masks
_EXAMPLE = "classes: [background, road]"

_Byte = Annotated[StrictInt, Field(ge=0, le=255)]
_Colour = tuple[_Byte, _Byte, _Byte]
_RawValue = Annotated[StrictInt, Field(ge=0, le=65535)]
_Model = TypeVar("_Model", bound=BaseModel)


class ClassGroups(BaseModel):
    """Changes to classes, by name; these keys are allowed in every kind of dataset.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # {name: classes that are merged into it}; the name is new or one of the classes
    merge: dict[StrictStr, list[StrictStr]] = Field(default_factory=dict)
    ignore: list[StrictStr] = Field(default_factory=list)  # classes whose pixels are ignored
    # classes whose shapes are not drawn; their pixels in masks become the first class
    drop: list[StrictStr] = Field(default_factory=list)
    # {class: several others}; the true class of its pixels is an unknown one of the others
    parents: dict[StrictStr, list[StrictStr]] = Field(default_factory=dict)

    @property
    def mentioned(self) -> list[str]:
        """Return the classes in drop, ignore and merge."""
        return [
            *self.drop,
            *self.ignore,
            *(one for several in self.merge.values() for one in several),
        ]

    def grouped(self, classes: Collection[str]) -> dict[str, str | None]:
        """Return the new name of each class, None if it is ignored; dropped classes are omitted."""
        twice = [name for name, count in Counter(self.mentioned).items() if count > 1]
        unknown = [name for name in self.mentioned if name not in classes]
        if twice or unknown:
            raise ValueError(
                f"Expected merge, ignore and drop to name classes ({some_of(classes)}), each once, "
                f"but found {', '.join(unknown or twice)}"
            )
        merged = {one: name for name, several in self.merge.items() for one in several}
        ignored = dict.fromkeys(self.ignore)
        found = {name: name for name in classes} | merged | ignored
        found = {name: to for name, to in found.items() if name not in self.drop}
        children = [child for several in self.parents.values() for child in several]
        left = {name for name in found.values() if name} - self.parents.keys()
        if odd := [name for name in children if name not in left] or [
            name
            for name, several in self.parents.items()
            if name not in found.values() or len({*several}) < 2
        ]:
            raise ValueError(
                "Expected parents to name classes, and two or more other classes for each, but "
                f"found {', '.join(odd)}"
            )
        return found


class DatasetFile(ClassGroups):
    """The contents of `dataset.yaml`; unknown keys are errors."""

    classes: list[StrictStr]  # names of the classes, two or more
    ignore_index: StrictInt = 255  # label value of pixels that are ignored
    palette: list[_Colour] | None = None  # RGB colour of each class, for display and for RGB masks
    ignore_colour: _Colour | None = None  # colour of ignored pixels in RGB masks
    # class (its index or name) or `ignore_index` of raw values in the masks
    label_map: dict[_RawValue, StrictInt | StrictStr] = Field(default_factory=dict)
    # pattern of the images, such as "photos/{stem}.jpg", see `FilePattern`
    images: StrictStr | None = None
    # pattern of the masks, or one for each annotator; a file name only, such as "{stem}_mask.png",
    # refers to files in masks/
    masks: StrictStr | list[StrictStr] | None = None
    axis: Literal["x", "y", "z"] = "z"  # axis along which volumes are cut into slices
    # for instance masks with values CLASS * instances + NUMBER; smaller values are classes
    instances: Annotated[StrictInt, Field(ge=2, le=65535)] | None = None

    @field_validator("classes")
    @classmethod
    def _check_classes(cls, classes: list[str]) -> list[str]:
        if len(classes) < 2:
            raise ValueError("needs at least two names; the background is a class as well")
        twice = sorted(name for name, count in Counter(classes).items() if count > 1)
        if twice:
            raise ValueError(f"names {', '.join(twice)} more than once")
        if odd := [name for name in classes if visible(name) != name]:
            raise ValueError(f"has control characters in {', '.join(map(visible, odd))}")
        return classes

    @field_validator("palette")
    @classmethod
    def _check_palette(
        cls, palette: list[_Colour] | None, info: ValidationInfo
    ) -> list[_Colour] | None:
        if palette is None:
            return None
        if len(palette) != len(info.data.get("classes", palette)):
            raise ValueError(f"has {len(palette)} colours for {len(info.data['classes'])} classes")
        if len(set(palette)) < len(palette):
            raise ValueError("has a colour more than once")
        return palette

    @field_validator("label_map")
    @classmethod
    def _check_label_map(
        cls, label_map: dict[int, int | str], info: ValidationInfo
    ) -> dict[int, int | str]:
        classes: list[str] = info.data.get("classes", [])
        targets = {*classes, *range(len(classes)), info.data.get("ignore_index")}
        wrong = [target for target in label_map.values() if target not in targets]
        if classes and wrong:
            raise ValueError(f"maps to {wrong}: neither a class nor ignore_index")
        return label_map

    @field_validator("images", "masks")
    @classmethod
    def _check_patterns(cls, value: str | list[str] | None) -> str | list[str] | None:
        for pattern in [value] if isinstance(value, str) else value or []:
            FilePattern.parse(pattern)
        return value

    @property
    def mask_patterns(self) -> list[str]:
        """Return the mask pattern of each annotator; empty for the default names."""
        return [self.masks] if isinstance(self.masks, str) else self.masks or []

    @property
    def description(self) -> DatasetDescription:
        """Return classes, ignored label and palette."""
        return DatasetDescription(
            tuple(self.classes), self.ignore_index, palette=tuple(self.palette or ())
        )

    def mask_reader(self) -> MaskReader:
        """Return a reader of masks with these values."""
        indices = {name: index for index, name in enumerate(self.classes)}
        return MaskReader(
            self.description,
            label_map={
                raw: indices[target] if isinstance(target, str) else target
                for raw, target in self.label_map.items()
            },
            colours=self._colours(),
            instances=self.instances,
        )

    def _colours(self) -> dict[Colour, int] | None:
        """Return the class of each colour, or None without a palette."""
        if self.palette is None:
            return None
        colours = {colour: index for index, colour in enumerate(self.palette)}
        if self.ignore_colour is not None:
            colours[self.ignore_colour] = self.ignore_index
        return colours


class LayoutFile(ClassGroups):
    """A `dataset.yaml` that names a layout; unknown keys are errors."""

    layout: StrictStr  # name of the layout
    # folder of the files, relative to the folder of dataset.yaml; None for the same folder
    root: StrictStr | None = None

    def folder(self, home: Path) -> Path:
        """Return the folder of the files, or their URL; `home` is the folder of dataset.yaml."""
        root = as_path(self.root or "")
        return root if is_url(root) else home / root


class AnnotationFile(LayoutFile):
    """A `dataset.yaml` that names a format of annotation files."""

    classes: list[StrictStr] | None = None  # in order; None for the classes named in the files
    # class of uncovered pixels, or "ignore"; None: background, or "ignore" for panoptic files
    uncovered: StrictStr | None = None
    # "later": later shapes cover earlier ones; "ignore": overlaps of classes are ignored
    overlap: Overlap = "later"


def read_dataset_file(root: Path) -> DatasetFile:
    """Read `dataset.yaml` of a data set."""
    return _validated(DatasetFile, root, _contents(root))


def read_layout_file(
    root: Path, formats: Collection[str]
) -> tuple[LayoutFile, DatasetFile | None] | None:
    """Read `dataset.yaml` if it names a layout; it may define classes as well.

    `formats` are the layouts of annotation files.
    """
    contents = _contents(root)
    if not isinstance(contents, dict) or "layout" not in contents:
        return None
    own = {key: value for key, value in contents.items() if key not in ("layout", "root")}
    if contents["layout"] in SHARDED or (
        contents["layout"] == "voc" and own.keys() - ClassGroups.model_fields.keys()
    ):
        named = {key: value for key, value in contents.items() if key not in own}
        return _validated(LayoutFile, root, named), _validated(DatasetFile, root, own)
    if contents["layout"] in tuple(formats):
        return _validated(AnnotationFile, root, contents), None
    if unknown := sorted(contents.keys() - LayoutFile.model_fields.keys(), key=str):
        name = contents["layout"]
        message = f"Unknown key `{unknown[0]}`: the layout {name} has its own classes."
        remedy = f"Known keys are {', '.join(LayoutFile.model_fields)}."
        raise data_error(root / FILE_NAME, message, remedy)
    return _validated(LayoutFile, root, contents), None


def _contents(root: Path) -> object:
    """Return the content of the file, unvalidated."""
    path = inside(root, FILE_NAME)
    if not path.is_file():
        message = f"Expected a file that names the classes, but found no {FILE_NAME}."
        remedy = (
            f"Write one: `{_EXAMPLE}`. For annotation files, name the format, such as coco:{root}."
        )
        raise data_error(path, message, remedy)
    try:
        contents = read_yaml(path)
    except ValueError as error:
        raise data_error(path, f"Not YAML: {error}.", "Correct the file.") from error
    return {} if contents is None else contents


def _validated(model: type[_Model], root: Path, contents: object) -> _Model:
    """Validate the content of the file."""
    try:
        return model.model_validate(contents)
    except ValidationError as error:
        path, known = root / FILE_NAME, tuple(model.model_fields)
        problems = [_field_problem(path, field, known) for field in error.errors()]
        raise DataProblemsError(*problems) from error


def _field_problem(path: Path, field: Any, known: Sequence[str]) -> Problem:
    """Translate an error of pydantic."""
    key = ".".join(str(part) for part in field["loc"]) or FILE_NAME
    if field["type"] == "missing":
        return Problem(str(path), f"Expected `{key}`, but it is missing.", f"Add `{_EXAMPLE}`.")
    if field["type"] == "extra_forbidden":
        return Problem(str(path), f"Unknown key `{key}`.", f"Known keys are {', '.join(known)}.")
    message = f"`{key}`: {field['msg'].removeprefix('Value error, ')}; got {field['input']!r}."
    remedy = "Quote names such as yes, no and 1." if key.startswith("classes") else ""
    return Problem(str(path), message, remedy or "Correct the value.")
