"""Batches for training, as a stream that can be resumed at any batch."""

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any

from torch.utils.data import Dataset

from softiou.data import DrawSampler, collate
from softiou.training.workers import Loader


@dataclass(eq=False)
class BatchStream:
    """Rounds of batches from an infinite stream of samples; its position is part of a checkpoint.

    Iterating yields the rest of the current round. Batch b of all processes together holds the
    draws from b * B * world_size on, B * world_size of them, so what a run sees depends neither on
    where it was interrupted nor on the number of workers.
    """

    samples: Dataset[Any]
    _: KW_ONLY
    batch_size: int
    batches: int  # of a round
    workers: int = 0
    rank: int = 0
    world_size: int = 1
    pin_memory: bool = False
    say: Callable[[str], None] = lambda line: None
    position: int = 0  # batches handed out since the start of the run

    def __len__(self) -> int:
        """Return the batches of a round."""
        return self.batches

    def __iter__(self) -> Iterator[Any]:
        draws_a_batch = self.batch_size * self.world_size
        remaining = self.batches - self.position % self.batches
        loader = Loader(
            self.samples,
            batch_size=self.batch_size,
            sampler=DrawSampler(
                self.position * draws_a_batch,
                remaining * draws_a_batch,
                rank=self.rank,
                world_size=self.world_size,
            ),
            workers=self.workers,
            say=self.say,
            collate_fn=collate,
            pin_memory=self.pin_memory,
        )
        self.workers = loader.workers
        for batch in loader:
            self.position += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the position, for a checkpoint."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from a position."""
        self.position = state["position"]
