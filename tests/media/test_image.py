"""Picture input: every way of storing a picture gives the same picture, and the right crop of it."""

import struct
import tracemalloc

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pictures import UPRIGHT, exif, write_png

import openavc
from openavc.media.image import enlarge, fit, read_image, shrink_to, to_images, uncropped


@pytest.fixture
def colours():
    """Draw blocks of 16 x 16 pixels, all different: (32, 48, 3) uint8 RGB."""
    blocks = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[255, 255, 0], [0, 0, 0], [200, 200, 200]]], np.uint8)
    return blocks.repeat(16, axis=0).repeat(16, axis=1)


def write(path, rgb, *parameters):
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[rgb.shape[2]]
    path.write_bytes(cv2.imencode(path.suffix, rgb[..., order], parameters)[1].tobytes())
    return path


# --------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright_by_their_exif_orientation(orientation, colours, tmp_path):
    jpeg = write(tmp_path / "a.jpg", colours, cv2.IMWRITE_JPEG_QUALITY, 100).read_bytes()
    block = b"Exif\0\0" + exif(orientation)
    (tmp_path / "a.jpg").write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:])
    expected = UPRIGHT[orientation](colours)[8::16, 8::16] / 255  # block centres
    image = read_image(tmp_path / "a.jpg")
    assert image.shape[:2] == ((32, 48) if orientation < 5 else (48, 32))
    np.testing.assert_allclose(image[8::16, 8::16], expected, atol=0.03)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm", ".jp2"])
def test_lossless_files_give_the_array(suffix, colours, tmp_path):
    image = read_image(write(tmp_path / f"a{suffix}", colours))
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, colours / 255, atol=1e-6)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".pgm", ".tiff"])
def test_grey_files_become_rgb(suffix, tmp_path):
    grey = np.full((20, 30, 1), 51, np.uint8)
    np.testing.assert_allclose(read_image(write(tmp_path / f"a{suffix}", grey)), np.full((20, 30, 3), 0.2), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparent_files_are_laid_on_white(dtype, tmp_path):
    most = np.iinfo(dtype).max
    rgba = np.full((4, 5, 4), most, dtype)
    rgba[..., 1:3] = 0  # red
    rgba[0, :, 3], rgba[1, :, 3] = 0, most // 5
    image = read_image(write(tmp_path / "a.png", rgba))
    np.testing.assert_allclose(image[0], 1)
    np.testing.assert_allclose(image[1], [[1, 0.8, 0.8]] * 5, atol=1e-4)
    np.testing.assert_allclose(image[2], [[1, 0, 0]] * 5)


def test_grey_files_with_transparency_are_laid_on_white(tmp_path):
    rows = np.array([[0, 255, 102, 255, 0, 51, 0, 0]], np.uint8)  # (grey, alpha) of four pixels
    image = read_image(write_png(tmp_path / "a.png", rows, 8, 4))
    np.testing.assert_allclose(image[0], [[0] * 3, [0.4] * 3, [0.8] * 3, [1] * 3], atol=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_files_give_the_colours_of_the_palette(bits, tmp_path):
    rows = {1: [[0b01000000]], 2: [[0b00010000]], 4: [[0x01, 0x00]], 8: [[0, 1, 0, 0]]}[bits]
    palette = bytes([255, 0, 0, 0, 51, 255])  # red, a blue
    path = write_png(tmp_path / "a.png", np.array(rows, np.uint8), bits, 3, [(b"PLTE", palette)])
    np.testing.assert_allclose(read_image(path)[0, :3], [[1, 0, 0], [0, 0.2, 1], [1, 0, 0]], atol=1e-6)


def test_a_palette_with_transparency_is_laid_on_white(tmp_path):
    extra = [(b"PLTE", bytes([255, 0, 0, 0, 0, 255])), (b"tRNS", bytes([255, 0]))]
    image = read_image(write_png(tmp_path / "a.png", np.array([[0, 1]], np.uint8), 8, 3, extra))
    np.testing.assert_allclose(image[0], [[1, 0, 0], [1, 1, 1]])


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bit_files_keep_their_sixteen_bits(channels, tmp_path):
    values = np.random.default_rng(0).integers(0, 65_536, (6, 7, channels), dtype=np.uint16)
    image = read_image(write(tmp_path / "a.png", values))
    np.testing.assert_allclose(image, np.broadcast_to(values / 65_535, (6, 7, 3)), atol=1e-7)


# -------------------------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize(
    "convert",
    [
        lambda image: image.astype(np.uint16) * 257,
        lambda image: image / 255,
        lambda image: (image / 255).astype(np.float32),
        lambda image: torch.from_numpy(image),
        lambda image: torch.from_numpy(image / 255).requires_grad_(),
        lambda image: image[::-1].copy()[::-1],
        lambda image: np.concatenate([image, np.full_like(image[..., :1], 255)], axis=2),
        lambda image: image[None],
    ],
    ids=["uint16", "float64", "float32", "tensor", "float tensor", "reversed", "opaque RGBA", "stack of one"],
)
def test_a_picture_is_the_same_whatever_holds_it(convert, colours):
    noise = np.random.default_rng(0).integers(0, 256, colours.shape, dtype=np.uint8)
    expected = to_images(noise)
    assert expected.dtype == np.float32
    np.testing.assert_allclose(expected[0], noise / 255, atol=1e-7)
    np.testing.assert_allclose(to_images(convert(noise)), expected, atol=1e-7)


def test_half_precision_pictures_are_taken():
    image = torch.full((4, 4, 3), 0.25)
    for half in (image.half(), image.bfloat16(), image.half().numpy()):
        np.testing.assert_array_equal(to_images(half), np.full((1, 4, 4, 3), 0.25))


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1)])
def test_grey_arrays_become_rgb(shape):
    grey = np.arange(30, dtype=np.uint8).reshape(shape)
    np.testing.assert_array_equal(to_images(grey)[0], np.stack([grey.reshape(5, 6) / np.float32(255)] * 3, axis=-1))


def test_transparent_arrays_are_laid_on_white():
    rgba = np.array([[[1.0, 0.5, 0.0, 0.5], [0.3, 0.3, 0.3, 0.0]]])
    np.testing.assert_allclose(to_images(rgba)[0], [[[1, 0.75, 0.5], [1, 1, 1]]])


@pytest.mark.parametrize("shape", [(3, 70, 80), (1, 70, 80), (4, 70, 80), (2, 3, 70, 80)])
def test_channels_first_are_refused_with_the_way_to_move_them(shape, model):
    with pytest.raises(ValueError, match=r"channels come last.*moveaxis") as caught:
        openavc.get_image_embedding(np.zeros(shape, np.uint8), model)
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("most, hint", [(255.0, True), (200.0, True), (1.001, False), (1000.0, False)])
def test_floats_beyond_one_are_refused_and_bytes_in_disguise_recognised(most, hint):
    with pytest.raises(ValueError, match=f"{most:g}") as caught:
        to_images(np.full((4, 4, 3), most))
    assert ("divide by 255" in str(caught.value)) == hint


@pytest.mark.parametrize("most, hint", [(9.9, False), (100.5, False), (254.7, True), (9, True), (2, True)])
def test_division_is_advised_for_whole_numbers_and_for_resized_bytes_only(most, hint):
    values = np.zeros((4, 4, 3))
    values[0, 0, 0] = most
    with pytest.raises(ValueError, match="must lie in") as caught:
        to_images(values)
    assert ("divide by 255" in str(caught.value)) == hint


@pytest.mark.parametrize(
    ("least", "most", "hint"),
    [
        (0, 1.004, "numpy.clip(image, 0, 1)"),
        (-0.2, 1.2, "numpy.clip(image, 0, 1)"),
        (0, 255, "divide by 255"),
        (0, 65_535, "divide by 65535"),
        (0.25, 40_000.5, "divide by 65535"),
        (-1, 1, "(image + 1) / 2"),
        (-0.9, 0.8, "(image + 1) / 2"),
        (-2.1, 2.6, None),
        (-1, 255, None),
        (0, 1e38, None),
        (0, 9.9, None),
        (0, np.inf, None),
        (0, np.nan, None),
    ],
)
def test_the_advice_for_floats_beyond_one_fits_their_range(least, most, hint):
    for dtype in ("float32", "float64"):
        values = np.full((4, 4, 3), (least, most, 0.125), dtype)
        with pytest.raises(ValueError, match="must lie in") as caught:
            to_images(values)
        found = str(caught.value).partition("; if ")[2]
        assert hint in found if hint else found == ""


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u4", "u8"])
def test_whole_numbers_of_other_types_are_refused_with_the_way_to_convert_bytes(dtype):
    with pytest.raises(TypeError, match=rf"got dtype {np.dtype(dtype)}: convert bytes with astype\('uint8'\)"):
        to_images(np.ones((4, 4, 3), dtype))


# --------------------------------------------------------------------------------------------------------- crops


def ramps(height, width):
    """Draw red growing from left to right and green from top to bottom, as seen at pixel centres; blue is a half."""
    y, x = np.mgrid[:height, :width]
    return np.stack([(x + 0.5) / width, (y + 0.5) / height, np.full((height, width), 0.5)], axis=-1).astype(np.float32)


@pytest.mark.parametrize("height, width", [(146, 292), (300, 200), (73, 73), (64, 64), (20, 30), (511, 97)])
@pytest.mark.parametrize("size, shorter", [(64, 73), (224, 256)])
def test_the_square_is_the_centre_of_the_picture_with_its_shorter_side_at_256_for_224(height, width, size, shorter):
    scale = shorter / min(height, width)
    tall, wide = round(height * scale), round(width * scale)
    top, left = (tall - size) // 2, (wide - size) // 2
    crop = fit(ramps(height, width), size, size)
    assert crop.shape == (size, size, 3)
    red, green = ((start + np.arange(size) + 0.5) / side for start, side in ((left, wide), (top, tall)))
    np.testing.assert_allclose(crop[..., 0], np.tile(red, (size, 1)), atol=0.25 / wide + 0.25 / width)
    np.testing.assert_allclose(crop[..., 1], np.tile(green[:, None], (1, size)), atol=0.25 / tall + 0.25 / height)
    np.testing.assert_allclose(crop[..., 2], 0.5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (1, 600), (600, 1), (3, 900)])
def test_tiny_and_elongated_pictures_give_a_square_of_their_colour(shape):
    image = np.broadcast_to(np.array([0.1, 0.5, 0.9], np.float32), (*shape, 3))
    np.testing.assert_allclose(fit(image, 64, 64), np.broadcast_to(image[0, 0], (64, 64, 3)), atol=1e-6)


def test_a_model_may_take_pictures_that_are_not_square():
    picture = np.linspace(0, 1, 120 * 160 * 3, dtype=np.float32).reshape(120, 160, 3)
    assert fit(picture, 72, 96).shape == (72, 96, 3)
    assert shrink_to(picture, 72, 96).shape == (82, 110, 3)  # 72 * 256 / 224 rows hold 96 * 256 / 224 columns
    assert shrink_to(picture.transpose(1, 0, 2), 72, 96).shape == (147, 110, 3)


@pytest.mark.parametrize("shape", [(120, 160), (90, 160), (160, 90)])
def test_the_whole_picture_is_kept_at_the_scale_of_training(shape):
    seen = uncropped(np.zeros((*shape, 3), np.float32), 72, 96, 8)
    assert seen.shape[0] % 8 == seen.shape[1] % 8 == 0
    scale = max(72 / shape[0], 96 / shape[1]) * 256 / 224
    assert np.abs(np.array(seen.shape[:2]) - np.array(shape) * scale).max() <= 4


def test_an_extremely_elongated_picture_takes_little_memory():
    image = np.zeros((1, 2_000, 3), np.float32)  # 24 kB; 128 MB if all of it is made 73 pixels high
    tracemalloc.start()
    fit(image, 64, 64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6


def test_a_file_gives_the_embedding_of_its_array(model, colours, tmp_path):
    path = write(tmp_path / "a.png", colours)
    expected = openavc.get_image_embedding(colours, model)
    assert expected.shape == (1, 40)
    for source in (path, str(path)):
        np.testing.assert_allclose(openavc.get_image_embedding(source, model), expected, rtol=1e-5, atol=1e-6)


def test_maps_are_enlarged_bilinearly_between_the_middles_of_places():
    heatmap = np.random.default_rng(0).uniform(0, 1, (5, 7)).astype(np.float32)
    for size in [(5, 7), (10, 21), (33, 50), (5, 8)]:
        expected = F.interpolate(torch.from_numpy(heatmap)[None, None], size, mode="bilinear", align_corners=False)
        np.testing.assert_allclose(enlarge(heatmap, *size), expected[0, 0], atol=2e-3)  # cv2 rounds its weights


def test_maps_are_averaged_along_sides_on_which_the_picture_is_smaller():
    heatmap = np.random.default_rng(0).uniform(0, 1, (6, 8)).astype(np.float32)
    halved = heatmap.reshape(3, 2, 8).mean(1)
    np.testing.assert_allclose(enlarge(heatmap, 3, 8), halved, atol=1e-6)
    np.testing.assert_allclose(enlarge(heatmap, 3, 4), halved.reshape(3, 4, 2).mean(2), atol=1e-6)
    wider = F.interpolate(torch.from_numpy(halved)[None, None], (3, 24), mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(enlarge(heatmap, 3, 24), wider, atol=2e-3)
    np.testing.assert_allclose(enlarge(heatmap.T.copy(), 24, 3), wider.T, atol=2e-3)
