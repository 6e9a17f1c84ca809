"""Data sets that may be downloaded freely, and what to do for the others."""

from softiou.fetching.downloading import Archive
from softiou.fetching.fetch import FETCHED, Fetched, fetch_dataset, instructions

__all__ = ["FETCHED", "Archive", "Fetched", "fetch_dataset", "instructions"]
