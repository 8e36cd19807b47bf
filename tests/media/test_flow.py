"""Optical flow against known displacements."""

import cv2
import numpy as np
import pytest
from videos import moving

from openavc.media import flow
from openavc.media.flow import LARGEST, optical_flow, with_flow
from openavc.models import AVENet


def inner(fields):
    """Return fields without their edges, where motion comes from outside the picture."""
    return fields[..., 12:-12, 12:-12, :]


@pytest.mark.parametrize("displacement", [(2, 0), (-3, 1), (0, -2), (4, 3), (0, 0)])
def test_flow_is_the_displacement_from_one_frame_to_the_next_in_pixels(displacement):
    fields = optical_flow(moving(*displacement, frames=4))
    assert fields.shape == (3, 64, 64, 2)
    assert fields.dtype == np.float32
    np.testing.assert_allclose(inner(fields).reshape(-1, 2), np.tile(displacement, (3 * 40 * 40, 1)), atol=0.25)


def test_flow_of_a_mirrored_run_goes_the_other_way():
    run = moving(2, 1)
    fields, mirrored = optical_flow(run), optical_flow(run[:, :, ::-1])
    np.testing.assert_allclose(inner(mirrored)[..., ::-1, :], inner(fields) * [-1, 1], atol=0.25)


def test_an_image_with_flow_is_the_middle_frame_beside_scaled_fields():
    run = moving(4, -2, frames=5)
    image = with_flow(run)
    assert image.shape == (64, 64, 3 + 2 * 4)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[..., :3], run[2])
    expected = [0.5 + 4 / (2 * LARGEST), 0.5 - 2 / (2 * LARGEST)] * 4
    np.testing.assert_allclose(np.median(image[..., 3:], axis=(0, 1)), expected, atol=0.005)


def test_flow_is_clipped_and_what_stands_still_is_halfway(monkeypatch):
    fields = np.array([[-100.0, 5.0], [0.0, 20.5]], np.float32).reshape(2, 1, 1, 2)
    monkeypatch.setattr(flow, "optical_flow", lambda run, method: fields)
    image = with_flow(np.full((3, 1, 1, 3), 0.25, np.float32))
    np.testing.assert_array_equal(image[0, 0], np.float32([0.25, 0.25, 0.25, 0, 0.625, 0.5, 1]))


def test_flow_does_not_depend_on_the_number_of_threads():
    run, before = moving(3, 1, size=128), cv2.getNumThreads()
    try:
        found = []
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            found.append(optical_flow(run))
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(*found)


def test_tvl1_is_used_where_opencv_has_it_and_otherwise_says_what_to_install():
    run = moving(2, 0)
    if hasattr(cv2, "optflow"):
        np.testing.assert_allclose(np.median(inner(optical_flow(run, "tvl1")), axis=(0, 1, 2)), [2, 0], atol=0.1)
    else:
        with pytest.raises(ValueError, match="opencv-contrib-python; or use 'dis'"):
            optical_flow(run, "tvl1")


def test_an_unknown_flow_is_refused():
    with pytest.raises(ValueError, match="one of 'dis', 'tvl1', got 'farneback'"):
        AVENet(motion="flow", flow_method="farneback")
