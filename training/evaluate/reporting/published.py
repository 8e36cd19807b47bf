"""Figures that the papers print, to compare ours with, each with its source and how certain it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .tables import table

L3 = "L3, arXiv 1705.08168"
OTS = "OTS, arXiv 1712.06651"
AVTS = "AVTS, arXiv 1807.00230"
AVID = "AVID, arXiv 2004.12943"
XDC = "XDC, arXiv 1911.12667"
GDT = "GDT, arXiv 2003.04298"
CAV_MAE = "CAV-MAE, arXiv 2210.07839"
LVS = "LVS, arXiv 2104.02691"
EZ_VSL = "EZ-VSL, arXiv 2203.09324"
SLAVC = "SLAVC, arXiv 2209.09634"
MULTISENSORY = "Multisensory, arXiv 1804.03641"

READ = "read in the paper"
QUOTED = "quoted by others"
RECALLED = "well known, not read again"
AUTHORS = "authors' repository"
UNSURE = "unsure"


@dataclass(frozen=True)
class Published:
    """One row of a paper's table."""

    method: str
    values: dict[str, float]  # column -> figure; percent, except nDCG and NMI
    source: str
    sure: str


def _rows(column: str, *rows: tuple[str, float, str, str]) -> list[Published]:
    return [Published(method, {column: value}, source, sure) for method, value, source, sure in rows]


ESC50 = _rows(
    "ESC-50",
    ("human", 81.3, "Piczak 2015", QUOTED),
    ("SVM on MFCCs", 39.6, L3, RECALLED),
    ("random forest", 44.3, L3, RECALLED),
    ("Piczak's ConvNet", 64.5, L3, RECALLED),
    ("SoundNet", 74.2, L3, QUOTED),
    ("L3-Net, random weights", 62.5, L3, QUOTED),
    ("L3-Net, Flickr-SoundNet 500k", 79.3, L3, QUOTED),
    ("L3-Net of Objects that Sound", 79.8, OTS, READ),
    ("AVTS, no pretraining", 61.6, AVTS, RECALLED),
    ("AVTS, Kinetics", 76.7, AVTS, RECALLED),
    ("AVTS, AudioSet", 80.6, AVTS, RECALLED),
    ("AVTS, SoundNet 2M", 82.3, AVTS, QUOTED),
    ("OpenL3 mel256 music", 79.8, "OpenL3, ICASSP 2019", UNSURE),
    ("OpenL3, frozen + MLP", 75.1, "HEAR 2021", RECALLED),
    ("DMC, Flickr-SoundNet", 82.6, "DMC, CVPR 2019", QUOTED),
    ("XDC, AudioSet", 84.8, XDC, QUOTED),
    ("GDT, AudioSet", 88.5, GDT, QUOTED),
    ("MMV-FAC, AudioSet + HowTo100M", 88.9, "MMV, arXiv 2006.16228", QUOTED),
    ("AVID, AudioSet", 89.2, AVID, QUOTED),
    ("CrissCross, AudioSet", 90.5, "CrissCross, AAAI 2023", RECALLED),
)

DCASE2014 = _rows(
    "DCASE2014",
    ("RG", 69, L3, QUOTED),
    ("LTT", 72, L3, QUOTED),
    ("RNH", 77, L3, QUOTED),
    ("ensemble", 78, L3, QUOTED),
    ("SoundNet", 88, L3, QUOTED),
    ("L3-Net, random weights", 85, L3, QUOTED),
    ("L3-Net, Flickr-SoundNet 500k", 93, L3, QUOTED),
    ("AVTS, no pretraining", 72, AVTS, RECALLED),
    ("AVTS, Kinetics", 91, AVTS, RECALLED),
    ("AVTS, AudioSet", 93, AVTS, RECALLED),
    ("AVTS, SoundNet 2M", 94, AVTS, RECALLED),
    ("XDC, AudioSet", 95, XDC, RECALLED),
    ("AVID, AudioSet", 96, AVID, RECALLED),
    ("CrissCross, AudioSet", 97, "CrissCross, AAAI 2023", RECALLED),
    ("GDT, AudioSet", 98, GDT, RECALLED),
)

AVC = [
    Published("supervised direct combination", {"Kinetics-Sounds": 65}, L3, QUOTED),
    Published("supervised pretraining", {"Kinetics-Sounds": 74}, L3, QUOTED),
    Published("L3-Net", {"Flickr-SoundNet": 78, "Kinetics-Sounds": 74}, L3, QUOTED),
    Published("L3-Net of Objects that Sound", {"AudioSet-Instruments": 80.8}, OTS, READ),
    Published("AVE-Net", {"AudioSet-Instruments": 81.9}, OTS, READ),
    Published("AVTS, curriculum, easy negatives", {"Kinetics": 78.4}, AVTS, RECALLED),
]

TABLE1 = [
    replace(row, values={"Kinetics-Sounds": row.values["Kinetics-Sounds"]})
    for row in AVC
    if "Kinetics-Sounds" in row.values
]

AVTS_SCHEMES = _rows(
    "Kinetics, accuracy",
    ("single stage, easy", 69.0, AVTS, RECALLED),
    ("single stage, easy and hard", 58.9, AVTS, RECALLED),
    ("curriculum, easy", 67.2, AVTS, RECALLED),
    ("curriculum, easy and hard", 78.4, AVTS, RECALLED),
    ("curriculum, hard", 65.7, AVTS, RECALLED),
)

_QUERIES = ("im-im nDCG@30", "im-aud nDCG@30", "aud-im nDCG@30", "aud-aud nDCG@30")
_RECALLS = ("im-aud R@1", "im-aud R@5", "im-aud R@10", "aud-im R@1", "aud-im R@5", "aud-im R@10")
RETRIEVAL = [
    Published(method, dict(zip(columns, values, strict=False)), source, sure)
    for method, columns, values, source, sure in (
        ("chance, AudioSet-Instruments", _QUERIES, (0.407,) * 4, OTS, READ),
        ("L3-Net, AudioSet-Instruments", _QUERIES, (0.567, 0.418, 0.385, 0.653), OTS, READ),
        ("L3-Net with CCA, AudioSet-Instruments", _QUERIES, (0.578, 0.531, 0.560, 0.649), OTS, READ),
        ("VGG16 of ImageNet, AudioSet-Instruments", _QUERIES, (0.600,), OTS, READ),
        ("VGG16 and L3-Net's sound with CCA, AudioSet-Instruments", _QUERIES, (0.493, 0.458, 0.464, 0.618), OTS, READ),
        ("AVE-Net, AudioSet-Instruments", _QUERIES, (0.604, 0.561, 0.587, 0.665), OTS, READ),
        ("CAV-MAE, AudioSet, about 1,500 clips", _RECALLS, (18.8, 39.5, 50.1, 15.1, 34.0, 43.0), CAV_MAE, RECALLED),
        ("CAV-MAE, VGGSound, about 1,500 clips", _RECALLS, (14.8, 34.2, 44.0, 12.8, 30.4, 40.3), CAV_MAE, RECALLED),
    )
]
NDCG = [row for row in RETRIEVAL if row.source == OTS]

IMAGENET = _rows(
    "ImageNet top-1",
    ("random AlexNet", 18.3, L3, RECALLED),
    ("Pathak", 22.3, L3, RECALLED),
    ("Krahenbuhl", 24.5, L3, RECALLED),
    ("Donahue", 31.0, L3, RECALLED),
    ("Doersch", 31.7, L3, QUOTED),
    ("Zhang, colorization", 32.6, L3, QUOTED),
    ("Noroozi and Favaro", 34.7, L3, QUOTED),
    ("L3-Net, random weights", 12.9, L3, QUOTED),
    ("L3-Net, Flickr-SoundNet 500k", 32.3, L3, QUOTED),
)

UNITS = [
    Published(f"L3-Net, {kind}", dict(zip(columns, values, strict=True)), L3, QUOTED)
    for columns in [("image NMI", "audio NMI", "image class units", "audio class units")]
    for kind, values in (("random weights", (0.204, 0.219, 1, 1)), ("trained", (0.409, 0.330, 10, 11)))
]

_VGG_SS = ("VGG-SS cIoU@0.5", "VGG-SS AUC")
_FLICKR = ("Flickr cIoU@0.5", "Flickr AUC")
_BOTH = _VGG_SS + _FLICKR
_NEGATIVES = ("Ext. VGG-SS AP", "Ext. VGG-SS max F1", "Ext. Flickr AP", "Ext. Flickr max F1")
LOCALIZATION = [
    Published(method, dict(zip(columns, values, strict=True)), source, sure)
    for method, columns, values, source, sure in (
        ("always the centre", ("highest place",), (57.2,), OTS, QUOTED),
        ("AVOL-Net, AudioSet-Instruments", ("highest place",), (81.7,), OTS, QUOTED),
        ("Attention10k, 144k videos", _BOTH, (18.5, 30.2, 66.0, 55.8), "Senocak, CVPR 2018", RECALLED),
        ("LVS, 144k videos of each", _BOTH, (34.4, 38.2, 69.9, 57.3), LVS, RECALLED),
        ("EZ-VSL + OGL, VGGSound 144k", _BOTH, (38.85, 39.54, 83.94, 63.60), EZ_VSL, AUTHORS),
        ("SLAVC, VGGSound 144k", _NEGATIVES, (32.95, 40.00, 51.63, 59.10), SLAVC, AUTHORS),
        ("FNAC, VGGSound 144k", _VGG_SS, (39.50, 39.66), "FNAC, CVPR 2023", AUTHORS),
        ("Alignment, VGGSound 144k", (_VGG_SS[0], _FLICKR[0]), (39.94, 85.20), "Senocak, ICCV 2023", AUTHORS),
        ("ACL-SSL (CLIP, BEATs), VGGSound 144k", _BOTH, (49.46, 46.32, 80.80, 64.62), "ACL-SSL, WACV 2024", QUOTED),
        ("SOUPLE, 50 epochs", (*_VGG_SS, _FLICKR[0]), (54.76, 49.40, 83.60), "SOUPLE, CVPR 2026", QUOTED),
    )
]


ACTIONS = _rows(
    "UCF-101, split 1",
    ("Shuffle and Learn", 50.9, MULTISENSORY, RECALLED),
    ("O3N", 60.3, MULTISENSORY, RECALLED),
    ("Multisensory", 82.1, MULTISENSORY, QUOTED),
    ("Multisensory, spectrograms", 81.1, MULTISENSORY, RECALLED),
    ("Multisensory, random pairing", 78.7, MULTISENSORY, QUOTED),
    ("Multisensory, vision only", 77.6, MULTISENSORY, RECALLED),
    ("Multisensory, from scratch", 68.1, MULTISENSORY, RECALLED),
    ("I3D-RGB, from scratch", 68.1, MULTISENSORY, RECALLED),
    ("I3D-RGB, ImageNet", 84.2, MULTISENSORY, QUOTED),
    ("I3D-RGB, ImageNet and Kinetics", 94.5, MULTISENSORY, QUOTED),
)


def published_table(rows: list[Published]) -> str:
    """Format the papers' rows as text, with their source and how certain they are."""
    columns = dict.fromkeys(column for row in rows for column in row.values)
    cells = {
        row.method: {column: f"{row.values[column]:g}" if column in row.values else "" for column in columns}
        | {"source": row.source, "how sure": row.sure}
        for row in rows
    }
    return table("published", cells)
