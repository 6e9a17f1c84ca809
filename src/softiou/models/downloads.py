"""Downloads that fail immediately without a network."""

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from urllib.parse import urlsplit


@contextmanager
def no_waiting_offline() -> Iterator[None]:
    """Without a network, make Hugging Face use its cache immediately, not after many retries."""
    from huggingface_hub import constants

    with nullcontext() if _reachable(constants.ENDPOINT) else offline():
        yield


@contextmanager
def offline() -> Iterator[None]:
    """Keep Hugging Face from the network, as for a model that a file describes."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(url: str) -> bool:
    """Return whether a connection can be opened; with a proxy, assume so."""
    if urllib.request.getproxies():
        return True
    parts = urlsplit(url)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=5).close()
    except OSError:
        return False
    return True
