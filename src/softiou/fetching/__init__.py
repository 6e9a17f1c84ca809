"""Download freely available data sets, and print instructions for the others."""

from softiou.fetching.downloading import Archive
from softiou.fetching.fetch import FETCHED, Fetched, fetch_dataset, instructions

__all__ = ["FETCHED", "Archive", "Fetched", "fetch_dataset", "instructions"]
