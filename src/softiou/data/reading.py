"""Read image and mask files of all common modes; errors name the file.

Shapes: H and W in pixels.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError
from PIL.ExifTags import Base
from torch import Tensor

from softiou.data import decoders, native
from softiou.data.bands import TIFF_SUFFIXES, BandImage, Bands, Box, Tiff
from softiou.data.base import Colour, DatasetDescription
from softiou.data.drawings import Drawing
from softiou.data.files import FORMATS
from softiou.data.mask_values import explain_values
from softiou.data.members import Member
from softiou.data.problems import REPLACE, DataProblemsError, data_error, some_of
from softiou.data.volumes import SLICE, slice_labels

_LABEL_VALUES = 2**16  # masks have at most 16 bits
_LARGEST_PX = 1 << 30
_LIMIT = Lock()  # Pillow's limit is a global variable
_DARK = 1 << 12  # many cameras and scanners use only 12 of 16 bits
SWAPPED = range(5, 9)  # EXIF orientations that swap height and width
_SUBFILE_TYPE, _BITS, _BANDS, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 254, 258, 277, 338, 339  # of TIFF
_GREY_STEP, _DEEP = "softiou_grey_step", "softiou_deep"  # entries of Image.info


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file; errors of the decoder become a DataError that names the file."""
    try:
        with _open(path) as image:
            _check_content(path, image)
            raw = "".join(str(tile[3]) for tile in getattr(image, "tile", [])[:1])
            image.info[_GREY_STEP] = 85 if "L;2" in raw else 17 if "L;4" in raw else 1
            image.info[_DEEP] = ";16" in raw or _jpeg_2000_bits(path, image) > 8
            yield image
    except DataProblemsError:
        raise
    except Exception as error:  # Pillow's decoders raise many types of errors on damaged files
        if values := _unusual_tiff(path, error):
            raise _unusual_values(path, values) from error
        message = f"Cannot decode the image: {type(error).__name__}: {error}."
        raise data_error(path, message, REPLACE, kind="unreadable") from error


def grey_step(image: Image.Image) -> int:
    """Return the factor by which Pillow scaled the values of a 2- or 4-bit grey file, else 1."""
    return int(image.info.get(_GREY_STEP, 1))


def _open(path: Path) -> Image.Image:
    """Open a file without Pillow's size limit, which is too small for large images."""
    if not path.is_file() and path.exists() and not path.is_dir():
        raise data_error(path, "Expected a file, but found a pipe or a device.", "Remove it.")
    if path.suffix == SLICE:
        return Image.fromarray(slice_labels(path))
    with _LIMIT:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            file = path.open("rb") if isinstance(path, Member) else path
            image = Image.open(file, formats=FORMATS)
            pixels = image.width * image.height
            if image.format == "TIFF" and (before or pixels) < pixels <= _LARGEST_PX:
                image.load_prepare()  # load_prepare checks the limit again
            return image
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _check_content(path: Path, image: Image.Image) -> None:
    """Raise unless a file has one RGB or grey image of a supported size."""
    if image.width * image.height > _LARGEST_PX:
        message = f"Expected at most 2^30 pixels, but found {image.width} x {image.height}."
        raise data_error(path, message, "Cut it into smaller images.", kind="image_size")
    if (pages := _pages(image)) > 1:
        message = f"Expected one image, but found {pages} pages or frames."
        remedy = "Save each image as a separate file."
        remedy += _or_bands(pages) if image.format == "TIFF" else ""
        raise data_error(path, message, remedy, kind="image_mode")
    tags = getattr(image, "tag_v2", {})
    extra = tags.get(_EXTRA_SAMPLES, ())
    if 0 in (extra if isinstance(extra, tuple) else (extra,)):  # not transparency
        message = f"Expected the bands red, green and blue, but found {tags[_BANDS]} bands."
        remedy = "Save the three bands for the model as an RGB file, in this order."
        remedy += _or_bands(tags[_BANDS])
        raise data_error(path, message, remedy, kind="image_mode")


def _jpeg_2000_bits(path: Path, image: Image.Image) -> int:
    """Return the bits per band of a JPEG 2000 file; 8 for other files."""
    if image.format != "JPEG2000":
        return 8
    with path.open("rb") as file:
        head = file.read(256)
    return (head[head.find(b"ihdr") + 14] & 127) + 1 if b"ihdr" in head[:200] else 8


def _pages(image: Image.Image) -> int:
    """Count the images in a file, except reduced copies."""
    frames = getattr(image, "n_frames", 1)
    if frames == 1 or image.format == "MPO":  # a camera JPEG with previews
        return 1
    if image.format != "TIFF":
        return int(frames)
    pages = 0
    for page in range(frames):
        image.seek(page)
        pages += not getattr(image, "tag_v2", {}).get(_SUBFILE_TYPE, 0) & 5  # reduced copy, mask
    image.seek(0)
    return max(pages, 1)


def _unusual_tiff(path: Path, error: Exception) -> str:
    """Describe the bands of a TIFF that Pillow does not support; "" for a damaged file."""
    try:
        with path.open("rb") as file:
            tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
            file.seek(tags.next)
            tags.load(file)
            floating = 3 in tags.get(_SAMPLE_FORMAT, ())
            if not floating and not isinstance(error, UnidentifiedImageError):
                return ""
            kind = "floating-point values" if floating else "integers"
            return f"{tags[_BANDS]} bands of {tags[_BITS][0]}-bit {kind}"
    except Exception:  # not a TIFF, or damaged
        return ""


def read_image(path: Path, bands: Bands | None = None) -> Tensor:
    """Read an image of any common mode as upright uint8 RGB (3, H, W).

    The EXIF orientation is applied, grey becomes three equal channels, transparency is dropped, and
    16-bit values are scaled from 0..65535 to 0..255. With `bands`, the result is float32 (B, H, W):
    the chosen bands, scaled by their ranges, with NaN for missing values.

    Raises:
        DataError: The file is damaged, has floating-point or 32-bit values, or has only 16-bit
            values below 4096, which would be black; or as for `opened`.
    """
    stored = stored_image(path) if bands is None else BandImage(path, bands)
    return stored[..., :, :].contiguous()


def stored_image(path: Path, *, fast: bool = True) -> decoders.Picture:
    """Return a lazy image whose windows are read as by `read_image`; it may be channels-last.

    With `fast`, upright RGB JPEG and PNG files are decoded only up to the rows of a window.
    """
    with opened(path) as image:
        file = (decoders.open_jpeg(image) or decoders.open_png(image)) if fast else None
        if file and file.shape[0] == 3:
            return replace(file, whole=partial(stored_image, path, fast=False))
        return torch.from_numpy(decode_image(path, image)).permute(2, 0, 1)


def stored_pixels(path: Path) -> NDArray[np.generic]:
    """Return the stored values of all bands (H, W, B) of an image, upright."""
    with opened(path) as image:
        _require_complete(path, image)
        if image.info[_DEEP] and not image.mode.startswith("I"):  # Pillow would keep 8 bits
            if image.getexif().get(Base.Orientation, 1) != 1:
                message = "Expected upright 16-bit colours, but found an EXIF rotation."
                raise data_error(path, message, "Save the bands as TIFF.", kind="image_mode")
            deep = Tiff(path, "PNG")
            return np.moveaxis(deep.read(range(1, len(deep.nodata) + 1), *[slice(None)] * 2), 0, -1)
        ImageOps.exif_transpose(image, in_place=True)
        pixels = np.asarray(image.convert("RGB") if image.mode in ("P", "PA") else image)
    return pixels if pixels.ndim == 3 else pixels[..., np.newaxis]


def decode_image(path: Path, image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels (H, W, 3) of an opened image like `read_image`; rotates it in place."""
    deep = image.info.get(_DEEP, False)
    _require_complete(path, image)
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):
        return np.stack([_scale_16_bit(path, image)] * 3, axis=-1)
    if image.mode == "F":
        raise _unusual_values(path, "floating-point values")
    pixels = _rgb(image)
    if deep and pixels.max() < _DARK >> 8:  # Pillow keeps the upper 8 bits
        raise _dark(path)
    return pixels


def _require_complete(path: Path, image: Image.Image) -> None:
    """Raise if the pixels of a PNG end early; Pillow would leave the last rows black."""
    if image.format != "PNG" or image.info.get("interlace"):
        return
    if np.asarray(image.crop((0, image.height - 1, image.width, image.height))).any():
        return
    content = path.read_bytes()
    width, height, bits, kind = struct.unpack_from(">IIBB", content, 16)
    expected = (1 + (width * bits * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind] + 7) // 8) * height
    data, _ = decoders.png_data(content, content.index(b"IDAT") - 4)
    found = len(decoders.inflating.decompressobj().decompress(data, expected))
    if found < expected:
        message = f"Cannot decode the image: found {found} bytes of pixels instead of {expected}."
        raise data_error(path, message, REPLACE, kind="unreadable")


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Return the RGB pixels (H, W, 3), with few copies."""
    if image.has_transparency_data:  # avoids a warning of Pillow about palettes
        image = image.convert("RGBA")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _scale_16_bit(path: Path, image: Image.Image) -> NDArray[np.uint8]:
    """Scale grey values 0..65535 to 0..255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() >= _LABEL_VALUES:
        raise _unusual_values(path, f"32-bit values {values.min()}..{values.max()}")
    if 0 < values.max() < _DARK:
        raise _dark(path)
    return ((values + 128) // 257).astype(np.uint8)


def _or_bands(count: int) -> str:
    """Return advice to use data.bands, which reads the stored values."""
    return f" Or train on the stored values: data.bands={[*range(1, count + 1)]}."


def _dark(path: Path) -> DataProblemsError:
    """Return the error for 16-bit files that use 12 bits or fewer."""
    message = f"Expected 16-bit values in 0..65535, but found none of {_DARK} or more."
    remedy = "Scaled to 8 bits, it is nearly black: stretch the values and save 8-bit images."
    remedy += _or_bands(1)
    return data_error(path, message, remedy, kind="image_16_bit")


def _unusual_values(path: Path, found: str) -> DataProblemsError:
    """Return the error for values of an unknown range."""
    message = f"Expected an image of 8 or 16 bits per channel, but found {found}."
    remedy = "Scale the values to 0..255 and save them as 8-bit PNG."
    remedy += _or_bands(int(found[0]) if found[0].isdigit() else 1)
    return data_error(path, message, remedy, kind="image_mode")


class MaskReader:
    """Reads masks and converts their values to class indices.

    Single-channel masks (8-bit, 16-bit, palette, 1-bit) have class values, which `label_map` maps.
    A value that is not in the map is kept, unless another value is mapped to the same class. RGB
    masks are read with `colours`, or rejected without; channel values of at least `threshold` are
    read as 255 and others as 0, for masks with inexact colours. A label in `parents` is not a
    class, but stands for one of several. Values of `instances` and more number objects: CLASS *
    instances + NUMBER.
    """

    def __init__(
        self,
        description: DatasetDescription,
        *,
        label_map: Mapping[int, int],
        colours: Mapping[Colour, int] | None = None,
        threshold: int | None = None,
        parents: Mapping[int, Sequence[int]] | None = None,
        instances: int | None = None,
    ) -> None:
        self._threshold = threshold
        self.description = description
        self.colours = colours
        self.label_map = dict(label_map)
        self.parents = parents or {}
        self._table, self._known = _label_table(description, label_map)
        if instances is not None:  # CLASS * instances + NUMBER
            numbers = np.flatnonzero(~self._known[instances:]) + instances
            self._table[numbers] = self._table[numbers // instances]
            self._known[numbers] = self._known[numbers // instances]
        self._colours = None
        self._seen: dict[int, tuple[Path, tuple[int, ...]]] = {}  # by value: a mask, its colour
        if colours is not None:
            codes = colour_codes(np.array(list(colours), dtype=np.uint8))
            order = np.argsort(codes)
            self._colours = codes[order], np.array(list(colours.values()), self._table.dtype)[order]

    def regrouped(
        self, groups: Mapping[str, str | None], parents: Mapping[str, Sequence[str]]
    ) -> "MaskReader":
        """Return a reader with new classes: None means ignored, a missing class the first one.

        A new name that is in `parents` stands for several other classes.
        """
        about, ignore_index = self.description, self.description.ignore_index
        if about.ignores_a_class:
            raise ValueError(f"Expected `ignore_index` to be no class, but got {ignore_index}")
        to = [groups.get(name, "") for name in about.classes]  # "" for dropped classes
        names = list(dict.fromkeys(name for name in to if name and name not in parents))
        indices: dict[str | None, int] = {None: ignore_index, "": 0}
        indices |= {name: index for index, name in enumerate((*names, *parents))}
        new = {ignore_index: ignore_index} | {old: indices[name] for old, name in enumerate(to)}
        palette = tuple(about.palette[to.index(name)] for name in names)
        known = np.flatnonzero(self._known).tolist()
        return MaskReader(
            DatasetDescription(tuple(names), ignore_index, palette),
            label_map={number: new[self.class_of(number)] for number in known},
            colours=self.colours and {rgb: new[index] for rgb, index in self.colours.items()},
            threshold=self._threshold,
            parents={
                indices[name]: [indices[child] for child in several]
                for name, several in parents.items()
            },
        )

    def read(self, mask: Path | Drawing) -> Tensor:
        """Read a mask (H, W) of class indices 0..C-1 and `ignore_index`, uint8 if possible.

        Pixels labelled with a parent class are ignored.
        """
        return self.part(mask, None)[0]

    def part(
        self, mask: Path | Drawing, box: Box | None, *, votes: bool = False
    ) -> tuple[Tensor, Sequence[int]]:
        """Read a mask or a box of it; also return the size (H, W) of the whole mask.

        Of TIFF files with values, only the box is decoded, and PNG files only to its last row.
        With `votes`, the result is (R, H, W): the possible classes of each pixel, then
        `ignore_index`; R is the largest number of children of a parent, or 1.
        """
        labels, size = self._labels(mask, box)
        return self._votes(labels) if votes else self._classes(labels), size

    def _labels(self, mask: Path | Drawing, box: Box | None) -> tuple[Tensor, Sequence[int]]:
        """Read a box of a mask, with the labels of parents, and return its size."""
        if box and isinstance(mask, Path) and mask.suffix.lower() in TIFF_SUFFIXES:
            with suppress(DataProblemsError):  # fall back to Pillow
                tiff = Tiff(mask)
                if tiff.holds_numbers:
                    return self._classes_of(mask, tiff.read([1], *box)[0], tiff.palette), tiff.size
        if isinstance(mask, Drawing):
            labels = mask.labels(_drawn_size(mask))
        else:
            with opened(mask) as image:
                size = (image.height, image.width)
                return self._decoded(mask, image, box or (slice(None), slice(None))), size
        return labels[box] if box else labels, labels.shape

    def _classes(self, labels: Tensor) -> Tensor:
        """Replace the labels of parents by `ignore_index`."""
        for number in self.parents:
            labels = labels.masked_fill(labels == number, self.description.ignore_index)
        return labels

    def _votes(self, labels: Tensor) -> Tensor:
        classes = self._classes(labels)
        several = max(1, *map(len, self.parents.values()))
        votes = [
            classes,
            *[torch.full_like(classes, self.description.ignore_index)] * (several - 1),
        ]
        for number, children in self.parents.items():
            for place, child in enumerate(children):
                votes[place] = votes[place].masked_fill(labels == number, child)
        return torch.stack(votes)

    def class_of(self, value: int) -> int:
        """Return the class or `ignore_index` of a valid value."""
        return int(self._table[value])

    def decode(self, path: Path, image: Image.Image) -> Tensor:
        """Return the class indices of an opened mask, like `read`; `path` is for error messages."""
        return self._classes(self._decoded(path, image, (slice(None), slice(None))))

    def _decoded(self, path: Path, image: Image.Image, box: Box) -> Tensor:
        numbers = image.mode in ("1", "L", "P") or image.mode.startswith("I")
        colours = self._colours if image.mode in ("RGB", "RGBA") else None
        if not numbers and colours is None:
            raise _several_channels(path, image)
        palette: Sequence[int] = ()
        if image.mode == "P":  # getpalette would decode the image
            unread = image.format == "PNG" and getattr(image, "tile", [])
            own: Any = image.palette if unread else None
            palette = own.palette if own else image.getpalette("RGB") or ()
        raw = _values_of(path, image, box)
        if colours is None:
            if (step := grey_step(image)) > 1:
                raw = raw // step
            return self._classes_of(path, raw, palette)
        rgb = raw[..., :3]
        if self._threshold is not None:
            rgb = np.where(rgb < self._threshold, np.uint8(0), np.uint8(255))
        return torch.from_numpy(_from_colours(path, rgb, *colours))

    def _classes_of(self, path: Path, raw: NDArray[Any], palette: Sequence[int]) -> Tensor:
        """Return the class indices of mask values (H, W), which may have a palette."""
        if palette and self.colours is None:
            self._compare_palette(path, palette, native.numbers_in(raw).tolist())
        return torch.from_numpy(self._from_numbers(path, raw))

    def _compare_palette(self, path: Path, palette: Sequence[int], used: list[int]) -> None:
        """Raise if a value's palette colour differs from an earlier mask; skip grey palettes."""
        for value in used:
            colour = tuple(palette[3 * value : 3 * value + 3])
            if value == self.description.ignore_index or colour in ((), (value,) * 3):
                continue
            first, before = self._seen.setdefault(value, (path, colour))
            if before != colour:
                message = f"Value {value} has the palette colour {colour}, but {before} in {first}."
                remedy = "If the colours define the classes, save RGB masks and list the colours "
                remedy += "as `palette` in dataset.yaml; if the values do, save grey masks."
                raise data_error(path, message, remedy, kind="mask_palette")

    def _from_numbers(self, path: Path, raw: NDArray[Any]) -> NDArray[Any]:
        """Convert raw values to class indices."""
        found = native.numbers_in(raw)
        wrong = (found < 0) | (found >= _LABEL_VALUES) | ~self._known.take(found, mode="clip")
        if wrong.any():
            values: Any = {"found": found, "offending": found[wrong], "label_map": self.label_map}
            about = explain_values(path, description=self.description, **values)
            raise DataProblemsError(about)
        if raw.dtype != np.uint8 or self._table.dtype != np.uint8:
            return self._table.take(raw)
        if raw.flags.writeable and (self._table[found] == found).all():
            return raw
        translated = bytearray(raw).translate(self._table[:256].tobytes())
        return np.frombuffer(translated, np.uint8).reshape(raw.shape)


def _values_of(path: Path, image: Image.Image, box: Box) -> NDArray[Any]:
    """Return the stored values of a box of an opened mask, (h, w) or (h, w, B)."""
    if png := decoders.open_png(image):
        with suppress(*decoders.DAMAGED):
            found = png.rows(box[0].indices(image.height)[1])[box]
            return found[..., 0] if png.shape[0] == 1 else found
    _require_complete(path, image)
    return np.asarray(image, np.uint8 if image.mode == "1" else None)[box]


def _drawn_size(drawing: Drawing) -> tuple[int, int]:
    """Return the size (H, W) of a drawing's upright image; raise if the file states another."""
    turned = False
    try:
        with opened(drawing.image) as image:
            turned = image.getexif().get(Base.Orientation, 1) in SWAPPED
            size = (image.width, image.height) if turned else (image.height, image.width)
    except DataProblemsError as error:
        if error.problems[0].kind != "image_mode":
            raise
        size = BandImage(drawing.image, Bands((1,))).shape[1:]
    if drawing.size in (None, size):
        return size
    message = f"Expected an image of {drawing.size[1]}x{drawing.size[0]}, as the file states, but "
    message += f"{drawing.image.name} has {size[1]}x{size[0]} pixels."
    remedy = "Use the image that was annotated."
    if drawing.size == size[::-1]:
        remedy = "Check whether height and width are swapped in the file."
    if turned:
        remedy = f"The EXIF tag of {drawing.image.name} rotates it: save it upright, or without "
        remedy += "the tag, as the annotation tool showed it."
    raise data_error(str(drawing), message, remedy, kind="size_mismatch")


def _from_colours(
    path: Path, rgb: NDArray[np.uint8], known: NDArray[np.int32], classes: NDArray[Any]
) -> NDArray[Any]:
    """Convert colours to class indices; `known` are the sorted codes of the known colours."""
    codes = colour_codes(rgb)
    place = np.searchsorted(known, codes).clip(max=len(known) - 1)
    wrong = np.unique(codes[known[place] != codes]).tolist()
    if wrong:
        found = some_of((code >> 16, code >> 8 & 255, code & 255) for code in wrong)
        message = f"Expected only colours of `palette`, but found {found}."
        remedy = "Add them to `palette` in dataset.yaml, set `ignore_colour` to the one to ignore, "
        remedy += "or save the mask as PNG without anti-aliasing."
        raise data_error(path, message, remedy, kind="mask_colours")
    return classes.take(place)


def _label_table(
    description: DatasetDescription, label_map: Mapping[int, int]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the class of each raw value, and whether the value is valid."""
    small = description.num_classes < 256 and 0 <= description.ignore_index < 256
    table = np.zeros(_LABEL_VALUES, np.uint8 if small else np.int64)
    known = np.zeros(_LABEL_VALUES, bool)
    # If other values are mapped to a class, its own index is ambiguous and needs an entry.
    plain = set(range(description.num_classes)) - set(label_map.values())
    if 0 <= description.ignore_index < _LABEL_VALUES:
        plain.add(description.ignore_index)
    for value, target in ({value: value for value in plain} | dict(label_map)).items():
        table[value], known[value] = target, True
    return table, known


def colour_codes(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Pack RGB (..., 3) into integers."""
    codes: NDArray[np.int32] = rgb.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    return codes


def _several_channels(path: Path, image: Image.Image) -> DataProblemsError:
    """Return the error for a mask with several channels."""
    message = f"Expected a mask with one channel of class indices, but found mode {image.mode}."
    channels = image.convert("RGB").split()
    if channels[0].tobytes() == channels[1].tobytes() == channels[2].tobytes():
        remedy = "Its channels are equal: keep one with Image.open(mask).convert('L').save(mask)."
    else:
        remedy = "If its colours are classes, list them as `palette` in dataset.yaml; or save "
        remedy += "the class indices as 8-bit PNG."
    return data_error(path, message, remedy, kind="mask_mode")
