"""Evaluation: a model over a data set, into evaluation.json, thumbnails and example images.

evaluation.json, schema version 2 (per cent where a score is meant; null where it is undefined):

    schema_version, softiou_version, created (UTC), data, split, num_images
    checkpoint, checkpoint_sha256
    labels        what the data set handed out: hard, soft, votes or staple
    inference     how the model was run: window_px, overlap, flips, scales
    classes, palette, ignore_index
    metrics       miou_d, miou_i, miou_c; miou_i_q10, miou_i_q5, miou_c_q10, miou_c_q5 (the worst
                  q % of the images); mdice_d, mdice_i, mdice_c; biou_d (boundary IoU); accuracy,
                  macc (mean of the classes); ece_d, ece_i, cece_d (class-wise), ace_d (adaptive
                  bins), mce_d (maximum), bece_d (within 3 px of a border), brier (0..200), nll
                  (nats); against soft labels and votes soft_iou_d, .._i, .._c and soft_dice_d,
                  .._i, .._c; against votes ged, the squared generalised energy distance (0..200)
                  between the masks of the R annotators and as many drawn from the model; of the
                  foreground if C = 2
    intervals     [low, high] of the metrics: bootstrap over images, see `metrics.intervals`; none
                  of the worst q % when they are fewer than ten images
    bootstrap     resamples, seed, level (per cent)
    per_class     name, iou, interval [low, high] of it, iou_c (mean over images), dice, accuracy
                  (recall), boundary_iou, cece, target_pixels, images; against soft labels and votes
                  soft_iou, soft_dice
    confusion     pixels; rows are the classes of the target, columns those of the prediction
    reliability   edges, count, confidence, accuracy: the bins of ece_d, shares in [0, 1]
    calibrated    the same model after the scaling kept beside its checkpoint, null without one:
                  kind, path; data and split that it was fitted on; metrics (of calibration; of
                  overlap, too, where the kind may change masks), reliability
    images        of each: stem, size [height, width], truth (hash of the labels); miou (over the
                  classes of its target), accuracy, boundary_iou, ece, confidence; and its sums, of
                  which all but the class-wise and soft figures follow: counts and boundary_counts
                  {class: [true positives, predicted, present]} without zeros, bins and
                  boundary_bins {count, confidence, correct}, brier, nll, pixels
    examples      best, worst: stems whose pictures lie in examples/

Beside it lie evaluation.safetensors, the sums of every image as tensors, in the same order (exact,
and the class-wise and soft ones, too: see `softiou.metrics.ImageStatistics`; its metadata names
`created` of the evaluation that it belongs to), and gallery/ with STEM.image.jpg, STEM.target.png,
STEM.preds.png (class indices) and STEM.uncertainty.png (1 - confidence in grey levels) of the
images, at most 320 px long; of data sets with more than 1000 images of as many, evenly spread.
"""

from softiou.evaluation.content import to_json
from softiou.evaluation.pictures import Example
from softiou.evaluation.saving import save_evaluation
from softiou.evaluation.scoring import Evaluation, evaluate

__all__ = ["Evaluation", "Example", "evaluate", "save_evaluation", "to_json"]
