"""What a run is: the head of its report, MODEL_CARD.md and CSV files."""

import base64
import csv
import json
from io import StringIO
from pathlib import Path

import pytest
from torch import nn

from browser.fake_run import CLASSES, draw_scene, write_run
from softiou.evaluation.schema import Evaluation, read_evaluation
from softiou.reports import collect, write_report
from softiou.reports.model_table import ModelRow, ModelTable
from softiou.reports.tables import classes_csv, images_csv
from softiou.training.environment import save_environment

CONFIG = """# softiou train DATA loss.cross_entropy=0.25
data: {source: DATA, train_split: train, batch_size: 8, crop_px: [96, 128]}
labels: {kind: boundary}
model: {architecture: unet, encoder: resnet18}
loss: {kind: jaccard, cross_entropy: 0.25}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("described") / "run"
    write_run(path, [draw_scene(f"{index}", seed=index, skill=0.5) for index in range(4)])
    (path / "config.yaml").write_text(CONFIG)
    save_environment(nn.Linear(999, 1000), path)
    return path


@pytest.fixture
def evaluation(run: Path) -> Evaluation:
    return read_evaluation(run / "evaluation.json")


def test_facts_come_from_configuration_environment_and_history(run: Path) -> None:
    facts = dict(collect(run).facts)
    assert facts["Data"] == "DATA, trained on train, scored on 4 images of test"
    assert facts["Network"] == "unet, resnet18"
    assert facts["Parameters"] == "1.0 million"
    assert facts["Loss"] == "0.25 cross-entropy + 0.75 jaccard"
    assert facts["Labels"] == "boundary"
    assert facts["Steps"] == "2,000, batches of 8 crops of 96 x 128 px"
    assert facts["Time"] == "27 min"
    assert facts["Command"] == "softiou train DATA loss.cross_entropy=0.25"
    assert facts["Versions"].startswith("softiou ")
    assert facts["Hardware"]


@pytest.mark.parametrize("config", ["", "not: [yaml", "- a list", "loss: 3\ndata: x\n"])
def test_configuration_that_cannot_be_read_leaves_facts_out(
    run: Path, tmp_path: Path, config: str
) -> None:
    (tmp_path / "config.yaml").write_text(config)
    (tmp_path / "environment.json").write_text("[")
    (tmp_path / "metrics.jsonl").write_text('{"step": 3, "seconds": 1.0, "train/loss": 1.0}\n')
    assert dict(collect(tmp_path).facts) == {"Steps": "3", "Time": "1 s"}


def test_model_card_says_what_was_measured_and_what_is_weak(
    run: Path, evaluation: Evaluation
) -> None:
    write_report(run)
    card = (run / "MODEL_CARD.md").read_text()
    assert card.startswith("# Model card: run\n")
    assert "| Loss | 0.25 cross-entropy + 0.75 jaccard |" in card
    assert f"| mIoU D, % | {evaluation.metrics['miou_d']:.1f} | " in card
    scored = sorted((one.iou, one.name) for one in evaluation.per_class if one.iou is not None)
    assert f"lowest IoU are {', '.join(name for _, name in scored[:3])}." in card
    assert "sign & <b>symbol</b>" in card, "Markdown is not escaped as HTML"


def test_model_card_names_classes_of_which_nothing_is_known(run: Path, tmp_path: Path) -> None:
    content = json.loads((run / "evaluation.json").read_text())
    content["per_class"][2] |= {"iou": None, "interval": None}
    (tmp_path / "evaluation.json").write_text(json.dumps(content))
    write_report(tmp_path)
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "Nothing is known about pole: the split has no labelled pixel of it." in card


def rows(uri: str) -> list[dict[str, str]]:
    text = base64.b64decode(uri.removeprefix("data:text/csv;charset=utf-8;base64,")).decode()
    return list(csv.DictReader(StringIO(text)))


def test_csv_holds_every_image_and_class(evaluation: Evaluation) -> None:
    images, classes = rows(images_csv(evaluation)), rows(classes_csv(evaluation))
    assert [one["image"] for one in images] == ["0", "1", "2", "3"]
    assert float(images[1]["miou"]) == evaluation.images[1].miou
    assert [one["class"] for one in classes] == list(CLASSES)
    first = evaluation.per_class[0]
    assert float(classes[0]["iou"]) == first.iou
    assert (float(classes[0]["iou_low"]), float(classes[0]["iou_high"])) == first.interval


def test_table_of_models_shows_in_a_notebook() -> None:
    rows = (ModelRow("teacher <b>", "a", {"miou_d": 41.234}, 200), ModelRow("student", "b", {}))
    html = ModelTable("shapes", "test", rows)._repr_html_()
    assert "<th>mIoU D</th>" in html
    assert "<tr><th>teacher &lt;b&gt;</th><td>41.2</td><td>200</td></tr>" in html
    assert "<tr><th>student</th><td>\N{EN DASH}</td><td>-</td></tr>" in html
