"""Augmentation of sounds and of pictures: what each kind changes, how much, and what it leaves alone."""

import numpy as np
import pytest

from training.picture_augmentation import PictureAugmentation, degrade, random_piece
from training.sound_augmentation import SoundAugmentation, augment_sound, coloured_noise, mix, room_response

RATE = 24_000


def white(seed=0, count=RATE):
    return np.random.default_rng(seed).normal(size=(count, 1)).astype(np.float32) * np.float32(0.1)


def augmented(samples, seed=0, others=None, **settings):
    other = others or (lambda: np.zeros_like(samples))
    return augment_sound(samples, RATE, SoundAugmentation(**settings), np.random.default_rng(seed), other, other)


def power(samples, low, high):
    """Return the power between two frequencies, in Hz."""
    spectrum, frequencies = np.fft.rfft(samples[:, 0]), np.fft.rfftfreq(len(samples), 1 / RATE)
    return np.square(np.abs(spectrum[(frequencies >= low) & (frequencies < high)])).sum() / len(samples) ** 2


def test_nothing_is_changed_by_default():
    samples = white()
    assert augmented(samples) is samples
    picture = np.random.default_rng(0).random((20, 30, 3), dtype=np.float32)
    assert degrade(picture, PictureAugmentation(), np.random.default_rng(0)) is picture
    assert not PictureAugmentation().in_pieces


def test_another_sound_is_mixed_at_the_level_asked_for_and_silence_is_left_alone():
    samples, other = white(0), 5 * white(1)
    mixed = mix(samples, other, -20.0)
    assert np.square(mixed - samples).mean() == pytest.approx(np.square(samples).mean() / 100, rel=1e-3)
    assert mix(samples, np.zeros_like(samples), 0.0) is samples
    silence = np.zeros_like(samples)
    assert mix(silence, other, 0.0) is silence
    levels = []
    for seed in range(20):
        changed = augmented(samples, seed, lambda: other, background=1.0, background_level=(-30, -10))
        levels.append(10 * np.log10(np.square(changed - samples).mean() / np.square(samples).mean()))
    assert -30 <= min(levels) < -25
    assert -15 < max(levels) <= -10


def test_a_share_of_the_windows_is_changed():
    samples = white()
    changed = [augmented(samples, seed, noise=0.3) is not samples for seed in range(200)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.13)  # 4 standard errors


def test_a_low_pass_takes_what_is_above_and_leaves_what_is_below():
    samples = white()
    changed = augmented(samples, low_pass=1.0, cut_off=(3000, 3000))
    assert power(changed, 0, 1500) == pytest.approx(power(samples, 0, 1500), rel=0.1)
    assert power(changed, 9000, 12_000) < 0.05 * power(samples, 9000, 12_000)
    assert changed.dtype == np.float32
    assert changed.shape == samples.shape


def test_bands_and_stretches_go_missing():
    samples = white()
    missing = []
    for seed in range(30):
        changed = augmented(samples, seed, bands=1, widest_band=1.0)
        missing.append(1 - power(changed, 0, 12_001) / power(samples, 0, 12_001))
        gaps = augmented(samples, seed, stretches=1, longest_stretch=0.2)
        silent = np.flatnonzero(gaps[:, 0] == 0)
        assert len(silent) <= 0.2 * RATE
        assert len(silent) == 0 or silent[-1] - silent[0] + 1 == len(silent)
    assert max(missing) > 0.05
    assert min(missing) == pytest.approx(0, abs=1e-4)  # no band at all, half of the times
    assert samples.all()  # the window given isn't written to


def test_reverberation_falls_by_60_db_and_keeps_the_direct_sound():
    response = room_response(0.5, RATE, np.random.default_rng(0))
    assert len(response) == RATE // 2
    assert response[0] == 1
    early, late = (np.square(response[k : k + 1000]).mean() for k in (1, len(response) - 1000))
    assert 10 * np.log10(late / early) == pytest.approx(-58, abs=3)
    click = np.zeros((RATE, 1), np.float32)
    click[100] = 0.5
    heard = augmented(click, reverberation=1.0, decay=(0.3, 0.3))
    assert heard[100, 0] == pytest.approx(0.5, abs=1e-4)
    assert not np.abs(heard[:100]).max() > 1e-5  # nothing comes before its cause
    assert np.abs(heard[101:]).max() > 0
    assert np.abs(heard[100 + round(0.3 * RATE) :]).max() < 1e-5


@pytest.mark.parametrize(("colour", "slope"), [(0.0, 0.0), (0.5, -3.01), (1.0, -6.02)])
def test_noise_falls_by_octaves_with_its_colour(colour, slope):
    noise = coloured_noise((10 * RATE, 1), colour, np.random.default_rng(0))[:RATE]
    density = [10 * np.log10(power(noise, low, 2 * low) / low) for low in (1000, 2000, 4000)]
    assert np.diff(density).mean() == pytest.approx(slope, abs=0.7)


def test_pieces_have_the_size_asked_for_and_an_area_and_an_aspect_in_range():
    rows, columns = np.mgrid[0:100, 0:160].astype(np.float32)
    picture = np.stack([rows / 100, columns / 160, np.ones_like(rows)], axis=2)
    areas, aspects = [], []
    for seed in range(100):
        settings = PictureAugmentation(area=(0.2, 0.6), aspect=(0.8, 1.25))
        piece = random_piece(picture, 64, 48, settings, np.random.default_rng(seed))
        assert piece.shape == (64, 48, 3)
        high, wide = (np.ptp(piece[..., k]) for k in (0, 1))
        areas.append(high * wide)
        aspects.append(wide * 160 / (high * 100))
    assert 0.18 < min(areas) < 0.3
    assert 0.5 < max(areas) < 0.62
    assert 0.75 < min(aspects) < max(aspects) < 1.3


def test_a_picture_longer_than_any_piece_gives_its_middle_size():
    picture = np.zeros((10, 400, 3), np.float32)
    piece = random_piece(picture, 8, 8, PictureAugmentation(area=(0.5, 0.9)), np.random.default_rng(0))
    assert piece.shape == (8, 8, 3)


def test_pictures_are_made_grey_coarse_and_encoded():
    picture = np.random.default_rng(0).random((48, 48, 3), dtype=np.float32)
    grey = degrade(picture, PictureAugmentation(grey=1.0), np.random.default_rng(0))
    assert np.ptp(grey, axis=2).max() == 0
    coarse = degrade(picture, PictureAugmentation(coarse=1.0, coarsest=8), np.random.default_rng(0))
    assert coarse.std() < 0.8 * picture.std()
    assert coarse.mean() == pytest.approx(picture.mean(), abs=0.02)
    encoded = degrade(picture, PictureAugmentation(jpeg=1.0, quality=(30, 30)), np.random.default_rng(0))
    assert 0.01 < np.abs(encoded - picture).mean() < 0.3
    flat = degrade(picture, PictureAugmentation(contrast=(0.5, 0.5)), np.random.default_rng(0))
    assert flat.std() == pytest.approx(picture.std() / 2, rel=0.01)
    for changed in (grey, coarse, encoded, flat):
        assert changed.dtype == np.float32
        assert changed.shape == picture.shape
        assert changed.min() >= 0
        assert changed.max() <= 1


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        (SoundAugmentation, {"noise": 2}, "noise must be a share of the windows"),
        (SoundAugmentation, {"decay": (2.0, 1.0)}, "decay must be a range"),
        (SoundAugmentation, {"bands": -1}, "bands must be at least 0"),
        (PictureAugmentation, {"grey": -0.1}, "grey must be a share of the pictures"),
        (PictureAugmentation, {"area": (0.0, 1.0)}, "area must be a range"),
        (PictureAugmentation, {"coarsest": 2}, "coarsest must be at least 4 pixels"),
    ],
)
def test_values_out_of_range_are_told(kind, settings, told):
    with pytest.raises(ValueError, match=told):
        kind(**settings)
