"""BatchStream: the same batches whoever asks, and wherever it begins."""

import multiprocessing
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from softiou.configuration import load_config
from softiou.data import Augmentation, Sample, TrainingStream, open_dataset
from softiou.recipes.custom import NOTHING_CUSTOM
from softiou.recipes.data import open_labelled
from softiou.training import fitting, workers
from softiou.training.loading import BatchStream
from softiou.training.resolving import resolve


class Numbered(Dataset[Sample]):
    """Endless samples that know the number of their draw."""

    def __getitem__(self, draw: int) -> Sample:
        image = torch.full((3, 1, 1), draw % 256, dtype=torch.uint8)
        return {"image": image, "target": torch.zeros(1, 1).long(), "stem": str(draw)}


def _round(stream: BatchStream) -> list[list[str]]:
    return [batch["stem"] for batch in stream]


def test_rounds_go_on_where_the_last_one_ended() -> None:
    stream = BatchStream(Numbered(), batch_size=2, batches=3)
    assert len(stream) == 3
    assert _round(stream) == [["0", "1"], ["2", "3"], ["4", "5"]]
    assert _round(stream) == [["6", "7"], ["8", "9"], ["10", "11"]]
    assert stream.state_dict() == {"position": 6}


@pytest.mark.parametrize("position", range(9))
def test_resumes_at_any_batch_with_the_rest_of_the_round(position: int) -> None:
    whole = BatchStream(Numbered(), batch_size=2, batches=4)
    expected = (_round(whole) + _round(whole) + _round(whole))[position:]

    resumed = BatchStream(Numbered(), batch_size=2, batches=4)
    resumed.load_state_dict({"position": position})
    rest = _round(resumed)
    assert len(rest) == 4 - position % 4
    while len(rest) < len(expected):
        rest += _round(resumed)
    assert rest == expected


def test_position_is_that_of_the_batches_handed_out() -> None:
    stream = BatchStream(Numbered(), batch_size=2, batches=4)
    for handed_out, _ in enumerate(stream, start=1):
        assert stream.state_dict() == {"position": handed_out}


def test_two_ranks_together_draw_what_one_draws() -> None:
    one = BatchStream(Numbered(), batch_size=4, batches=3)
    two = [
        BatchStream(Numbered(), batch_size=2, batches=3, rank=rank, world_size=2) for rank in (0, 1)
    ]
    for _ in range(2):  # two rounds
        alone = _round(one)
        for batch, *halves in zip(alone, *map(_round, two), strict=True):
            assert sorted(stem for half in halves for stem in half) == sorted(batch)


class Named(Dataset[Sample]):
    """Endless samples that know the process that made them."""

    def __getitem__(self, draw: int) -> Sample:
        image = torch.zeros(3, 1, 1, dtype=torch.uint8)
        return {"image": image, "target": torch.zeros(1, 1).long(), "stem": str(os.getpid())}


def test_workers_are_kept_between_rounds_and_end_with_the_last() -> None:
    stream = BatchStream(Named(), batch_size=1, batches=3, rounds=2, workers=1)
    makers = {name for _ in range(2) for batch in _round(stream) for name in batch}
    assert len(makers - {str(os.getpid())}) == len(makers) == 1
    assert multiprocessing.active_children() == []
    assert makers.isdisjoint(_round(stream)[0])  # a third round has workers of its own


def test_a_stream_that_is_set_back_has_other_workers() -> None:
    stream = BatchStream(Numbered(), batch_size=1, batches=2, rounds=3, workers=1)
    assert _round(stream) == [["0"], ["1"]]
    before = multiprocessing.active_children()
    stream.load_state_dict({"position": 1})  # of a checkpoint
    assert _round(stream) == [["1"]]
    assert _round(stream) == [["2"], ["3"]]
    after = multiprocessing.active_children()
    assert len(before) == len(after) == 1
    assert before != after
    del stream
    assert multiprocessing.active_children() == []


def test_workers_do_not_change_the_batches(shapes: Path) -> None:
    augmentation = Augmentation((32, 32))
    samples = TrainingStream(open_dataset(shapes, "train"), augmentation, seed=3)
    streams = [BatchStream(samples, batch_size=2, batches=3, workers=workers) for workers in (0, 1)]
    for ours, theirs in zip(*streams, strict=True):
        assert ours["stem"] == theirs["stem"]
        torch.testing.assert_close(ours["image"], theirs["image"], rtol=0, atol=0)
        torch.testing.assert_close(ours["target"], theirs["target"], rtol=0, atol=0)


@pytest.mark.parametrize(("device", "pinned"), [("cuda", True), ("cpu", False)])
def test_batches_for_a_gpu_are_pinned(
    device: str, pinned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the training, and the images of the validation."""
    given: list[dict[str, Any]] = []

    def note(samples: object, **settings: Any) -> list[object]:
        given.append(settings)
        return []

    monkeypatch.setattr(workers, "DataLoader", note)
    config = load_config(source="digits", overrides=["data.workers=0", "data.crop_px=[32, 32]"])
    data = open_labelled(config, NOTHING_CUSTOM)
    resolved = resolve(config, data.training)
    strategy = SimpleNamespace(root_device=torch.device(device))
    trainer: Any = SimpleNamespace(global_rank=0, world_size=1, strategy=strategy)
    stream: Any = fitting._stream(resolved, trainer, print)(data.training, 2)
    validation = fitting._validation_samples(resolved, data.validation, trainer)
    assert [*stream._load(), *iter(validation)] == []
    assert [settings["pin_memory"] for settings in given] == [pinned, pinned]
