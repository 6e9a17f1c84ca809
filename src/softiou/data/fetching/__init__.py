"""Data sets that may be downloaded freely, and what to do for the others."""

from softiou.data.fetching.downloading import Archive
from softiou.data.fetching.fetch import FETCHED, Fetched, fetch_dataset, instructions

__all__ = ["FETCHED", "Archive", "Fetched", "fetch_dataset", "instructions"]
