"""Draw the pictures of the documentation: a chart of results, and screenshots of the report.

    python -m scripts.write_pictures           # the chart, from benchmarks/results
    python -m scripts.write_pictures RUN       # also the report of a run on CamVid, in Chromium

docs/assets/pictures.json records a hash of the templates in each screenshot; a test fails if they
have changed.
"""

import hashlib
import json
import sys
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
ASSETS = ROOT / "docs" / "assets"
RECORD = ASSETS / "pictures.json"
TEMPLATES = ROOT / "src" / "softiou" / "reports" / "templates"
RESULTS = ROOT / "benchmarks" / "results"
# label, experiment, metric, method, baseline
ROWS = (
    ("CamVid: JML against CE", "camvid", "miou_d", "jml", "ce"),
    ("photographs: JML against CE", "ccp", "miou_d", "full_jml", "full_ce"),
    ("nodules, 4 annotators: JML against CE", "lidc", "nodule/soft_dice", "votes_jml", "votes_ce"),
    ("photographs, 56 masks: pseudo-labels", "ccp", "miou_d", "semi_soft_jml", "sup_jml"),
    ("photographs, 56 masks: distillation", "ccp", "miou_d", "kd_jml", "sup_jml"),
)
MOST_BYTES = 400_000
FRAME = "Seq05VD_f02610"  # its labels belong to another frame
SHOWN = {"report": "sections/gallery.j2", "confusions": "sections/confusion.j2"}
BLUE, INK = "#2263d3", "#1b2330"


def chart() -> str:
    """Return an SVG of the gains of losses and soft labels, with paired 95 % intervals."""
    settings = {"svg.fonttype": "none", "svg.hashsalt": "chart", "font.family": "sans-serif"}
    with rc_context(settings):
        figure = Figure(figsize=(8.4, 2.7), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        for place, (_, *which) in enumerate(ROWS):
            value, low, high = gain(*which)
            axes.plot((low, high), (place, place), color=BLUE, linewidth=2.5)
            axes.plot(value, place, "o", color=BLUE, markersize=8)
            text = f"{value:+.1f}  ({low:+.1f} to {high:+.1f})"
            axes.text(7.2, place, text.replace("-", "\N{MINUS SIGN}"), va="center", color=INK)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_yticks(range(len(ROWS)), [label for label, *_ in ROWS])
        axes.set_ylim(len(ROWS) - 0.4, -0.6)
        axes.set_xlim(-0.4, 9.6)
        axes.set_xticks(range(8))
        axes.set_xlabel("gain in points of mIoU, of soft Dice for the nodules", loc="left")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(left=False)
        file = StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def gain(experiment: str, metric: str, method: str, baseline: str) -> tuple[float, float, float]:
    """Return the difference of two methods, and its interval."""
    contrasts = json.loads((RESULTS / experiment / "differences.json").read_text())["contrasts"]
    (found,) = (one for one in contrasts if (one["method"], one["baseline"]) == (method, baseline))
    low, high = found["metrics"][metric]["interval"]
    return found["metrics"][metric]["value"], low, high


def fingerprint(template: str) -> str:
    """Return a hash of a template and of the styles, which a screenshot depends on."""
    parts = [template, "style.css", "results.css", "gallery.css"]
    return hashlib.sha256(b"".join((TEMPLATES / part).read_bytes() for part in parts)).hexdigest()[
        :16
    ]


def take_screenshots(run: Path) -> None:
    """Write docs/assets/NAME.jpg for each of SHOWN, from the report of a run on CamVid."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(args=["--no-sandbox"], executable_path=_chromium())
        page = browser.new_page(viewport={"width": 1180, "height": 900}, device_scale_factor=1.5)
        page.goto(f"{(run / 'report.html').resolve().as_uri()}#image={FRAME}")
        page.wait_for_selector(f"#gallery[data-full={FRAME}]")
        page.keyboard.press("b")
        page.wait_for_timeout(500)
        _save(page, ".viewer", "report")
        page.mouse.move(0, 0)
        _save(page, ".confusion", "confusions")
        browser.close()
    RECORD.write_text(json.dumps({name: fingerprint(SHOWN[name]) for name in SHOWN}, indent=1))


def _chromium() -> str | None:
    from shutil import which

    return next(filter(None, map(which, ("chromium", "chromium-browser", "google-chrome"))), None)


def _save(page: Any, selector: str, name: str) -> None:
    from PIL import Image

    picture = Image.open(BytesIO(page.query_selector(selector).screenshot())).convert("RGB")
    picture.save(ASSETS / f"{name}.jpg", quality=85, optimize=True)


if __name__ == "__main__":
    (ASSETS / "gains.svg").write_text(chart())
    if len(sys.argv) > 1:
        take_screenshots(Path(sys.argv[1]))
