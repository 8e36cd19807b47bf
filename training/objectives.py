"""Objectives of training: the papers' losses, and a contrastive one of ours.

An objective takes the model and a batch of pairs and returns the loss and the share of right answers. `negative_share`
is the share of labelled negatives that it requires among the pairs; 0 if it makes its own from the other pairs of the
batch. `needs` lists the capabilities (`openavc.models.contract`) that a network must have. Every objective takes
`windows_per_clip`, the number of neighbouring pairs of the batch that come from one clip.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openavc.models.contract import (
    AudioVisualModel,
    Classifies,
    Compares,
    HasSimilarity,
    HasStreams,
    Localizes,
    Separates,
)
from openavc.models.layers import pair_distances
from openavc.models.separation import to_level

from . import distributed

_LEAST_ENERGY = 1e-8  # of a sound and of a difference, so that silence and equality have an SDR


class Objective(nn.Module):
    """A loss, and the share of right answers, of a model on a batch of pairs."""

    negative_share = 0.0
    drawn = 0  # negatives drawn for each true pair, as the recipe's negatives say
    needs: tuple[type[AudioVisualModel], ...] = (Compares,)
    takes_classes = False  # whether items of one class are never each other's negatives

    def forward(
        self, model: AudioVisualModel, frames: Tensor, spectrogram: Tensor, batch: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the loss and the share of right answers, given the output of `prepare_frames` and `prepare_audio`."""
        raise NotImplementedError

    @classmethod
    def refusal(cls, model: AudioVisualModel) -> str:
        """Return what a model lacks for this objective, in words; empty if nothing."""
        lacking = [kind.__name__ for kind in cls.needs if not isinstance(model, kind)]
        return f"it isn't {' and '.join(lacking)}" if lacking else ""


class Correspondence(Objective):
    """Cross-entropy of the network's own decision whether picture and sound belong together.

    For L3-Net it is the two-way softmax of the fusion layers (L3 paper, section 2), for AVE-Net that of the scaled and
    shifted distance (Objects that Sound, section 3.2), and for AVOL-Net the logistic loss of the maximum over the map
    (section 4), whose logits are (0, z): their softmax is the sigmoid of z.
    """

    negative_share = 0.5

    def __init__(self, windows_per_clip: int = 1):
        super().__init__()

    def forward(
        self, model: Compares, frames: Tensor, spectrogram: Tensor, batch: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the loss and the share of pairs decided correctly."""
        logits, label = model(frames, spectrogram).float(), batch["label"]  # (B, 2), (B,)
        return F.cross_entropy(logits, label), (logits.argmax(dim=1) == label).float().mean()


class Contrastive(Objective):
    """Symmetric InfoNCE over the pairs of all processes; ours, in neither paper.

    Each picture must find its sound among all sounds of the batch, and vice versa, by the network's `similarity`
    divided by a learned temperature. If the corpus comes in groups (`grouped` in a recipe's [data]), only sounds of its
    own group are searched. The network's own two-way decision is also fitted, on true pairs and as many pairs of
    neighbouring clips, without moving the embeddings, so that scores are probabilities at even odds.
    With gradient accumulation the negatives come from the same part of the batch.

    Pairs by class (`by_class` in a recipe's [data]) need `same_class`: with "positive" each picture must find all
    sounds of its class, by the mean of their cross-entropies (Khosla et al. 2020, arXiv 2004.11362, equation 2, here
    between pictures and sounds); with "ignored" only its own, and the others of its class aren't compared. The decision
    is then fitted on sounds of other classes. With `classes`, each picture and each sound must also find the prototype
    of its class, a learned vector of the joint space, among those of all classes; that draws both towers to the same
    places from the start, when neither has anything yet to tell the other.

    Parameters
    ----------
    temperature : float
        Initial value.
    distractors : bool
        Whether pictures also search among silence and white noise, to learn that neither is their own sound.
    same_class : {None, "positive", "ignored"}
        What pairs of one class are to each other; None: negatives, as all others.
    classes : int, optional
        Number of classes, for their prototypes; needs `same_class`.
    features : int
        Dimensions of the joint space, whose vectors the prototypes are.
    windows_per_clip : int
        Number of neighbouring pairs from one clip.

    Raises
    ------
    ValueError
        If `same_class` is something else, or `classes` is given without it.
    """

    needs = (Compares, HasSimilarity)

    def __init__(
        self,
        temperature: float = 0.1,
        distractors: bool = False,
        same_class: str | None = None,
        classes: int | None = None,
        features: int = 128,
        windows_per_clip: int = 1,
    ):
        super().__init__()
        if same_class not in (None, "positive", "ignored"):
            raise ValueError(f"same_class must be 'positive' or 'ignored', or left out, got {same_class!r}")
        if classes and not same_class:
            raise ValueError("with classes, same_class must say what pairs of one class are to each other")
        self.prototypes = nn.Parameter(F.normalize(torch.randn(classes, features), dim=1)) if classes else None
        self.same_class, self.takes_classes = same_class, same_class is not None
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.distractors = distractors
        self.shift = windows_per_clip  # from a pair to one of another clip

    def forward(
        self, model: HasSimilarity, frames: Tensor, spectrogram: Tensor, batch: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the loss, and the share of pictures that find their sound."""
        if self.distractors:
            spectrogram = torch.cat([spectrogram, model.prepare_audio(silence_and_noise(model)).to(spectrogram)])
        frames, audio = model.represent_frames(frames), model.represent_audio(spectrogram)  # (B, D) or (B, D, H, W)
        audio, strange = audio[: len(frames)], audio[len(frames) :]
        with torch.autocast(frames.device.type, enabled=False):  # which would round similarities to 8 bits
            frames, audio, strange = frames.float(), audio.float(), strange.float()
            all_frames, all_audio = distributed.gather(frames), distributed.gather(audio)  # of all processes
            others = batch["group"][:, None] != distributed.gather(batch["group"])  # (B, world * B)
            by_frames = torch.cat([model.similarity(frames, all_audio), model.similarity(frames, strange)], dim=1)
            by_audio = model.similarity(all_frames, audio).T
            if self.same_class:
                classes = distributed.gather(batch["target"])
                same = batch["target"][:, None] == classes  # (B, world * B)
                contrast, right = self.contrast(by_frames, by_audio, others, same)
                exist, chosen = of_other_classes(classes)
                other, known = all_audio.detach()[chosen], distributed.own_rows(exist)
                if self.prototypes is not None:
                    contrast = contrast + self._among_prototypes(model, frames, audio, batch["target"])
            else:
                contrast, right = self.contrast(by_frames, by_audio, others)
                other, known = all_audio.detach().roll(self.shift, dims=0), None
            decision = self._decision(model, frames.detach(), audio.detach(), distributed.own_rows(other), known)
            return contrast + decision, right

    def contrast(
        self, by_frames: Tensor, by_audio: Tensor, others: Tensor, same: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Measure how well pictures and sounds find their partners.

        Parameters
        ----------
        by_frames : Tensor, shape (B, world * B) or more columns
            Similarity of this process's pictures to the sounds of all processes, and to distractors in further columns.
        by_audio : Tensor, shape (B, world * B)
            Similarity of this process's sounds to the pictures of all processes.
        others : Tensor of bool, shape (B, world * B)
            True where the two are of different groups, and so aren't compared.
        same : Tensor of bool, shape (B, world * B), optional
            True where the two are of one class.

        Returns
        -------
        loss : Tensor
            Mean cross-entropy of both directions.
        right : Tensor
            Share of pictures that find their sound, or one of their class.
        """
        target = torch.arange(len(by_frames), device=by_frames.device) + distributed.rank() * len(by_frames)
        partners = F.one_hot(target, others.shape[1]).bool()
        if same is not None and self.same_class == "positive":
            partners = same & ~others
        elif same is not None:
            others = others | (same & ~partners)
        scale, more = self._scale(), by_frames.shape[1] - others.shape[1]
        by_frames = (scale * by_frames).masked_fill(F.pad(others, (0, more)), -math.inf)
        by_audio = (scale * by_audio).masked_fill(others, -math.inf)
        found = F.pad(partners, (0, more)).gather(1, by_frames.argmax(dim=1, keepdim=True))
        if same is None:
            loss = (F.cross_entropy(by_frames, target) + F.cross_entropy(by_audio, target)) / 2
        else:
            loss = (find_partners(by_frames, F.pad(partners, (0, more))) + find_partners(by_audio, partners)) / 2
        return loss, found.float().mean()

    def _among_prototypes(self, model: HasSimilarity, frames: Tensor, audio: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy with which pictures and sounds find the prototypes of their classes."""
        prototypes, scale = F.normalize(self.prototypes, dim=1), self._scale()
        found_by_frames = scale * model.similarity(frames, prototypes)
        found_by_audio = scale * model.similarity(prototypes, audio).T
        return (F.cross_entropy(found_by_frames, target) + F.cross_entropy(found_by_audio, target)) / 2

    def _scale(self) -> Tensor:
        """Return the inverse of the temperature."""
        return self.log_scale.clamp(max=math.log(100)).exp()

    def _decision(self, model: Compares, frames: Tensor, audio: Tensor, other: Tensor, known: Tensor | None) -> Tensor:
        """Fit the decision on pairs and on others; pairs are left out of which it isn't `known` that others differ."""
        logits = model.compare(torch.cat([frames, frames]), torch.cat([audio, other])).float()
        label = torch.arange(2, device=frames.device).flip(0).repeat_interleave(len(frames))  # 1s, then 0s
        if known is None:
            return F.cross_entropy(logits, label)
        weights = known.float().repeat(2)
        return (F.cross_entropy(logits, label, reduction="none") * weights).sum() / weights.sum().clamp(min=1)


def find_partners(logits: Tensor, partners: Tensor) -> Tensor:
    """Return the mean over rows (B, N) of the mean cross-entropy of a row's partners, of which it has at least one."""
    chances = logits.log_softmax(dim=1).masked_fill(~partners, 0)
    return -(chances.sum(dim=1) / partners.sum(dim=1)).mean()


def of_other_classes(classes: Tensor) -> tuple[Tensor, Tensor]:
    """Choose for each item of a batch the last one before it, in a circle, of another class.

    Parameters
    ----------
    classes : Tensor of int, shape (B,)

    Returns
    -------
    exist : Tensor of bool, shape (B,)
        False only if all are of one class.
    chosen : Tensor of int, shape (B,)
    """
    number = torch.arange(len(classes), device=classes.device)
    circle = (number[:, None] - number) % len(classes)  # from each item back
    different = classes[circle] != classes[:, None]
    steps = number.expand_as(different).masked_fill(~different, len(classes)).amin(dim=1)
    return steps < len(classes), (number - steps) % len(classes)


class Margin(Objective):
    """The contrastive loss of AVTS (section 3.2): true pairs are drawn together, others apart as far as a margin.

    E is the mean of d^2 over true pairs and of max(margin - d, 0)^2 over others, d the Euclidean distance of what
    represents frames and sound. The network's own two-way decision is also fitted, without moving these, so that scores
    are probabilities at even odds; it stands for the paper's decision by the distance, which it doesn't describe.

    Parameters
    ----------
    margin : float
        0.99 in the paper.
    windows_per_clip : int
        Number of neighbouring pairs from one clip.

    Raises
    ------
    ValueError
        If the margin isn't above 0.
    """

    negative_share = 0.5
    needs = (Compares, HasSimilarity)

    def __init__(self, margin: float = 0.99, windows_per_clip: int = 1):
        super().__init__()
        if not margin > 0:
            raise ValueError(f"margin must be a distance above 0, got {margin!r}")
        self.margin = margin

    @classmethod
    def refusal(cls, model: AudioVisualModel) -> str:
        """Return what a model lacks; one that localizes has a vector for each cell of a map, none for the picture."""
        return super().refusal(model) or refused_maps(model)

    def forward(
        self, model: HasSimilarity, frames: Tensor, spectrogram: Tensor, batch: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the loss, and the share of pairs that the network decides correctly."""
        seen, heard = model.represent_frames(frames), model.represent_audio(spectrogram)  # (B, D) each
        with torch.autocast(frames.device.type, enabled=False):  # which would round distances to 8 bits
            seen, heard, label = seen.float(), heard.float(), batch["label"]
            distance = pair_distances(seen, heard)
            true = label.to(distance.dtype)
            loss = (true * distance.square() + (1 - true) * (self.margin - distance).clamp(min=0).square()).mean()
            logits = model.compare(seen.detach(), heard.detach()).float()
        return loss + F.cross_entropy(logits, label), (logits.argmax(dim=1) == label).float().mean()


def refused_maps(model: AudioVisualModel) -> str:
    """Say that a network has a vector for each cell of a map, if it has none for the picture; else empty."""
    return "it represents pictures by maps" if isinstance(model, Localizes) else ""


def silence_and_noise(model: AudioVisualModel) -> Tensor:
    """Make a window of silence, and one of white noise at a random -80 to -20 dBFS: (2, n, channels)."""
    shape = model.sound.samples, model.sound.channels
    noise = torch.randn(shape, device=model.device) * 10 ** (-4 + 3 * torch.rand((), device=model.device))
    return torch.stack([torch.zeros_like(noise), noise])


class Classification(Objective):
    """Cross-entropy of the clip's label for each tower, through a linear layer: supervised baselines of L3's Table 1.

    Parameters
    ----------
    classes : int
        Number of labels in the corpus.
    features : int
        Size of the towers' representations.
    """

    takes_classes = True

    def __init__(self, classes: int, features: int, windows_per_clip: int = 1):
        super().__init__()
        self.image_classifier = nn.Linear(features, classes)
        self.audio_classifier = nn.Linear(features, classes)

    @classmethod
    def refusal(cls, model: AudioVisualModel) -> str:
        """Return what a model lacks; one that localizes has a vector for each cell of a map, none for the picture."""
        return super().refusal(model) or refused_maps(model)

    def forward(
        self, model: Compares, frames: Tensor, spectrogram: Tensor, batch: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the sum of both towers' losses, and the mean of their accuracies."""
        target = batch["target"]
        by_frames = self.image_classifier(model.represent_frames(frames)).float()  # (B, classes)
        by_audio = self.audio_classifier(model.represent_audio(spectrogram)).float()
        right = (by_frames.argmax(dim=1) == target).float() + (by_audio.argmax(dim=1) == target).float()
        return F.cross_entropy(by_frames, target) + F.cross_entropy(by_audio, target), right.mean() / 2


class Recognition(Objective):
    """Cross-entropy of the clip's class, by the network's own softmax over its classes (Multisensory, section 5)."""

    needs = (Classifies,)

    def __init__(self, windows_per_clip: int = 1):
        super().__init__()

    def forward(
        self, model: Classifies, frames: Tensor, spectrogram: Tensor, batch: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the loss and the share of clips recognised."""
        logits, target = model(frames, spectrogram).float(), batch["target"]  # (B, classes), (B,)
        return F.cross_entropy(logits, target), (logits.argmax(dim=1) == target).float().mean()


class Synchronization(Objective):
    """Cross-entropy of the decision whether sound and frames are in step, each clip with its own sound and others.

    Multisensory (section 3): each clip is seen with its own sound and with one from another time, which share the work
    on the frames. More negatives, and the choice among all, are ours.

    Parameters
    ----------
    negatives : int
        Sounds beside each clip's own; 1 in the paper.
    choice : float
        Weight of the cross-entropy by which frames choose their own sound among all of them; 0 in the paper.
    windows_per_clip : int
        Number of neighbouring pairs from one clip.

    Raises
    ------
    ValueError
        If there is no negative, or the weight is below 0.
    """

    def __init__(self, negatives: int = 1, choice: float = 0.0, windows_per_clip: int = 1):
        super().__init__()
        if not choice >= 0:
            raise ValueError(f"choice must be a weight of at least 0, got {choice!r}")
        self.drawn, self.choice = check_negatives(negatives), choice

    def forward(
        self, model: Compares, frames: Tensor, spectrogram: Tensor, batch: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the loss, and the mean share of true and of shifted pairs decided correctly."""
        sounds = with_negatives(model, spectrogram, batch)  # (B, 1 + K, ...)
        audio = model.represent_audio(sounds.flatten(0, 1))
        seen = model.represent_frames(frames).repeat_interleave(sounds.shape[1], dim=0)
        logits = model.compare(seen, audio).float().diff(dim=1).unflatten(0, sounds.shape[:2])[..., 0]  # (B, 1 + K)
        own, shifted = logits[:, 0], logits[:, 1:]
        loss = (F.softplus(-own).mean() + F.softplus(shifted).mean()) / 2
        if self.choice:
            loss = loss + self.choice * F.cross_entropy(logits, torch.zeros_like(own, dtype=torch.long))
        return loss, ((own > 0).float().mean() + (shifted < 0).float().mean()) / 2


class Alignment(Objective):
    """Cross-entropy by which the frames' stream finds its own sound among others, before the two are fused; ours.

    A network that fuses sound and frames learns slowly what of them belongs together. This objective teaches its two
    streams first: their maps are projected, compared at each time, where in the picture they fit best, and the mean
    over all times decides. What a stream knows of the position in the clip, from padding, is the same for all sounds.

    Parameters
    ----------
    channels : list of 2 int
        Channels of the frames' maps and of the sound's.
    size : int
        Of the projections.
    negatives : int
        Sounds beside each clip's own.
    windows_per_clip : int
        Number of neighbouring pairs from one clip.

    Raises
    ------
    ValueError
        If there is no negative.
    """

    needs = (HasStreams,)

    def __init__(self, channels: list[int], size: int = 64, negatives: int = 7, windows_per_clip: int = 1):
        super().__init__()
        self.drawn = check_negatives(negatives)
        self.of_frames = nn.Conv3d(channels[0], size, 1)
        self.of_sound = nn.Conv1d(channels[1], size, 1)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))  # of similarities, which are cosines
        self.log_weight = nn.Parameter(torch.tensor(0.0))  # of their mean over time

    def forward(
        self, model: HasStreams, frames: Tensor, spectrogram: Tensor, batch: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the loss, and the share of clips that find their own sound."""
        sounds = with_negatives(model, spectrogram, batch)  # (B, 1 + K, ...)
        seen = self.of_frames(model.represent_frames(frames))
        heard = self.of_sound(model.represent_audio(sounds.flatten(0, 1))).unflatten(0, sounds.shape[:2])
        with torch.autocast(frames.device.type, enabled=False):  # which would round similarities to 8 bits
            seen, heard = F.normalize(seen.float(), dim=1), F.normalize(heard.float(), dim=2)
            scale = self.log_scale.clamp(max=math.log(100)).exp()
            places = scale * torch.einsum("bdtp,bkdt->bktp", seen.flatten(3), heard)
            logits = self.log_weight.exp() * places.logsumexp(dim=3).mean(dim=2)  # (B, 1 + K)
        own = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        return F.cross_entropy(logits, own), (logits.argmax(dim=1) == own).float().mean()


def check_negatives(negatives: int) -> int:
    """Return a number of negatives; raise ValueError unless it is a whole number of at least 1."""
    if type(negatives) is not int or negatives < 1:
        raise ValueError(f"negatives must be a whole number of at least 1, got {negatives!r}")
    return negatives


def with_negatives(model: AudioVisualModel, spectrogram: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Join the prepared sounds (B, ...) of clips and of the negatives that were drawn for each: (B, 1 + K, ...)."""
    negatives = batch["negatives"]  # (B, K, samples, channels)
    others = model.prepare_audio(negatives.flatten(0, 1)).unflatten(0, negatives.shape[:2])
    return torch.cat([spectrogram[:, None].to(others), others], dim=1)


class Separation(Objective):
    """Distance of the predicted parts from the two sounds that were mixed: each clip's own and another.

    Multisensory (section 3.4): the clip is on screen, a drawn sound is off screen, and both are as loud.

    Parameters
    ----------
    compared : {"spectrograms", "waveforms"}
        By the L1 distance of magnitudes and phases, as in the paper, or, ours, by minus the SDR in dB: 10 log10 of the
        energy of a sound over that of its difference from the part.
    scale_invariant : bool
        Whether a sound is first brought to the level at which the part fits it best, as in the SDR that is measured.
        Otherwise a part that isn't sure of anything does best at half of its level, or less.
    permutation_invariant : bool or "both"
        Whether either part may be the one on screen, so that the nearer assignment counts, as for networks that see
        nothing; "both" adds the two losses up (the paper's "on/off + PIT").
    phase_weight : float
        Weight of the distance of phases, beside that of magnitudes, where spectrograms are compared.
    windows_per_clip : int
        Number of neighbouring pairs from one clip.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    drawn = 1  # the sound off screen
    needs = (Separates,)

    def __init__(
        self,
        permutation_invariant: bool | str = False,
        compared: str = "spectrograms",
        scale_invariant: bool = False,
        phase_weight: float = 0.01,
        windows_per_clip: int = 1,
    ):
        super().__init__()
        if compared not in ("spectrograms", "waveforms"):
            raise ValueError(f"compared must be 'spectrograms' or 'waveforms', got {compared!r}")
        if scale_invariant and compared != "waveforms":
            raise ValueError(f"scale_invariant must be false unless waveforms are compared, got {compared!r}")
        if permutation_invariant not in (False, True, "both"):
            raise ValueError(f"permutation_invariant must be true, false or 'both', got {permutation_invariant!r}")
        if not phase_weight >= 0:
            raise ValueError(f"phase_weight must be at least 0, got {phase_weight!r}")
        self.permutation_invariant, self.compared = permutation_invariant, compared
        self.scale_invariant, self.phase_weight = scale_invariant, phase_weight

    def forward(
        self, model: Separates, frames: Tensor, spectrogram: Tensor, batch: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the loss, and the share of mixtures whose parts are nearer to their own sounds than to each other's.

        Samples come from the batch, since sounds are mixed before they are prepared.
        """
        sources = [to_level(sound, model.source_level) for sound in (batch["samples"], batch["negatives"][:, 0])]
        mixture = model.prepare_audio(sources[0] + sources[1])
        between = self._between_waveforms if self.compared == "waveforms" else self._between_spectrograms
        distances = between(model, frames, mixture, sources)  # (B, parts, sounds)
        own, swapped = distances[:, 0, 0] + distances[:, 1, 1], distances[:, 0, 1] + distances[:, 1, 0]
        nearer = torch.minimum(own, swapped)
        losses = {False: own, True: nearer, "both": own + nearer}[self.permutation_invariant]
        return losses.mean(), (own < swapped).float().mean()

    def _between_spectrograms(self, model: Separates, frames: Tensor, mixture: Tensor, sources: list[Tensor]) -> Tensor:
        targets = torch.stack([model.to_spectrogram(sound) for sound in sources], dim=1)  # (B, 2, 2, bins, times)
        parts = model.separate_spectrogram(frames, mixture).float()
        level, phase = (parts[:, :, None] - targets[:, None]).abs().mean(dim=(4, 5)).unbind(dim=3)
        return level + self.phase_weight * phase

    def _between_waveforms(self, model: Separates, frames: Tensor, mixture: Tensor, sources: list[Tensor]) -> Tensor:
        """Return minus the SDR, in dB, inside of where parts fade out."""
        inside = slice(model.edge, -model.edge)
        sounds = torch.stack([sound.mean(dim=2) for sound in sources], dim=1)[:, None, :, inside]
        parts = model.separate(frames, mixture)[:, :, None, inside]
        if self.scale_invariant:
            energy = sounds.square().sum(dim=3, keepdim=True) + _LEAST_ENERGY
            sounds = sounds * (sounds * parts).sum(dim=3, keepdim=True) / energy
        energy, error = (each.square().sum(dim=3) + _LEAST_ENERGY for each in (sounds, parts - sounds))
        return 10 * (error / energy).log10()


OBJECTIVES: dict[str, type[Objective]] = {
    "correspondence": Correspondence,
    "contrastive": Contrastive,
    "classification": Classification,
    "recognition": Recognition,
    "synchronization": Synchronization,
    "alignment": Alignment,
    "separation": Separation,
    "margin": Margin,
}


def check_capabilities(name: str, model: AudioVisualModel) -> None:
    """Raise ValueError unless the network has the capabilities that an objective needs."""
    kind = OBJECTIVES[name]
    if refusal := kind.refusal(model):
        needed = " and ".join(need.__name__ for need in kind.needs)
        raise ValueError(f"objective {name!r} works with networks that are {needed}, got {model.name}: {refusal}")
