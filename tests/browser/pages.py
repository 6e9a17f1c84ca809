"""Open pages and wait for them; every page is watched.

A message on its console, an exception, a dialog, or a request for anything outside the file fails
the test.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NUM_IMAGES = 40
MANY_IMAGES = 233  # as many as CamVid tests on

Open = Callable[..., Any]


@contextmanager
def watched(
    browser: Any,
    path: Path,
    *,
    prepare: str = "",
    address: str = "",
    missing_files: bool = False,
    **settings: Any,
) -> Iterator[Any]:
    """A page in a context of its own; what it complains of is asserted at the end.

    `address` is what follows the #; files that are missing are complained of unless expected.
    """
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 1000}} | settings)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"exception: {error}"))
    page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("file:", "data:"))
            else complaints.append(f"request: {request.url}")
        ),
    )
    if prepare:
        page.add_init_script(prepare)
    page.goto(f"{path.as_uri()}#{address}" if address else path.as_uri())
    yield page
    page.wait_for_timeout(20)  # what it has said by now arrives
    context.close()
    if missing_files:
        complaints = [one for one in complaints if "ERR_FILE_NOT_FOUND" not in one]
    assert not complaints, "; ".join(complaints)


def until(page: Any, condition: str, argument: Any = None, *, seconds: float = 10) -> None:
    """Wait until a script says true. Playwright's own way would break the page's policy."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition, argument):
        assert time.monotonic() < end, f"never true: {condition}"
        page.wait_for_timeout(10)
