"""Recognition of a video's class: the mean softmax of its clips, and who is taken for whom."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openavc.inference.batches import inference_of, prepared_audio, prepared_frames, stacked, to_numpy
from openavc.models.contract import Classifies

from ...corpora.shards import Shards
from ..datasets.labelled_videos import LabelledVideo, spread_clips


def class_probabilities(model: Classifies, shards: Shards, videos: Sequence[LabelledVideo], clips: int) -> np.ndarray:
    """Average a network's softmax over up to `clips` clips of each video: (videos, classes), rows sum to 1."""
    rows = []
    for video in videos:
        frames, samples = zip(*spread_clips(shards, video, model, clips), strict=True)
        with inference_of(model):
            seen = prepared_frames(model, stacked(model, [model.precompute_frames(clip) for clip in frames]))
            heard = prepared_audio(model, stacked(model, list(samples)))
            rows.append(model.classify(seen, heard).float().softmax(dim=1).mean(dim=0))
    return to_numpy(rows, model)


def confusion(targets: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count how often each class is taken for each, as shares of its videos.

    Parameters
    ----------
    targets, predicted : ndarray of int, shape (videos,)
    classes : int

    Returns
    -------
    shares : ndarray, shape (classes, classes)
        Rows are true classes, and sum to 1, or to 0 for classes without videos; columns are predictions.
    """
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(targets, predicted, labels=np.arange(classes), normalize="true")
