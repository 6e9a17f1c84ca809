"""Soft labels on disk: how exact, how small, and what happens to files that are not what they were.

Shapes: C classes, K slots, H and W the image, (h, w) the grid.
"""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import blosc2
import msgpack
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import softiou
from softiou.data.base import DatasetDescription
from softiou.errors import DataError
from softiou.soft_labels.codes import Quantisation, decode, encode, no_class, sparse
from softiou.soft_labels.files import BrokenFileError, Frame, pack
from softiou.soft_labels.manifest import Manifest, Normalisation, Teacher
from softiou.soft_labels.store import SoftLabelStore
from softiou.targets import SparseTarget
from softiou.tiles import whole

CLASSES = ("sky", "road", "car", "pole", "tree")
MANIFEST = Manifest(
    teacher=Teacher("runs/teacher", "ab" * 32),
    classes=CLASSES,
    ignore_index=255,
    normalisation=Normalisation((0.4, 0.5, 0.6), (0.2, 0.2, 0.2)),
    quantisation=Quantisation(),
    data="data",
)
SIZE = (150, 170)  # two blocks of rows, and two of columns

Make = Callable[..., SoftLabelStore]


def picture(size: tuple[int, int], *, seed: int = 0) -> Tensor:
    """A picture (3, H, W) of coarse random colours."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(256, (1, 3, 4, 4), generator=generator).float()
    return torch.nn.functional.interpolate(coarse, size)[0].to(torch.uint8)


def smooth_probs(size: tuple[int, int], num_classes: int = 5, *, seed: int = 0) -> Tensor:
    """Softmax of smooth noise (C, h, w), as of a teacher."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, num_classes, 9, 11, generator=generator) * 4
    return torch.nn.functional.interpolate(logits, size, mode="bilinear")[0].softmax(0)


@pytest.fixture
def make_store(tmp_path: Path) -> Make:
    def make(name: str = "store", **changes: object) -> SoftLabelStore:
        return SoftLabelStore.create(tmp_path / name, replace(MANIFEST, **changes))  # type: ignore[arg-type]

    return make


@pytest.fixture
def store(make_store: Make) -> SoftLabelStore:
    """A store of one image, train/a."""
    made = make_store()
    made.write("train", "a", smooth_probs(SIZE), picture(SIZE))
    return made


def coded(probs: Tensor, quantisation: Quantisation) -> tuple[Tensor, Tensor]:
    return sparse(encode(probs, quantisation), probs.shape[0], quantisation)


# Codes


def test_codes_by_hand() -> None:
    probs = torch.tensor([[0.5, 0.875], [0.5, 0.125], [0.0, 0.0]]).unsqueeze(1)  # (3, 1, 2)
    codes = encode(probs, Quantisation(levels=10))
    assert codes.best.tolist() == [[0, 0]]
    assert codes.classes == (1,)
    assert codes.levels.tolist() == [[[10, 5]]]  # 10 sqrt(2 * 0.5) and 10 sqrt(2 * 0.125)
    indices, weights = sparse(codes, 3, Quantisation(levels=10))
    assert indices.tolist() == [[[0, 0]], [[1, 1]]]
    assert weights.tolist() == [[[0.5, 0.875]], [[0.5, 0.125]]]
    assert (indices.dtype, weights.dtype) == (torch.uint8, torch.float32)
    torch.testing.assert_close(decode((indices, weights), 3), probs)


def test_two_classes_kept_and_the_rest_spread() -> None:
    probs = torch.tensor([0.6, 0.25, 0.1, 0.05]).view(4, 1, 1)
    quantisation = Quantisation(k=2, levels=255)
    codes = encode(probs, quantisation)
    assert codes.classes == (1, 4)  # of four classes, 4 is the rest
    # 0.15 is lost by two classes, so the even spread over four is of 0.3.
    found = decode(sparse(codes, 4, quantisation), 4).flatten()
    torch.testing.assert_close(found, torch.tensor([0.6, 0.25, 0.075, 0.075]), atol=2e-3, rtol=0)


def test_one_class_kept() -> None:
    probs = torch.tensor([0.7, 0.2, 0.1]).view(3, 1, 1)
    found = decode(coded(probs, Quantisation(k=1, levels=255)), 3).flatten()
    torch.testing.assert_close(found, torch.tensor([0.7, 0.15, 0.15]), atol=2e-3, rtol=0)


def test_more_classes_asked_for_than_there_are() -> None:
    probs = smooth_probs((4, 5))
    found = decode(coded(probs, Quantisation(k=9, levels=255)), 5)
    torch.testing.assert_close(found, probs, atol=5e-3, rtol=0)


def test_mass_is_kept() -> None:
    probs = torch.tensor([0.9, 0.07, 0.02, 0.0099, 0.0001]).view(5, 1, 1)
    assert encode(probs, Quantisation(mass=0.95)).classes == (1, 2)  # at least 0.05 / 5
    assert encode(probs, Quantisation(mass=0.995)).classes == (1, 2, 3)
    assert encode(probs, Quantisation(mass=0)).classes == ()


def test_codes_are_a_target() -> None:
    probs = smooth_probs((6, 7))
    indices, weights = coded(probs, Quantisation())
    target = SparseTarget(indices.unsqueeze(0), weights.unsqueeze(0))
    target.validate(5)
    read = target.read(next(whole((1, 6, 7))), 5, torch.float32)
    torch.testing.assert_close(read.y.view(5, 6, 7), decode((indices, weights), 5))


@settings(deadline=None)
@given(
    num_classes=st.integers(2, 40),
    levels=st.integers(8, 255),
    mass=st.sampled_from([0.9, 0.995, 1.0]),
    sharpness=st.floats(0, 8),
    seed=st.integers(0, 1000),
)
def test_error_is_bounded(
    num_classes: int, levels: int, mass: float, sharpness: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    probs = (sharpness * torch.randn(num_classes, 3, 4, generator=generator)).softmax(0)
    indices, weights = coded(probs, Quantisation(mass=mass, levels=levels))
    assert float(weights.min()) >= 0
    torch.testing.assert_close(weights.sum(0), torch.ones(3, 4))
    found = decode((indices, weights), num_classes)
    error = (found - probs).abs()
    # At most a step on the scale sqrt(2 p), where many small ones had to be rounded down.
    bound = (2 * probs).sqrt() / levels + 0.5 / levels**2 + 1e-5
    bound = bound.maximum(torch.full_like(bound, (1 - mass) / num_classes))
    best = probs.argmax(0, keepdim=True)
    bound.scatter_(0, best, bound.scatter(0, best, 0).sum(0, keepdim=True))
    assert bool((error <= bound).all())


def test_ties_of_many_classes_leave_nothing_negative() -> None:
    probs = torch.full((150, 2, 2), 1 / 150)
    _, weights = coded(probs, Quantisation(mass=1.0, levels=80))
    assert float(weights.min()) >= 0
    torch.testing.assert_close(weights.sum(0), torch.ones(2, 2))


def test_soft_iou_also_of_a_rare_class() -> None:
    probs = smooth_probs((90, 120))
    pole = 0.9 * (-((torch.arange(120) - 60.3) ** 2) / 2).exp() * (torch.arange(90) < 40)[:, None]
    probs[3] = 0
    probs = probs / probs.sum(0) * (1 - pole)
    probs[3] = pole
    assert float(probs[3].mean()) < 0.01
    found = decode(coded(probs, Quantisation()), 5)
    difference = (probs - found).abs().sum((1, 2))
    total = (probs + found).sum((1, 2))
    assert float(((total - difference) / (total + difference)).min()) > 0.98


def test_many_classes_have_wider_indices(make_store: Make) -> None:
    names = tuple(f"class{n}" for n in range(300))
    store = make_store(classes=names)
    probs = torch.zeros(300, 5, 4)
    probs[299], probs[3, 2] = 0.75, 0.25
    probs[299, 2], probs[299, 0], probs[258, 0] = 0.75, 0.0, 1.0
    probs /= probs.sum(0)
    store.write("train", "a", probs, picture((5, 4)))
    indices, weights = store.read("train", "a", (5, 4))
    assert indices.dtype == torch.uint16
    assert indices[0].long()[:3, 0].tolist() == [258, 299, 299]
    torch.testing.assert_close(decode((indices, weights), 300), probs, atol=6e-3, rtol=0)
    assert store.verify() == []
    assert (no_class(255), no_class(256), no_class(300)) == (255, 65535, 65535)


@pytest.mark.parametrize(
    ("probs", "what"),
    [
        (torch.zeros(3, 2, 2), "sums in"),
        (torch.randn(3, 2, 2), r"Apply `softmax\(0\)`"),
        (torch.full((3, 2, 2), float("nan")), "nan"),
        (torch.zeros(2, 2), r"floating \(C, h, w\)"),
        (torch.zeros(3, 2, 2, dtype=torch.long), "torch.int64"),
    ],
)
def test_what_is_no_probability_is_refused(probs: Tensor, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        encode(probs, Quantisation())


@pytest.mark.parametrize("changes", [{"stride": 0}, {"k": 0}, {"mass": 1.5}, {"levels": 256}])
def test_settings_out_of_range(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(changes))}`"):
        Quantisation(**changes)  # type: ignore[arg-type]


# Through files


@pytest.mark.parametrize("quantisation", [Quantisation(), Quantisation(k=2), Quantisation(k=1)])
def test_round_trip(make_store: Make, quantisation: Quantisation) -> None:
    store, probs = make_store(quantisation=quantisation), smooth_probs(SIZE)
    assert not store.has("train", "sub/a.b")
    store.write("train", "sub/a.b", probs, picture(SIZE))
    assert store.has("train", "sub/a.b")
    assert store.stems("train") == ("sub/a.b",)
    for found, expected in zip(
        store.read("train", "sub/a.b", SIZE), coded(probs, quantisation), strict=True
    ):
        assert torch.equal(found, expected)
    assert store.verify() == []


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_part_is_the_slice_of_the_whole(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = SoftLabelStore.create(tmp_path_factory.mktemp("store"), MANIFEST)
    store.write("train", "a", smooth_probs(SIZE), picture(SIZE))
    whole_image = decode(store.read("train", "a", SIZE), 5)
    top, left = data.draw(st.integers(0, 149)), data.draw(st.integers(0, 169))
    bottom, right = data.draw(st.integers(top + 1, 150)), data.draw(st.integers(left + 1, 170))
    part = store.read("train", "a", SIZE, (top, bottom, left, right))
    expected = whole_image[:, top:bottom, left:right]  # a level is 1e-4 or more
    torch.testing.assert_close(decode(part, 5), expected, atol=1e-6, rtol=0)


def test_grid_covers_the_image_at_a_stride(make_store: Make) -> None:
    quantisation = Quantisation(stride=4)
    assert quantisation.grid_size((41, 30)) == (11, 8)
    store = make_store(quantisation=quantisation)
    probs = smooth_probs((11, 8))
    store.write("train", "a", probs, picture((41, 30)))
    indices, _ = store.read("train", "a", (41, 30))
    assert indices.shape[1:] == (11, 8)
    with pytest.raises(ValueError, match=r"shape \(C, h, w\) = \(5, 11, 8\)"):
        store.write("train", "a", smooth_probs((41, 30)), picture((41, 30)))
    with pytest.raises(ValueError, match="inside the grid"):
        store.read("train", "a", (41, 30), (0, 12, 0, 8))


def test_certain_images_cost_next_to_nothing(make_store: Make) -> None:
    store = make_store()
    probs = torch.zeros(5, 360, 480)
    probs[1] = 1
    store.write("train", "a", probs, picture((360, 480)))
    assert store.size_bytes("train") == store.file("train", "a").stat().st_size < 1000
    assert store.size_bytes("val") == 0


def test_names_stay_inside(store: SoftLabelStore) -> None:
    for split, stem in (("..", "a"), ("train", "../../a"), ("/", "a"), ("train", "/a")):
        with pytest.raises(ValueError, match="inside the store"):
            store.file(split, stem)


# Manifest


def test_manifest_comes_back(store: SoftLabelStore) -> None:
    found = SoftLabelStore.open(store.path).manifest
    assert found == store.manifest
    assert found.identity == MANIFEST.identity
    assert '"sha256"' in (store.path / "manifest.json").read_text()
    assert found.softiou_version == softiou.__version__


def test_names_and_dates_do_not_make_another_store(make_store: Make) -> None:
    one = make_store()
    two = make_store(teacher=Teacher("moved", "ab" * 32), data="moved", created="later")
    assert two.manifest == one.manifest  # goes on with what is there


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (
            {"teacher": Teacher("other", "cd" * 32)},
            r"the teacher is runs/teacher \(sha256 abab.*\) in the folder, but other \(sha256 cdcd",
        ),
        ({"classes": ("sky", "road")}, "classes is .*'pole'.* in the folder"),
        (
            {"quantisation": Quantisation(stride=4, k=2)},
            "stride is 1 in the folder, but 4 was requested; k is auto",
        ),
        ({"normalisation": Normalisation((0.0,), (1.0,))}, "mean is"),
    ],
)
def test_another_store_is_not_gone_on_with(
    make_store: Make, changes: dict[str, object], what: str
) -> None:
    make_store()
    with pytest.raises(DataError, match=f"{what}.*Choose another --out"):
        make_store(**changes)


def test_there_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found no manifest\.json.*softiou label DATA"):
        SoftLabelStore.open(tmp_path)
    (tmp_path / "manifest.json").write_text('{"teacher": 3}')
    with pytest.raises(DataError, match="Expected the manifest"):
        SoftLabelStore.open(tmp_path)
    newer = replace(MANIFEST, schema_version=99).to_json()
    (tmp_path / "manifest.json").write_text(newer)
    with pytest.raises(DataError, match="Update softiou"):
        SoftLabelStore.open(tmp_path)


def test_classes_of_a_data_set(store: SoftLabelStore) -> None:
    store.check_description(DatasetDescription(CLASSES, ignore_index=0))
    with pytest.raises(DataError, match=r"but found 'car' as class 2 instead of 'bus'"):
        store.check_description(DatasetDescription(("sky", "road", "bus", "pole", "x")))
    with pytest.raises(DataError, match=r"but found 5 classes instead of 2"):
        store.check_description(DatasetDescription(("sky", "road")))


def test_missing_images_are_named(store: SoftLabelStore) -> None:
    store.check_complete("train", ["a"])
    with pytest.raises(DataError, match=r"8 images, but 7 have none: b, c, d, e, f and 2 more"):
        store.check_complete("train", list("abcdefgh"))
    with pytest.raises(DataError, match="softiou label DATA --teacher CKPT --out"):
        store.check_complete("val", ["a"])


def test_several_make_one_store_at_once(tmp_path: Path) -> None:
    """Of two teachers those of one are refused, and the manifest is whole."""
    teachers = [Teacher("t", digits * 32) for digits in ("ab", "cd")] * 3
    for attempt in range(20):
        path, start = tmp_path / str(attempt), threading.Barrier(len(teachers))

        def create(teacher: Teacher, path: Path = path, start: threading.Barrier = start) -> bool:
            start.wait()
            try:
                SoftLabelStore.create(path, replace(MANIFEST, teacher=teacher))
            except DataError:
                return False
            return True

        with ThreadPoolExecutor(len(teachers)) as pool:
            made = list(pool.map(create, teachers))
        winner = SoftLabelStore.open(path).manifest.teacher
        assert made == [teacher == winner for teacher in teachers]
        assert [file.name for file in path.iterdir()] == ["manifest.json"]


def test_file_systems_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", no_links)
    store = SoftLabelStore.create(tmp_path / "store", MANIFEST)
    assert store.manifest == MANIFEST
    assert [file.name for file in store.path.iterdir()] == ["manifest.json"]


# Files that are not what they were


def test_missing_file_names_the_image(store: SoftLabelStore) -> None:
    with pytest.raises(DataError, match=r"b\.b2nd.*'train/b': there is no such file.*--out"):
        store.read("train", "b", SIZE)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_file(store: SoftLabelStore, share: float) -> None:
    file = store.file("train", "a")
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"'train/a': it (was truncated|is not a file of)"):
        store.read("train", "a", SIZE)
    assert [problem.file for problem in store.verify()] == [str(file)]


def test_a_flipped_bit_anywhere_is_found(store: SoftLabelStore) -> None:
    store.write("train", "b", smooth_probs(SIZE, seed=1), picture(SIZE))
    file = store.file("train", "a")
    content = file.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 150)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        file.write_bytes(changed)
        with pytest.raises(DataError, match="'train/a'"):
            store.read("train", "a", SIZE, (0, 1, 0, 1))
        assert [problem.file for problem in store.verify("train")] == [str(file)]
    file.write_bytes(content)
    assert store.verify() == []


def test_renamed_and_foreign_files(store: SoftLabelStore, make_store: Make) -> None:
    shutil.copy(store.file("train", "a"), store.file("train", "b"))
    with pytest.raises(DataError, match="'train/b': it is the renamed file of 'train/a'"):
        store.read("train", "b", SIZE)
    other = make_store("other", quantisation=Quantisation(levels=40))
    other.write("train", "a", smooth_probs(SIZE), picture(SIZE))
    shutil.copy(other.file("train", "a"), store.file("train", "a"))
    with pytest.raises(DataError, match="'train/a': it belongs to another store"):
        store.read("train", "a", SIZE)
    assert [Path(problem.file).stem for problem in store.verify()] == ["a", "b"]


def test_a_file_that_holds_code_is_damaged(tmp_path: Path) -> None:
    codes = encode(smooth_probs(SIZE), Quantisation())
    source = f"def evil(x=open({str(tmp_path / 'run')!r}, 'w').close()):\n    return x"
    recipe = {"kind": "lazyudf", "version": 1, "function_kind": "dsl", "dsl_version": 1}
    recipe |= {"name": "evil", "udf_source": source, "dtype": "<f8", "shape": [1], "operands": {}}
    content = pack(codes, {"evil": msgpack.ExtType(43, msgpack.packb(recipe))})
    with pytest.raises(BrokenFileError, match="blosc2 cannot read it"):
        Frame(content)
    assert not (tmp_path / "run").exists()
    array = blosc2.ndarray_from_cframe(content, deserialize="full")
    with suppress(Exception):  # what blosc2 would do with it
        array.schunk.meta["softiou"]
    assert (tmp_path / "run").exists()


def test_image_of_another_size(store: SoftLabelStore) -> None:
    with pytest.raises(DataError, match=r"made for 170x150 .* the image is 150x170; .*replaced"):
        store.read("train", "a", (170, 150))


def test_another_picture_of_the_same_name(store: SoftLabelStore) -> None:
    right = picture(SIZE)
    store.check_image("train", "a", right)
    noise = torch.randint(-2, 3, right.shape)  # another decoder of the same file
    store.check_image("train", "a", (right + noise).clamp(0, 255).to(torch.uint8))
    with pytest.raises(DataError, match="'train/a': they belong to another image"):
        store.check_image("train", "a", picture(SIZE, seed=1))
    with pytest.raises(DataError, match="'train/b': there is no such file"):
        store.check_image("train", "b", right)


def test_all_that_is_not_whole_is_named_at_once(store: SoftLabelStore) -> None:
    for stem in ("b", "c"):
        store.write("train", stem, smooth_probs(SIZE), picture(SIZE))
    store.check_whole("train", ["a", "b", "c"])
    for stem in ("a", "c"):
        file = store.file("train", stem)
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"(?s)'train/a'.*'train/c'"):
        store.check_whole("train", ["a", "b", "c"])
    assert [problem.file for problem in store.verify("train", "a")] == [
        str(store.file("train", "a"))
    ]
    assert store.verify("train", "b") == store.verify("train", "never") == []


def test_half_written_file_is_not_seen(store: SoftLabelStore) -> None:
    draft = store.path / "train" / ".tmp-123-0-b.b2nd"
    draft.write_bytes(b"half")
    assert not store.has("train", "b")
    assert store.stems("train") == ("a",)
    assert store.verify() == []


def test_writing_again_goes_on(store: SoftLabelStore, make_store: Make) -> None:
    before = store.file("train", "a").read_bytes()
    again = make_store()
    assert again.has("train", "a")
    again.write("train", "a", smooth_probs(SIZE), picture(SIZE))
    assert store.file("train", "a").read_bytes() == before  # the same bytes, whoever writes them


# Elsewhere


class OneImage(Dataset[Tensor]):
    def __init__(self, store: SoftLabelStore) -> None:
        self.store = store

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        return decode(self.store.read("train", "a", SIZE, (0, 40, index, index + 50)), 5)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read(store: SoftLabelStore, method: str) -> None:
    dataset = OneImage(store)
    expected = [dataset[index] for index in range(4)]  # in this process first, then in theirs
    workers = 2 if method == "fork" else 1  # which imports everything anew
    loader = DataLoader(
        dataset, batch_size=None, num_workers=workers, multiprocessing_context=method
    )
    assert all(torch.equal(*pair) for pair in zip(loader, expected, strict=True))


def test_import_is_free_of_blosc2() -> None:
    code = "import softiou.soft_labels.store, sys; sys.exit('blosc2' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_threads_are_left_alone(store: SoftLabelStore) -> None:
    import blosc2

    before = blosc2.nthreads
    store.read("train", "a", SIZE)
    assert blosc2.nthreads == before


def test_padding_has_no_class_in_any_slot() -> None:
    probs = torch.tensor([[0.6, 0.5], [0.3, 0.5], [0.1, 0.0]]).view(3, 1, 2)
    codes = encode(probs, Quantisation())
    best, levels = codes.best.astype(np.uint8), codes.levels.copy()
    best[0, 0], levels[:, 0, 0] = no_class(3), 0  # as beyond the edge of an image
    indices, _ = sparse(replace(codes, best=best, levels=levels), 3, Quantisation())
    assert len(indices) > 1
    assert (indices[:, 0, 0] == 255).all()
    assert (indices[:, 0, 1] < 3).all()
