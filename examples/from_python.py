# %% [markdown]
# # softiou from Python
#
# Train, evaluate, predict and report, on a small folder of images that the first cell draws. For
# your own data set, use its folder instead of `DATA`.

# %%
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch
from PIL import Image

import softiou
from softiou.metrics import MeanIoU

DATA = Path(mkdtemp()) / "boxes"
DATA.mkdir()
(DATA / "dataset.yaml").write_text("classes: [ground, box]\n")
random = np.random.default_rng(0)
for split, number in {"train": 12, "val": 4, "test": 4}.items():
    for folder in ("images", "masks"):
        (DATA / split / folder).mkdir(parents=True)
    for index in range(number):
        top, left = random.integers(0, 28, 2)
        mask = np.zeros((64, 64), np.uint8)
        mask[top : top + 28, left : left + 28] = 1
        image = random.integers(0, 60, (64, 64, 3)) + 150 * mask[:, :, None] * [1, 0, 0]
        name = f"{split}{index}.png"
        Image.fromarray(mask).save(DATA / split / "masks" / name)
        Image.fromarray(image.astype(np.uint8)).save(DATA / split / "images" / name)

# %% [markdown]
# ## Check and train
#
# A tiny network without pretrained weights is enough here. `config.yaml` of the run lists all
# settings.

# %%
print(softiou.check(DATA).count("error"), "errors in the data")
run = softiou.train(
    DATA,
    out=DATA.parent / "run",
    architecture="linknet",
    encoder="tu-test_efficientnet",
    encoder_weights="none",
    crop_px=[64, 64],
    batch_size=4,
    workers=0,
    steps=60,
    validations=3,
    learning_rate=0.01,
    precision="fp32",
)
run

# %% [markdown]
# ## Evaluate, calibrate and predict

# %%
run.calibrate()
metrics = run.evaluate(split="test").metrics
print(f"mIoU {metrics['miou_d']:.1f} %, ECE {metrics['ece_d']:.1f} %")
for prediction in run.predict(DATA / "test" / "images"):
    print(prediction.stem, prediction.labels.shape, float(prediction.probs.max()))

# %% [markdown]
# ## The report
#
# In a notebook the page opens below; it is also a file that needs no network.

# %%
run.report()

# %% [markdown]
# ## Only the loss, only the metrics
#
# Both fit into any training loop.

# %%
logits = torch.randn(2, 19, 64, 64, requires_grad=True)
target = torch.randint(0, 19, (2, 64, 64))
loss = softiou.JaccardMetricLoss(cross_entropy=0.25, ignore_index=255)
loss(logits, target).backward()
metric = MeanIoU(num_classes=19)
metric.update(logits.detach().argmax(1), target)
print(metric.compute())
