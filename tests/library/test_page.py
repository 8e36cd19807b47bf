"""The page shows the hits, whatever the files are called and whatever is wrong with them."""

import base64
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile

from openavc.library.page import write_page
from openavc.library.search import Hit

EXAMPLE = Path(__file__).parents[2] / "examples" / "freedoom.mp4"


@pytest.fixture
def sound(tmp_path):
    """Write a sound with a hostile name."""
    path = tmp_path / "<img src=x onerror=alert(1)>&'.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 32_000), 16_000)
    return path


@pytest.fixture
def picture(tmp_path):
    """Write a red picture of 120 x 90 pixels."""
    path = tmp_path / "red.png"
    cv2.imwrite(str(path), np.tile(np.uint8([0, 0, 255]), (90, 120, 1)))
    return path


def test_the_page_escapes_names_shows_pictures_and_plays_moments(sound, picture, tmp_path):
    hits = [
        Hit(str(picture), "image", None, 0.9),
        Hit(str(EXAMPLE), "image", 3.0, 0.8),
        Hit(str(sound), "audio", 0.5, 0.7),
        Hit('/gone/"><script>.wav', "audio", 0.5, 0.6),
    ]
    write_page(tmp_path / "page.html", sound, hits)
    page = (tmp_path / "page.html").read_text()
    assert "<img src=x" not in page
    assert "<script" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;&#x27;.wav" in page
    assert f'<audio controls preload="none" src="{sound.as_uri()}"></audio>' in page  # the query
    assert f'src="{sound.as_uri()}#t=0.00,2.50"' in page
    assert f'src="{EXAMPLE.as_uri()}#t=2.00,5.00"' in page
    assert page.count("missing: the file") == 1
    assert [float(score) for score in re.findall(r"<strong>(.*?)</strong>", page)] == [0.9, 0.8, 0.7, 0.6]
    jpegs = [base64.b64decode(text) for text in re.findall(r'data:image/jpeg;base64,([^"]+)"', page)]
    pictures = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) for jpeg in jpegs]
    assert pictures[0].shape == (90, 120, 3)
    np.testing.assert_allclose(pictures[0].mean(axis=(0, 1)), [0, 0, 255], atol=3)
    assert pictures[1].shape[:2] == (180, 240) or max(pictures[1].shape) <= 240


def test_a_page_tells_of_pictures_that_cannot_be_read_and_of_no_hits(tmp_path):
    (tmp_path / "broken.png").write_text("text")
    (tmp_path / "broken.mp4").write_text("text")
    hits = [Hit(str(tmp_path / f"broken{ending}"), "image", 1.0, 0.5) for ending in (".png", ".mp4")]
    write_page(tmp_path / "page.html", tmp_path / "gone.png", hits)
    assert (tmp_path / "page.html").read_text().count("no picture: ") == 2
    write_page(tmp_path / "page.html", tmp_path / "gone.png", [])
    assert "nothing was found" in (tmp_path / "page.html").read_text()
