"""Separation measured on mixtures: figures by mir_eval's definition, mixtures that repeat, and the command's table."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from separating import ByBrightness
from tones import FRAME_RATE, RATE, write_tones

from openavc.weights import build_model
from training.checkpoint import save_weights
from training.corpora.shards import Shards
from training.evaluate.__main__ import main
from training.evaluate.datasets.mixtures import Mixture, Mixtures
from training.evaluate.metrics.separation import bss, measure

SMALL = {
    "architecture": "separation",
    "widths": [4, 4, 8, 8],
    "sync_widths": [4, 4, 8, 8],
    "image_size": 32,
    "frames": 8,
    "frame_rate": FRAME_RATE,
    "sample_rate": 8000,
    "window": 512,
    "hop": 128,
    "fft_size": 512,
}


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """Write three clips of other tones than those of `shards`."""
    folder = tmp_path_factory.mktemp("voices")
    write_tones(folder / "0.tar", range(10, 13))
    return folder


def mixtures(shards, other=None, number=7, seed=0):
    first = Shards(shards)
    return Mixtures(listening(), first, Shards(other) if other else first, number, 0.1, seed)


def listening():
    return ByBrightness(rate=RATE, seconds=5 / FRAME_RATE, count=5)


def sounds(samples=8000, seed=0):
    return np.random.default_rng(seed).normal(size=(2, samples))


def test_noise_that_is_added_lowers_sdr_and_sar_by_its_level_but_not_sir():
    """Vincent et al. (2006): to a sound, noise of a tenth of its amplitude is an artefact at -20 dB."""
    clean, noise = sounds(), sounds(seed=1)
    sdr, sir, sar = bss(clean, clean + 0.1 * noise)
    np.testing.assert_allclose(sdr, 20, atol=1)
    np.testing.assert_allclose(sar, 20, atol=1)
    assert (sir > 27).all()


def test_the_other_sound_that_leaks_is_interference():
    clean = sounds()
    sdr, sir, sar = bss(clean, clean + 0.1 * clean[::-1])
    np.testing.assert_allclose(sir, 20, atol=0.5)
    np.testing.assert_allclose(sdr, 20, atol=0.5)
    assert (sar > 60).all()


def test_a_mixture_of_two_sounds_of_one_level_has_an_sdr_of_zero():
    clean = sounds()
    sdr, _, _ = bss(clean, np.repeat(clean.sum(axis=0)[None], 2, axis=0))
    np.testing.assert_allclose(sdr, 0, atol=1)


def test_only_blind_models_may_exchange_the_parts():
    clean = sounds()
    assert (bss(clean, clean[::-1])[0] < 0).all()
    assert (bss(clean, clean[::-1], any_order=True)[0] > 60).all()


def test_gains_are_those_over_the_mixture(monkeypatch):
    model = listening()
    model.edge = 0
    clips = [
        Mixture(np.full((5, 16, 16, 3), value, np.float32), noise[..., None], str(k))
        for k, (value, noise) in enumerate(
            (value, 0.1 * sounds(model.sound.samples, k)) for k, value in enumerate([0.2, 0.8, 0.5, 0.4])
        )
    ]
    found = measure({"ours": model}, clips)
    mean, low, high = found["ours"].gain(found["mixture"], "on screen", seed=0)
    assert mean == pytest.approx(0, abs=0.01) and low <= mean <= high  # the mixture scaled is as good as it is


def test_mixtures_are_of_two_videos_at_one_level_and_repeat(shards, voices):
    first, again, other = (list(mixtures(shards, voices, seed=seed)) for seed in (0, 0, 1))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.sounds, two.sounds)
        np.testing.assert_array_equal(one.frames, two.frames)
    assert any(not np.array_equal(one.sounds, two.sounds) for one, two in zip(first, other, strict=True))
    assert len({mixture.source for mixture in first}) == 6  # each clip once before any is again
    for mixture in first:
        np.testing.assert_allclose(np.sqrt(np.mean(mixture.sounds**2, axis=(1, 2))), 0.1, rtol=1e-4)
        spectra = np.abs(np.fft.rfft(mixture.sounds.mean(axis=2), axis=1)).argmax(axis=1)
        own, strange = spectra * RATE / mixture.sounds.shape[1] / 200 - 1
        assert mixture.source == f"clip{round(own)}" and round(strange) in (10, 11, 12)
        assert round(float(mixture.frames[..., 0].mean()) * 255 / 10) == round(own)


def test_too_few_clips_are_told(tmp_path):
    write_tones(tmp_path / "0.tar", [0])
    with pytest.raises(ValueError, match="only 0 of 2 mixtures could be made"):
        list(mixtures(tmp_path, number=2))


def test_the_command_compares_models_on_the_same_mixtures(shards, voices, tmp_path):
    files = []
    for name, features in {"separation_small": "video", "separation_small_sound": "none"}.items():
        torch.manual_seed(0)
        architecture = SMALL | {"features": features}
        files += ["--model", tmp_path / f"{name}.safetensors"]
        save_weights(files[-1], build_model(architecture), architecture)
    options = ["--data", shards, "--voices", voices, "--mixtures", 3, "--json", tmp_path / "found.json"]
    result = CliRunner().invoke(main, ["separation", *map(str, [*files, *options])], catch_exceptions=False)
    lines = result.output.splitlines()
    assert "3 mixtures, 3 videos on screen, dB" in lines[0] and "gain on screen" in lines[0]
    assert [line.split("  ")[0] for line in lines[1:4]] == [
        "mixture", "separation_small", "separation_small_sound (best order)",
    ]  # fmt: skip
    report, of = json.loads((tmp_path / "found.json").read_text()), f"separation ({shards.name}, {voices.name})"
    metrics = {metric["name"]: metric["value"] for metric in report["metrics"]}
    assert metrics[f"{of} separation_small gain on screen"] == pytest.approx(
        metrics[f"{of} separation_small SDR on screen"] - metrics[f"{of} mixture SDR on screen"], abs=1e-3
    )
    ((title, rows),) = report["tables"].items()  # which a model's card shows
    assert title.startswith(f"{of}, 3 mixtures") and len(rows) == 3


def test_models_of_other_inputs_are_measured_apart(shards, tmp_path):
    files = []
    for number, frames in enumerate((8, 6)):
        architecture = SMALL | {"features": "none", "frames": frames}
        files += ["--model", tmp_path / f"{number}.safetensors"]
        save_weights(files[-1], build_model(architecture), architecture)
    with pytest.raises(ValueError, match=r"1\.safetensors takes other frames or other sound than"):
        CliRunner().invoke(main, ["separation", *map(str, files), "--data", str(shards)], catch_exceptions=False)
