"""Objectives by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fake_model import FakeModel

from openavc.models import AVENet, AVOLNet, AVTSNet, L3Net, OpenL3Net
from openavc.models.contract import Compares, FramesInput, HasSimilarity, HasStreams, Separates, SoundInput
from training.objectives import (
    OBJECTIVES,
    Alignment,
    Classification,
    Contrastive,
    Correspondence,
    Margin,
    Recognition,
    Separation,
    Synchronization,
    check_capabilities,
    silence_and_noise,
)


class Fixed(FakeModel):
    """Passes embeddings through unchanged."""

    def __init__(self):
        super().__init__(hears=lambda vectors: vectors, sees=lambda vectors: vectors)

    def forward(self, frames, audio):
        return self.compare(frames, audio)


def test_correspondence_loss_is_the_two_way_cross_entropy_by_hand():
    image, audio = torch.tensor([[1.0], [0.5]]), torch.tensor([[2.0], [1.0]])
    loss, right = Correspondence()(Fixed(), image, audio, {"label": torch.tensor([1, 0])})
    expected = (math.log(1 + math.exp(-4.0)) + math.log(1 + math.exp(1.0))) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert right.item() == 0.5


def test_recognition_loss_is_the_cross_entropy_of_the_classes_by_hand():
    logits, target = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]]), torch.tensor([2, 1])
    loss, right = Recognition()(lambda frames, sound: frames, logits, None, {"target": target})
    expected = [math.log(1 + math.exp(-1) + math.exp(-2)), math.log(math.exp(3) + 2)]
    assert loss.item() == pytest.approx(sum(expected) / 2, abs=1e-6)
    assert right.item() == 0.5


@pytest.mark.parametrize("pooling", ["max", "logsumexp"])
def test_for_avol_net_correspondence_is_the_logistic_loss_of_the_map(pooling):
    """Objects that Sound, section 4."""
    torch.manual_seed(0)
    model = AVOLNet(widths=(4, 4, 8, 8), frontend="mel64", image_size=32, joint_size=4, pooling=pooling).eval()
    image, spectrogram, label = torch.randn(6, 3, 32, 32), torch.randn(6, 1, 64, 80), torch.tensor([0, 1] * 3)
    places = model.localize(model.represent_frames(image), model.represent_audio(spectrogram)).flatten(1)
    assert places.shape == (6, 4)
    logit = places.max(dim=1).values if pooling == "max" else places.exp().mean(dim=1).log()
    loss, right = Correspondence()(model, image, spectrogram, {"label": label})
    assert loss.item() == pytest.approx(F.binary_cross_entropy_with_logits(logit, label.float()).item(), abs=1e-6)
    assert right.item() == pytest.approx(((logit > 0) == label.bool()).float().mean().item())


@pytest.mark.parametrize("windows", [1, 2])
def test_contrastive_loss_is_symmetric_infonce_by_hand(windows):
    angles = np.array([0.0, 1.0, 2.5, 4.0])
    image = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    audio = np.stack([np.cos(angles + 0.3), np.sin(angles + 0.3)], axis=1)
    similarity = np.exp(image @ audio.T / 0.2)
    rows = -np.log(np.diag(similarity) / similarity.sum(axis=1)).mean()
    columns = -np.log(np.diag(similarity) / similarity.sum(axis=0)).mean()
    near = np.log1p(np.exp(-2 * (image * audio).sum(axis=1))).mean()
    far = np.log1p(np.exp(2 * (image * np.roll(audio, windows, axis=0)).sum(axis=1))).mean()
    loss, right = Contrastive(temperature=0.2, windows_per_clip=windows)(
        Fixed(), torch.tensor(image), torch.tensor(audio), {"group": torch.zeros(4)}
    )
    assert loss.item() == pytest.approx((rows + columns) / 2 + (near + far) / 2, abs=1e-5)
    assert right.item() == 1.0


def test_the_contrastive_objective_fits_the_decision_without_moving_the_embeddings():
    torch.manual_seed(0)
    model = AVENet(widths=(4, 4, 4, 4), frontend="mel64", image_size=16, joint_size=4)
    image, audio = model.represent_frames(torch.randn(4, 3, 16, 16)), model.represent_audio(torch.randn(4, 1, 64, 80))
    objective = Contrastive()

    passing = Fixed()
    passing.compare = model.compare
    whole, _ = objective(passing, image, audio, {"group": torch.zeros(4)})
    whole.backward(retain_graph=True)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    objective.contrast(image @ audio.T, (image @ audio.T).T, torch.zeros(4, 4, dtype=bool))[0].backward()
    by_contrast = {
        name for name, p in model.named_parameters() if p.grad is None or not torch.equal(p.grad, gradients[name])
    }
    assert by_contrast == {"fc3.weight", "fc3.bias"}
    assert all(gradients[name].abs().max() > 0 for name in by_contrast)


def test_the_contrastive_objective_searches_the_own_group_alone():
    rng = np.random.default_rng(0)
    image, audio = torch.tensor(rng.normal(size=(5, 3))), torch.tensor(rng.normal(size=(5, 3)))
    objective, group = Contrastive(temperature=0.5), torch.tensor([0, 0, 1, 1, 1])
    together, _ = objective.contrast(image @ audio.T, audio @ image.T, group[:, None] != group)
    apart = [
        objective.contrast(image[rows] @ audio[rows].T, audio[rows] @ image[rows].T, torch.zeros(n, n, dtype=bool))[0]
        for rows, n in ((slice(0, 2), 2), (slice(2, 5), 3))
    ]
    assert together.item() == pytest.approx((2 * apart[0].item() + 3 * apart[1].item()) / 5)


def test_distractors_are_among_the_sounds_that_a_picture_searches_in_every_group():
    rng = np.random.default_rng(0)
    image, audio, strange = (torch.tensor(rng.normal(size=(n, 3))) for n in (4, 4, 2))
    objective, group = Contrastive(temperature=1.0, distractors=True), torch.tensor([0, 0, 1, 1])
    by_image = torch.cat([image @ audio.T, image @ strange.T], dim=1)
    loss, _ = objective.contrast(by_image, audio @ image.T, group[:, None] != group)
    searched, back = np.exp(by_image.numpy()), np.exp((audio @ image.T).numpy())
    ones = [-np.log(searched[k, k] / searched[k, [k, k ^ 1, 4, 5]].sum()) for k in range(4)]
    others = [-np.log(back[k, k] / back[k, [k, k ^ 1]].sum()) for k in range(4)]
    assert loss.item() == pytest.approx((np.mean(ones) + np.mean(others)) / 2)


def test_distractors_are_silence_and_noise_below_full_scale():
    torch.manual_seed(0)
    model = AVENet(widths=(4, 4, 4, 4), frontend="mel64", image_size=16, joint_size=4)
    loudnesses = []
    for _ in range(50):
        silence, noise = silence_and_noise(model)
        assert silence.shape == (model.sound.samples, 1) and not silence.any()
        loudnesses.append(10 * math.log10(noise.square().mean()))
    assert -81 < min(loudnesses) < -60 and -40 < max(loudnesses) < -19
    model.sound = replace(model.sound, channels=2)
    assert silence_and_noise(model).shape == (2, model.sound.samples, 2)


@pytest.mark.parametrize("distractors", [False, True])
def test_the_contrastive_gradient_is_finite_with_groups_and_reaches_the_temperature(distractors):
    torch.manual_seed(0)
    model = AVOLNet(widths=(4, 4, 8, 8), frontend="mel64", image_size=32, joint_size=4, pooling="logsumexp")
    objective = Contrastive(temperature=1.0, distractors=distractors)
    batch = {"group": torch.tensor([0, 0, 1, 1])}
    spectrogram = model.prepare_audio(torch.randn(4, model.sound.samples, 1))
    objective(model, torch.randn(4, 3, 32, 32), spectrogram, batch)[0].backward()
    for parameter in [*model.parameters(), *objective.parameters()]:
        assert torch.isfinite(parameter.grad).all()
    assert objective.log_scale.grad != 0


@pytest.mark.parametrize("choice", [0.0, 0.5])
def test_synchronization_is_the_logistic_loss_of_own_and_shifted_sounds_by_hand(choice):
    """Multisensory, section 3; a logit here is twice the product of frames and sound."""
    frames, own = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.5], [-0.5]])
    others = torch.tensor([[[0.25], [-1.0]], [[1.0], [-0.25]]])
    logits = [[1.0, 0.5, -2.0], [-2.0, 4.0, -1.0]]
    right = [math.log(1 + math.exp(-row[0])) for row in logits]
    wrong = [math.log(1 + math.exp(value)) for row in logits for value in row[1:]]
    chosen = [math.log(sum(map(math.exp, row))) - row[0] for row in logits]
    expected = (np.mean(right) + np.mean(wrong)) / 2 + choice * np.mean(chosen)
    loss, share = Synchronization(negatives=2, choice=choice)(Fixed(), frames, own, {"negatives": others})
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert share.item() == pytest.approx((1 / 2 + 2 / 4) / 2)  # one own sound of two, and two others of four


def test_synchronization_sees_each_clip_once():
    seen = []
    model = FakeModel(sees=lambda frames: seen.append(len(frames)) or frames)
    negatives = torch.zeros(4, 3, 5)
    Synchronization(negatives=3)(model, torch.zeros(4, 5), torch.zeros(4, 5), {"negatives": negatives})
    assert seen == [4]


@pytest.mark.parametrize(("options", "message"), [({"negatives": 0}, "got 0"), ({"choice": -1.0}, "got -1.0")])
def test_synchronization_refuses_values_that_cant_work(options, message):
    with pytest.raises(ValueError, match=message):
        Synchronization(**options)


def pairs_at(*distances):
    """Make pairs of vectors on a line, the given distances apart."""
    frames = torch.zeros(len(distances), 2, requires_grad=True)
    return frames, torch.tensor([[distance, 0.0] for distance in distances])


def test_the_margin_loss_of_true_and_other_pairs_by_hand():
    """AVTS, section 3.2: squared distances of true pairs; of others, what lacks to 0.99, squared: nothing beyond it."""
    model = AVTSNet(widths=(4, 4, 4, 4), sound_widths=(4, 4, 4, 4, 4), image_size=16, frames=2, joint_size=2)
    model.represent_frames = model.represent_audio = lambda vectors: vectors
    frames, audio = pairs_at(0.3, 2.0, 0.2, 0.99, 1.5)
    batch = {"label": torch.tensor([1, 1, 0, 0, 0])}
    loss, share = Margin()(model, frames, audio, batch)
    logits = [0.99 - 2 * distance for distance in (0.3, 2.0, 0.2, 0.99, 1.5)]
    decision = np.mean(
        [math.log1p(math.exp(-z if true else z)) for z, true in zip(logits, batch["label"], strict=True)]
    )
    assert loss.item() == pytest.approx((0.3**2 + 2.0**2 + 0.79**2) / 5 + decision, abs=1e-5)
    assert share.item() == pytest.approx(3 / 5)  # 2.0 and 0.2 lie on the wrong side of half the margin
    loss.backward()
    gradient = [-2 * 0.3 / 5, -2 * 2.0 / 5, 2 * 0.79 / 5, 0, 0]  # of the distance's end at the frames
    np.testing.assert_allclose(frames.grad[:, 0], gradient, atol=1e-6)
    assert not frames.grad[:, 1].any() and model.decision.weight.grad.any()


def test_the_margin_loss_has_a_finite_gradient_where_frames_and_sound_agree():
    model = AVTSNet(widths=(4, 4, 4, 4), sound_widths=(4, 4, 4, 4, 4), image_size=16, frames=2, joint_size=2)
    model.represent_frames = model.represent_audio = lambda vectors: vectors
    frames, audio = pairs_at(0.0, 0.0)
    Margin()(model, frames, audio, {"label": torch.tensor([1, 0])})[0].backward()
    assert torch.isfinite(frames.grad).all()


@pytest.mark.parametrize("margin", [0, -1.0, math.nan])
def test_a_margin_that_separates_nothing_is_refused(margin):
    with pytest.raises(ValueError, match=f"margin must be a distance above 0, got {margin}"):
        Margin(margin=margin)


class OverTime(HasStreams):
    """Passes maps over 4 times through unchanged, in which each time has a channel of its own; a window lasts 1 s."""

    def __init__(self):
        super().__init__(SoundInput(100, 1.0), FramesInput(8, 8, count=4, rate=4.0), {})

    def prepare_audio(self, samples):
        return samples

    def represent_audio(self, spectrogram):
        return spectrogram

    def represent_frames(self, frames):
        return frames

    def compare(self, frames, audio):
        raise NotImplementedError


def aligned(frames, own, *others):
    """Return loss and share of right choices of one clip of 4 times, whose maps (4, 4) are compared as they are."""
    objective = Alignment([4, 4], size=4, negatives=len(others))
    for layer in (objective.of_frames, objective.of_sound):
        layer.weight.data = torch.eye(4).view(layer.weight.shape)
        layer.bias.data.zero_()
    batch = {"negatives": torch.stack(others)[None]}
    return objective(OverTime(), frames[None, :, :, None, None], own[None], batch)


def test_alignment_is_the_choice_of_the_own_sound_by_the_mean_over_times_by_hand():
    """Each time has a channel of its own; a sound that comes a step late fits nowhere, and one late by half in half."""
    frames = torch.eye(4)
    late, half = torch.eye(4).roll(1, dims=1), torch.cat([torch.eye(4)[:, :2], torch.eye(4).roll(1, dims=1)[:, 2:]], 1)
    loss, right = aligned(frames, frames, late, half)
    assert loss.item() == pytest.approx(math.log(math.exp(10) + 1 + math.exp(5)) - 10, abs=1e-6)
    assert right.item() == 1.0
    loss, right = aligned(frames, late, frames, half)
    assert loss.item() == pytest.approx(math.log(math.exp(10) + 1 + math.exp(5)), abs=1e-5)
    assert right.item() == 0.0


def test_classification_is_the_sum_of_both_towers_cross_entropies_by_hand():
    rng = np.random.default_rng(0)
    image, audio, target = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), rng.integers(4, size=5)
    objective = Classification(classes=4, features=3).double()
    expected, hits = 0.0, []
    for features, layer in ((image, objective.image_classifier), (audio, objective.audio_classifier)):
        logits = features @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        chosen = logits[np.arange(5), target]
        expected += (np.log(np.exp(logits).sum(axis=1)) - chosen).mean()
        hits += (logits.max(axis=1) == chosen).tolist()
    batch = {"target": torch.tensor(target)}
    loss, right = objective(Fixed(), torch.tensor(image), torch.tensor(audio), batch)
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert right.item() == pytest.approx(np.mean(hits))


SMALL = {"widths": (4, 4, 8, 8), "image_size": 32}
NETWORKS = {
    "l3": lambda: L3Net(frontend="mel64", **SMALL),
    "openl3": lambda: OpenL3Net(input_repr="mel128", **SMALL),
    "ave": lambda: AVENet(frontend="mel64", **SMALL),
    "avol": lambda: AVOLNet(frontend="mel64", **SMALL),
    "avts": lambda: AVTSNet(sound_widths=(4, 4, 4, 4, 8), frames=5, **SMALL),
}
SERVES = {
    "correspondence": {"l3", "openl3", "ave", "avol", "avts"},
    "contrastive": {"ave", "avol", "avts"},  # what has a similarity of any picture with any sound
    "margin": {"ave", "avts"},
    "classification": {"l3", "openl3", "ave", "avts"},  # a vector for each picture
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("objective", SERVES)
def test_an_objective_takes_the_networks_that_can_do_what_it_needs(objective, network):
    model = NETWORKS[network]()
    if network in SERVES[objective]:
        check_capabilities(objective, model)
    else:
        with pytest.raises(ValueError, match=f"objective '{objective}' works with networks that are Compares"):
            check_capabilities(objective, model)


def test_a_new_network_serves_by_its_capabilities_alone():
    class Comparing(FakeModel):
        pass

    comparing = set(OBJECTIVES) - {"alignment", "recognition", "separation"}
    assert all(issubclass(Comparing, need) for name in comparing for need in OBJECTIVES[name].needs)
    check_capabilities("contrastive", Comparing())
    assert Contrastive.needs == (Compares, HasSimilarity)
    with pytest.raises(ValueError, match=r"'recognition' works with networks that are Classifies, .* isn't Classifies"):
        check_capabilities("recognition", Comparing())


class Separating(Separates):
    """Takes what it is given as frames for its parts; spectrograms are pairs of samples."""

    source_level, edge, blind = 0.1, 0, False

    def __init__(self):
        super().__init__(SoundInput(100, 0.08, 2), FramesInput(16, 16), {})
        self.mixtures = []

    def prepare_audio(self, samples):
        self.mixtures.append(samples)
        return samples

    def to_spectrogram(self, samples):
        return samples.mean(dim=2).reshape(-1, 2, 1, 4)

    def separate_spectrogram(self, frames, samples):
        return frames

    def separate(self, frames, samples):
        return frames


def separation_by_hand(parts, sounds, phase_weight):
    """Return the mean loss and its permutation-invariant kind, and the share of the right assignment."""
    own, nearer, right = [], [], []
    for part, pair in zip(parts.numpy(), sounds, strict=True):
        scaled = [0.1 * sound / np.sqrt(np.mean(sound**2)) for sound in pair]
        targets = [sound.mean(axis=1).reshape(2, 4) for sound in scaled]

        def distance(part, target):
            level, phase = np.abs(part[:, 0] - target).mean(axis=1)
            return level + phase_weight * phase

        straight = distance(part[0], targets[0]) + distance(part[1], targets[1])
        swapped = distance(part[0], targets[1]) + distance(part[1], targets[0])
        own.append(straight), nearer.append(min(straight, swapped)), right.append(straight < swapped)
    return np.mean(own), np.mean(nearer), np.mean(right)


@pytest.mark.parametrize("permutation_invariant", [False, True, "both"])
def test_separation_is_the_distance_of_both_parts_by_hand(permutation_invariant):
    """Multisensory, section 3.4: L1 of magnitudes and 0.01 of phases, of sounds at a root mean square of 0.1."""
    rng = np.random.default_rng(0)
    sounds = rng.normal(size=(4, 2, 8, 2)) * 10.0 ** rng.uniform(-1, 1, (4, 2, 1, 1))
    parts = torch.from_numpy(0.1 * rng.normal(size=(4, 2, 2, 1, 4)))
    own, nearer, share = separation_by_hand(parts, sounds, 0.01)
    assert nearer < own and 0 < share < 1
    batch = {"samples": torch.from_numpy(sounds[:, 0]), "negatives": torch.from_numpy(sounds[:, 1:])}
    model = Separating()
    loss, right = Separation(permutation_invariant)(model, parts, batch["samples"], batch)
    expected = {False: own, True: nearer, "both": own + nearer}[permutation_invariant]
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert right.item() == share
    (mixed,) = model.mixtures
    scaled = sounds * 0.1 / np.sqrt(np.mean(sounds**2, axis=(2, 3), keepdims=True))
    np.testing.assert_allclose(mixed.numpy(), scaled.sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize(("permutation_invariant", "scale_invariant"), [(False, False), (True, False), (False, True)])
def test_separation_of_waveforms_is_minus_the_sdr_of_both_parts_by_hand(permutation_invariant, scale_invariant):
    rng = np.random.default_rng(0)
    sounds = rng.normal(size=(4, 2, 8, 2))
    scaled = (sounds * 0.1 / np.sqrt(np.mean(sounds**2, axis=(2, 3), keepdims=True))).mean(axis=3)  # (4, 2, 8)
    parts = 0.5 * (scaled + 0.05 * rng.normal(size=scaled.shape))
    parts[0] = parts[0, ::-1]  # exchanged
    model, inside = Separating(), slice(1, -1)
    model.edge = 1  # where parts fade out

    def minus_sdr(part, sound):
        part, sound = part[inside], sound[inside]
        sound = sound * (part @ sound) / (sound @ sound) if scale_invariant else sound
        return -10 * np.log10(np.sum(sound**2) / np.sum((part - sound) ** 2))

    losses = np.array(
        [
            [minus_sdr(first, sound) + minus_sdr(second, other) for sound, other in (pair, pair[::-1])]
            for (first, second), pair in zip(parts, scaled, strict=True)
        ]
    )
    batch = {"samples": torch.from_numpy(sounds[:, 0]), "negatives": torch.from_numpy(sounds[:, 1:])}
    objective = Separation(permutation_invariant, compared="waveforms", scale_invariant=scale_invariant)
    loss, right = objective(model, torch.from_numpy(parts), batch["samples"], batch)
    expected = losses.min(axis=1) if permutation_invariant else losses[:, 0]
    assert loss.item() == pytest.approx(expected.mean(), rel=1e-4)  # a least energy is added
    assert right.item() == (losses[:, 0] < losses[:, 1]).mean() < 1


@pytest.mark.parametrize(
    "options",
    [{"permutation_invariant": "some"}, {"phase_weight": -1.0}, {"compared": "pictures"}, {"scale_invariant": True}],
)
def test_separation_refuses_values_that_cant_work(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be .*, got"):
        Separation(**options)


def test_separation_takes_networks_that_separate_and_no_others():
    check_capabilities("separation", Separating())
    with pytest.raises(ValueError, match="objective 'separation' works with networks that are Separates"):
        check_capabilities("separation", FakeModel())
    with pytest.raises(ValueError, match="it isn't Compares"):
        check_capabilities("synchronization", Separating())
