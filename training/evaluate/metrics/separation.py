"""How well mixtures are separated: SDR, SIR and SAR of both parts in dB (Vincent et al., 2006), by mir_eval."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from openavc.inference.separation import separate_windows
from openavc.media.windows import Window
from openavc.models.contract import Separates

from ..datasets.mixtures import Mixture
from .bootstrap import interval

PARTS = ("on screen", "off screen")
KINDS = ("SDR", "SIR", "SAR")


@dataclass(frozen=True)
class Separated:
    """Figures of some mixtures, in dB: (mixtures, 3 kinds, 2 parts)."""

    figures: np.ndarray
    sources: np.ndarray  # (mixtures,) videos on screen, which are resampled whole

    def mean(self, kind: str, part: str) -> float:
        """Return the mean over all mixtures."""
        return float(self.figures[:, KINDS.index(kind), PARTS.index(part)].mean())

    def gain(self, mixture: Separated, part: str, seed: int) -> tuple[float, float, float]:
        """Return by how much the SDR is above the mixture's own, and the bounds of its 95 % interval."""
        gained = (self.figures - mixture.figures)[:, 0, PARTS.index(part)]
        return float(gained.mean()), *interval(gained, self.sources, seed)


def bss(sounds: np.ndarray, parts: np.ndarray, any_order: bool = False) -> np.ndarray:
    """Compare two parts with the two sounds that they should be.

    Parameters
    ----------
    sounds, parts : ndarray, shape (2, n)
    any_order : bool
        Whether the parts may be exchanged if that is better.

    Returns
    -------
    figures : ndarray, shape (3, 2)
        SDR, SIR and SAR of each sound, in dB.
    """
    from mir_eval import separation

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the next release of mir_eval will lack it
        *figures, _ = separation.bss_eval_sources(sounds, parts, compute_permutation=any_order)
    return np.stack(figures)


def measure(models: dict[str, Separates], mixtures: Iterable[Mixture]) -> dict[str, Separated]:
    """Measure each model, and the "mixture" itself in place of both parts, on the same mixtures.

    A model that doesn't see may have its parts in either order.
    """
    figures: dict[str, list[np.ndarray]] = {name: [] for name in ("mixture", *models)}
    sources = []
    for mixture in mixtures:
        mixed, sounds = mixture.sounds.sum(axis=0), mixture.sounds.mean(axis=2)
        figures["mixture"].append(bss(sounds, np.repeat(sounds.sum(axis=0)[None], 2, axis=0)))
        for name, model in models.items():
            (parts,) = separate_windows(model, iter([Window(mixture.frames, mixed)]))
            figures[name].append(bss(sounds, parts.T, model.blind))
        sources.append(mixture.source)
    return {name: Separated(np.stack(rows), np.array(sources)) for name, rows in figures.items()}
