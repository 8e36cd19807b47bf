"""PNG pictures of confusion matrices, one beside the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

_NUMBERED = 20  # most classes whose cells show their percentages
_INCHES = 0.42  # of a cell with a number


def draw_confusion(path: Path, matrices: dict[str, np.ndarray], classes: Sequence[str]) -> None:
    """Draw the confusion matrix of each network, all in one colour scale.

    Parameters
    ----------
    path : Path
        PNG file to write.
    matrices : dict of str to ndarray, shape (classes, classes)
        Network -> shares of each true class (row) that are taken for each class (column), in [0, 1].
    classes : sequence of str
    """
    from matplotlib.figure import Figure

    side = 2.2 + len(classes) * (_INCHES if len(classes) <= _NUMBERED else _INCHES / 3)
    figure = Figure(figsize=(side * len(matrices), side), layout="constrained")
    axes = figure.subplots(1, len(matrices), squeeze=False)[0]
    size = 7 if len(classes) <= _NUMBERED else 4
    for axis, (name, shares) in zip(axes, matrices.items(), strict=True):
        drawn = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axis.set(title=name, xlabel="taken for", ylabel="true class")
        axis.set_xticks(range(len(classes)), classes, rotation=90, fontsize=size)
        axis.set_yticks(range(len(classes)), classes, fontsize=size)
        if len(classes) <= _NUMBERED:
            for row, column in zip(*np.nonzero(shares), strict=True):
                share = shares[row, column]
                colour = "white" if share > 0.5 else "black"
                axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6, color=colour)
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="share of the true class")
    figure.savefig(path, dpi=100, format="png")
