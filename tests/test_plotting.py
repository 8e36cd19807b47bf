"""Drawings of results, scores and trainings: what they show is computed right, and what can't be drawn is told."""

import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from joint_results import vectors, write
from PIL import Image
from videos import RATE, tone, write_sound, write_video

from openavc import plotting
from openavc.cli import main

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.usefixtures("in_this_process")


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_components_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    embedding = np.random.default_rng(0).normal(size=(40, 6)) * [5, 3, 2, 1, 1, 1] + 7
    found, expected = plotting.principal_components(embedding, 3), PCA(3).fit_transform(embedding)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-9)  # the sign of a direction is free
    assert plotting.principal_components(embedding[:2], 3).shape == (2, 2)


def test_similarity_is_the_cosine_and_of_zeros_0():
    rows = np.array([[3.0, 0], [0, 2], [1, 1], [0, 0]])
    half = 0.5**0.5
    expected = [[1, 0, half, 0], [0, 1, half, 0], [half, half, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(plotting.similarity(rows, rows), expected, atol=1e-12)


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_result_is_drawn_with_the_waveform_of_its_source(tmp_path, ending):
    write_sound(tmp_path / "a.wav", tone(440, 3, RATE), RATE, "pcm_s16le")
    run("audio", tmp_path / "a.wav", "--output", tmp_path)
    result = run("plot", tmp_path / "a.npz", "--output", tmp_path / f"drawn.{ending}")
    assert (result.exit_code, result.output) == (0, f"{tmp_path}/drawn.{ending}\n")
    assert (tmp_path / f"drawn.{ending}").read_bytes()[:4] in (b"\x89PNG", b"<?xm", b"%PDF")
    write_sound(tmp_path / "a.wav", tone(880, 3, RATE), RATE, "pcm_s16le")
    again = run("plot", tmp_path / "a.npz", "--output", tmp_path / f"drawn.{ending}", "--overwrite")
    assert again.exit_code == 0 and "without a waveform" in again.output


def test_the_matrix_of_a_video_compares_sounds_with_pictures(tmp_path, monkeypatch):
    sound, pictures = vectors(0, 6), vectors(1, 6)
    write(tmp_path / "clip.npz", (sound, pictures), kind="video")
    compared, real = [], plotting.similarity
    monkeypatch.setattr(plotting, "similarity", lambda *both: compared.append(real(*both)) or compared[-1])
    assert run("plot", tmp_path / "clip.npz", "--output", tmp_path / "a.png").exit_code == 0
    np.testing.assert_allclose(compared[0], sound @ pictures.T, atol=1e-6)
    assert Image.open(tmp_path / "a.png").width == 800


def test_scores_of_a_video_are_drawn_at_their_times(tmp_path):
    write_video(tmp_path / "clip.mkv", np.arange(20) / 5, sound=tone(440, 4, RATE))
    result = run("score", tmp_path / "clip.mkv", "--plot", tmp_path / "scores.png")
    assert result.exit_code == 0 and Image.open(tmp_path / "scores.png").size == (700, 300)


def test_a_training_is_drawn_from_its_log(tmp_path):
    lines = [{"step": k, "loss": 5 / k, "right": k / 500, "gradient_norm": None} for k in range(1, 301)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run("plot", tmp_path / "log.jsonl", "--output", tmp_path / "log.png").exit_code == 0
    assert Image.open(tmp_path / "log.png").size == (700, 500)


@pytest.mark.parametrize(
    ("name", "content", "output", "told"),
    [
        ("a.npz", b"junk", "a.png", "a.npz isn't a result of openavc"),
        ("a.npz", None, "a.png", "a.npz has 1 moment"),
        ("log.jsonl", b'{"step": 1}\n', "a.png", "log.jsonl isn't the log.jsonl of a training"),
        ("log.jsonl", b"", "a.png", "log.jsonl has no steps yet"),
        ("a.npz", b"junk", "a.gif", "a.gif must end in .png, .svg or .pdf"),
        ("a.npz", b"junk", "a.npz", "a.npz must end in .png"),
    ],
)
def test_what_cannot_be_drawn_is_told_and_nothing_is_written(tmp_path, name, content, output, told):
    if content is None:
        write(tmp_path / name, vectors(0, 1))
    else:
        (tmp_path / name).write_bytes(content)
    result = run("plot", tmp_path / name, "--output", tmp_path / output)
    assert result.exit_code in (1, 2) and told in result.output
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    write(tmp_path / "a.npz", vectors(0))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run("plot", tmp_path / "a.npz", "--output", tmp_path / "a.png")
    assert result.exit_code == 1 and "openavc[plots]" in result.output
