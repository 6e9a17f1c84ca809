"""Batches for training, as a stream that can be resumed at any batch."""

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any

from torch.utils.data import Dataset

from softiou.data import DrawSampler, collate
from softiou.training.workers import Loader


@dataclass(eq=False)
class BatchStream:
    """Batches from an infinite stream of samples, with a position that is saved in checkpoints.

    The stream is divided into rounds between validations, and iterating yields the rest of the
    current round. Batch b of all processes together consists of the draws from b * B * world_size
    on, B for each rank in turn. The samples of a run therefore depend neither on interruptions nor
    on the number of workers. Workers are kept from round to round.
    """

    samples: Dataset[Any]
    _: KW_ONLY
    batch_size: int
    batches: int  # number of batches in a round
    rounds: int = 1  # number of rounds for which workers are kept
    workers: int = 0
    rank: int = 0
    world_size: int = 1
    pin_memory: bool = False
    say: Callable[[str], None] = lambda line: None
    position: int = 0  # batches yielded since the start of the run
    _loaded: Any = None
    _place: int = 0  # position of the next batch in `_loaded`

    def __len__(self) -> int:
        """Return the number of batches in a round."""
        return self.batches

    def __iter__(self) -> Iterator[Any]:
        if self._loaded is None or self._place != self.position:
            self._loaded = self._load()
        for _ in range(self.batches - self.position % self.batches):
            batch = next(self._loaded)
            self.position = self._place = self.position + 1
            if self.position % (self.rounds * self.batches) == 0:
                self._loaded = None  # ends its workers
            yield batch

    def _load(self) -> Iterator[Any]:
        draws_a_batch, whole = self.batch_size * self.world_size, self.rounds * self.batches
        first, rest = self.position * draws_a_batch, (whole - self.position % whole) * draws_a_batch
        loader = Loader(
            self.samples,
            batch_size=self.batch_size,
            sampler=DrawSampler(
                first, rest, rank=self.rank, world_size=self.world_size, batch_size=self.batch_size
            ),
            workers=self.workers,
            say=self.say,
            collate_fn=collate,
            pin_memory=self.pin_memory,
        )
        self.workers = loader.workers
        return iter(loader)

    def state_dict(self) -> dict[str, int]:
        """Return the position, for a checkpoint."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from a position."""
        self.position = state["position"]
