"""What users may rely on: the names, and that they cost no more than torch."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import softiou

# Names that have been public; one that is taken away needs a minor release as a warning shim.
RECORDED = {
    "softiou": {
        "Accumulation",
        "ChannelWiseDistillation",
        "DiceSemimetricLoss",
        "FocalLoss",
        "GeneralizedDiceLoss",
        "JaccardMetricLoss",
        "LovaszSoftmaxLoss",
        "OverlapLoss",
        "OverlapStatistics",
        "SoftJaccardLoss",
        "TverskyLoss",
        "calibrate",
        "check",
        "compare",
        "distill",
        "evaluate",
        "export",
        "label",
        "load",
        "metrics",
        "overlap_statistics",
        "predict",
        "semi",
        "show_env",
        "targets",
        "train",
    },
    "softiou.checking": {"CheckReport", "FixReport", "check_dataset", "fix_dataset", "fix_folder"},
    "softiou.soft_labels": {
        "Manifest",
        "Normalisation",
        "Quantisation",
        "SoftLabelReader",
        "SoftLabelStore",
        "Teacher",
        "interpolate_at",
    },
    "softiou.configuration": {
        "Config",
        "LabellingConfig",
        "RecipeSummary",
        "copy_recipe",
        "load_config",
        "load_labelling_config",
        "recipe_names",
        "recipe_path",
        "save_config",
        "summarise_recipe",
        "validate_config",
    },
    "softiou.data": {
        "Augmentation",
        "Batch",
        "CheckReport",
        "Colour",
        "CustomAugmentation",
        "CustomDataset",
        "DataProblemsError",
        "DataSource",
        "DatasetDescription",
        "DigitScenes",
        "DrawSampler",
        "FixReport",
        "FolderDataset",
        "ImageDataset",
        "ImageSample",
        "Labels",
        "Manifest",
        "Normalisation",
        "PartlyLabeled",
        "Problem",
        "Quantisation",
        "Sample",
        "SegmentationDataset",
        "SoftLabelReader",
        "SoftLabelStore",
        "StrongColours",
        "TargetKind",
        "Teacher",
        "TrainingStream",
        "UnlabeledBatch",
        "UnlabeledStream",
        "View",
        "absolute_source",
        "available_splits",
        "check_dataset",
        "collate",
        "default_palette",
        "fix_dataset",
        "interpolate_at",
        "open_dataset",
        "open_images",
        "open_source",
        "open_unlabeled",
        "parse_fractions",
        "read_image",
        "source_name",
        "split_fractions",
        "stems_by_folder",
        "truth",
        "verify_readable",
        "write_splits",
    },
    "softiou.calibration": {
        "Calibration",
        "Change",
        "PixelSample",
        "calibrate",
        "calibration_path",
        "earlier_calibration",
        "load_calibration",
        "load_scaling",
        "require_scaling",
        "sample_pixels",
        "save_calibration",
    },
    "softiou.comparison": {"Comparison", "Contrast", "Difference", "Estimate", "Group", "compare"},
    "softiou.drop_in.monai": {
        "DiceCELoss",
        "DiceLoss",
        "GeneralizedDiceLoss",
        "MonaiLoss",
        "TverskyLoss",
    },
    "softiou.drop_in.smp": {
        "BINARY_MODE",
        "DiceLoss",
        "JaccardLoss",
        "MULTICLASS_MODE",
        "MULTILABEL_MODE",
        "SmpLoss",
        "TverskyLoss",
    },
    "softiou.evaluation": {
        "Evaluation",
        "EvaluationResult",
        "Example",
        "evaluate",
        "read_evaluation",
        "save_evaluation",
        "to_json",
    },
    "softiou.export": {
        "FORMATS",
        "SUFFIXES",
        "TOLERANCE",
        "ExportError",
        "ExportInfo",
        "Exported",
        "Format",
        "InputDtype",
        "Probabilities",
        "Report",
        "example_images",
        "export_model",
        "is_exported",
        "largest_difference",
        "open_exported",
        "read_weights",
        "trace",
    },
    "softiou.exporting": {
        "FORMATS",
        "SUFFIXES",
        "TOLERANCE",
        "ExportError",
        "ExportInfo",
        "Exported",
        "Format",
        "InputDtype",
        "Probabilities",
        "Report",
        "example_images",
        "export_model",
        "is_exported",
        "largest_difference",
        "open_exported",
        "read_weights",
        "trace",
    },
    "softiou.inference": {
        "InferenceSettings",
        "MaskWriter",
        "ModelPredictor",
        "Precision",
        "Predictor",
        "WHOLE_IMAGE",
        "autocast",
        "best_device",
        "best_precision",
        "emulation",
        "encode_image",
        "find_images",
        "index_image",
        "overlay",
        "predict_bands",
        "predict_batch",
        "predict_logits",
        "predict_probs",
        "probability_bands",
    },
    "softiou.jobs": {
        "Prediction",
        "Predictions",
        "ReportPage",
        "Run",
        "SavedMasks",
        "SuspectLabel",
        "calibrate",
        "check",
        "compare",
        "distill",
        "evaluate",
        "export",
        "label",
        "load",
        "predict",
        "report",
        "semi",
        "suspect_labels",
        "train",
    },
    "softiou.losses": {
        "ChannelWiseDistillation",
        "DiceSemimetricLoss",
        "FocalLoss",
        "GeneralizedDiceLoss",
        "JaccardMetricLoss",
        "LossSettings",
        "LovaszSoftmaxLoss",
        "OverlapLoss",
        "SoftJaccardLoss",
        "Targets",
        "TverskyLoss",
        "channel_wise_divergence",
        "correlation_distance",
        "lovasz_extension",
        "weights_of",
    },
    "softiou.models": {
        "CustomModel",
        "count_classes",
        "IMAGENET_MEAN",
        "IMAGENET_STD",
        "ModelSpec",
        "SegmentationModel",
        "architectures",
        "load_encoder",
    },
    "softiou.overlap": {
        "ACTIVATIONS",
        "CLASS_RULES",
        "FORMS",
        "Form",
        "IMPLS",
        "LEAST_MASS",
        "UPSAMPLES",
        "OverlapStatistics",
        "PassSettings",
        "active_classes",
        "gather_images",
        "gather_statistics",
        "mean_by_class",
        "mean_over",
        "needs_maxima",
        "overlap_statistics",
        "parse_per",
        "tversky_distance",
        "tversky_log_distance",
    },
    "softiou.recipes": {
        "BASELINE",
        "Config",
        "DistillationRecipe",
        "LabellingConfig",
        "Recipe",
        "SemiSupervisedRecipe",
        "SupervisedRecipe",
        "build_loss",
        "build_target",
        "config_of",
        "differences_to_baseline",
        "is_first",
        "load_config",
        "load_labelling_config",
        "next_free_run",
        "resolve_config",
        "resume_training",
        "save_config",
        "start_training",
        "validate_config",
        "without_teacher",
    },
    "softiou.targets": {
        "ConfidentTarget",
        "DenseTarget",
        "GaussianTarget",
        "HardTarget",
        "HardTile",
        "Labels",
        "MixedTarget",
        "Probs",
        "RegionTarget",
        "SmoothedTarget",
        "SoftTile",
        "SparseTarget",
        "Target",
        "TeacherTarget",
        "VotesTarget",
        "as_target",
        "boundary",
        "boundary_band",
        "confident",
        "gaussian",
        "mix",
        "paste",
        "smooth",
        "sparse",
        "staple",
        "teacher",
        "to_probs",
        "vote_shares",
        "votes",
    },
    "softiou.training": {
        "CustomParts",
        "config_of",
        "is_first",
        "next_free_run",
        "resolve_config",
        "resume_training",
        "start_training",
    },
    "softiou.resampling": {
        "LEVEL",
        "RESAMPLES",
        "ImageStatistics",
        "Interval",
        "Intervals",
        "bootstrap_metrics",
        "gather_image_statistics",
        "intervals",
        "mirrored_interval",
        "percentile_interval",
        "resample",
        "weighted_metrics",
    },
    "softiou.metrics": {
        "AnswerCounts",
        "BoundaryCalibrationError",
        "BoundaryIoU",
        "BrierScore",
        "CalibrationBins",
        "CalibrationMetric",
        "CalibrationScores",
        "CalibrationSums",
        "ClasswiseCalibrationError",
        "EvaluationScores",
        "ExpectedCalibrationError",
        "Figures",
        "GeneralizedEnergyDistance",
        "ImageStatistics",
        "Intervals",
        "METRICS",
        "MaximumCalibrationError",
        "MeanAccuracy",
        "MeanDice",
        "MeanIoU",
        "MetricInfo",
        "NegativeLogLikelihood",
        "OverlapCounts",
        "OverlapMasses",
        "OverlapMetric",
        "PixelAccuracy",
        "PixelSums",
        "SegmentationScores",
        "SoftDice",
        "SoftIoU",
        "SoftOverlapMetric",
        "SoftScores",
        "bootstrap_figures",
        "boundary_confidence_sums",
        "boundary_counts",
        "classwise_bins",
        "classwise_error",
        "confidence_sums",
        "confusion_counts",
        "generalized_energy_distance",
        "higher_is_better",
        "intervals",
        "mean_score",
        "overlap_counts",
        "overlap_masses",
        "percentile_interval",
        "pixel_sums",
        "resample",
        "sample_levels",
        "weighted_figures",
        "worst_mean",
    },
}
every_package = pytest.mark.parametrize("package", RECORDED)

# What the extra `softiou[train]` brings; the library has to do without.
EXTRAS = (
    "PIL",
    "blosc2",
    "jinja2",
    "matplotlib",
    "pydantic",
    "pytorch_lightning",
    "rich",
    "safetensors",
    "segmentation_models_pytorch",
    "sklearn",
    "tensorboard",
    "timm",
    "torchmetrics",
    "torchvision",
    "typer",
    "yaml",
)
REFUSE = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"refused: {{name}}", name=name)

sys.meta_path.insert(0, Refuse())
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600
    )


def type_checking_names(module: ModuleType) -> set[str]:
    """Names that the `__init__.py` of a package imports for type checkers."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in ast.walk(blocks[0]) if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in imports for alias in node.names}


@every_package
def test_no_recorded_name_was_taken_away(package: str) -> None:
    """A name that moved or changed works for one more minor release, with a warning."""
    module = import_module(package)
    for name in RECORDED[package] - set(module.__all__):
        with pytest.warns(DeprecationWarning, match=rf"{package}\.{name} is now softiou\."):
            assert getattr(module, name) is not None


@every_package
def test_every_name_resolves(package: str) -> None:
    module = import_module(package)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


@every_package
def test_all_is_what_is_public(package: str) -> None:
    """Nothing else without an underscore lies about, but submodules."""
    module = import_module(package)
    if package == "softiou":
        assert set(dir(module)) == {*module.__all__, "__version__"}
        return
    if "__dir__" in vars(module):
        assert set(dir(module)) == set(module.__all__)
        return
    folder = Path(str(module.__file__)).parent
    submodules = {f.stem for f in folder.glob("*.py")}
    submodules |= {f.parent.name for f in folder.glob("*/__init__.py")}
    public = {name for name in vars(module) if not name.startswith("_")}
    imported = {
        "Tensor",
        "callable_module",
        "moved_names",
    }  # for annotations, and for names that moved
    assert public - submodules - imported == set(module.__all__)


@pytest.mark.parametrize("package", ["softiou", "softiou.metrics"])
def test_type_checkers_see_the_lazy_names(package: str) -> None:
    module = import_module(package)
    assert type_checking_names(module) == set(module.__all__)


def test_names_are_those_of_their_homes() -> None:
    from softiou.losses import JaccardMetricLoss
    from softiou.overlap import overlap_statistics

    assert softiou.JaccardMetricLoss is JaccardMetricLoss
    assert softiou.overlap_statistics is overlap_statistics


def test_unknown_names_raise() -> None:
    with pytest.raises(AttributeError, match=r"'softiou' has no attribute 'nothing'"):
        softiou.nothing  # noqa: B018


def test_import_softiou_loads_the_standard_library_alone() -> None:
    done = run(
        "import sys; before = set(sys.modules); import softiou; softiou.__version__, dir(softiou);"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) - set(sys.stdlib_module_names) == {"softiou"}


def test_losses_need_torch_alone() -> None:
    done = run(
        f"""{REFUSE}
import torch
from softiou import JaccardMetricLoss, OverlapStatistics, overlap_statistics, targets
logits, target = torch.zeros(1, 2, 4, requires_grad=True), torch.tensor([[0, 1, 1, 0]])
JaccardMetricLoss(cross_entropy=0.25)(logits, targets.HardTarget(target)).backward()
print(logits.grad.shape)
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "torch.Size([1, 2, 4])\n"


def test_metrics_need_torchmetrics() -> None:
    """And the refusal above refuses."""
    done = run(f"{REFUSE}\nfrom softiou.metrics import METRICS, MeanIoU")
    assert done.returncode == 1
    assert "ModuleNotFoundError: refused: torchmetrics" in done.stderr
