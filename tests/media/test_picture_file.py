"""Picture files of all kinds: the pixels that were written, upright, in sRGB, or an error that says why not."""

import io
import re
import struct
import subprocess
import sys
import warnings
import zlib

import cv2
import numpy as np
import pytest
from pictures import UPRIGHT, exif, png_chunk, write_png, write_png16, write_tiff
from PIL import Image, ImageCms

from openavc import get_image_embedding
from openavc.interfaces.openl3.pictures import read_picture
from openavc.media.image import read_image

WHITE = np.ones(3)


def random(shape, dtype):
    values = np.random.default_rng(0).random(shape)
    return values.astype(dtype) if np.dtype(dtype).kind == "f" else (values * np.iinfo(dtype).max).astype(dtype)


def scaled(values):
    return values / (1 if values.dtype.kind == "f" else np.iinfo(values.dtype).max)


def on_white(values):
    """Lay values (H, W, C) in [0, 1] on white, if they have alpha: (H, W, 3)."""
    colours, alpha = (values[..., :-1], values[..., -1:]) if values.shape[2] % 2 == 0 else (values, 1)
    return np.broadcast_to(colours * alpha + (1 - alpha), (*values.shape[:2], 3))


@pytest.fixture(autouse=True)
def no_warnings():
    """Fail where a picture is warned of, unless the test expects it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# ---------------------------------------------------------------------------------------------------------- kinds


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    "bands, dtype",
    [(bands, dtype) for dtype in ("u1", "u2", "f4", "f8") for bands in (1, 2, 3, 4) if dtype[0] == "u" or bands != 2],
)
def test_a_tiff_gives_what_was_written_or_says_its_kind(bands, dtype, apart, packed, order, tmp_path):
    values = random((9, 7, bands), dtype)
    alpha = {"tag_338": 2} if bands in (2, 4) else {}
    path = write_tiff(tmp_path / "a.tif", values, order, apart, packed, **alpha)
    if apart and (bands == 2 or (dtype == "f8" and bands > 1)):
        with pytest.raises(OSError, match=r"a\.tif .*bits per sample in \d bands"):
            read_image(path)
        return
    np.testing.assert_allclose(read_image(path), on_white(scaled(values)), atol=1e-6)


@pytest.mark.parametrize("bands, dtype", [(1, "u1"), (1, "u2"), (2, "u2"), (1, "f4"), (1, "f8")])
def test_the_lowest_value_of_a_tiff_can_be_white(bands, dtype, tmp_path):
    values = random((9, 7, bands), dtype)
    alpha = {"tag_338": 2} if bands == 2 else {}
    expected = scaled(values)
    expected[..., 0] = 1 - expected[..., 0]
    path = write_tiff(tmp_path / "a.tif", values, tag_262=0, **alpha)
    np.testing.assert_allclose(read_image(path), on_white(expected), atol=1e-6)


@pytest.mark.parametrize("dtype, error", [("u1", 0.01), ("u2", 1e-4), ("f4", 1e-6)])
def test_colours_that_a_tiff_multiplied_by_alpha_are_not_multiplied_again(dtype, error, tmp_path):
    straight = np.full((4, 5, 4), [0.8, 0.4, 0, 0.5])
    straight[0, 0, 3] = 0
    multiplied = straight * np.concatenate([straight[..., 3:]] * 3 + [np.ones((4, 5, 1))], axis=2)
    most = 1 if dtype == "f4" else np.iinfo(dtype).max
    stored = (multiplied * most).round(6 if most == 1 else 0).astype(dtype)
    image = read_image(write_tiff(tmp_path / "a.tif", stored, tag_338=1))
    np.testing.assert_allclose(image, on_white(straight), atol=error)
    unrelated = read_image(write_tiff(tmp_path / "a.tif", stored, tag_338=0))  # the fourth band isn't alpha
    np.testing.assert_allclose(unrelated, scaled(stored)[..., :3], atol=1e-6)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("bands, dtype", [(1, "u1"), (3, "u1"), (4, "u1"), (1, "u2"), (3, "u2"), (3, "f4"), (1, "f4")])
def test_a_tiff_is_turned_upright(bands, dtype, orientation, tmp_path):
    values = random((9, 7, bands), dtype)
    path = write_tiff(tmp_path / "a.tif", values, tag_274=orientation)
    np.testing.assert_allclose(read_image(path), UPRIGHT[orientation](on_white(scaled(values))), atol=1e-6)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_a_png_is_turned_upright(bands, bits, orientation, tmp_path):
    values = random((9, 7, bands), f"u{bits // 8}")
    extra = [(b"eXIf", exif(orientation))]
    if bits == 16:
        path = write_png16(tmp_path / "a.png", values, extra)
    else:
        kind = {1: 0, 2: 4, 3: 2, 4: 6}[bands]
        path = write_png(tmp_path / "a.png", values.reshape(9, -1), 8, kind, extra)
    np.testing.assert_allclose(read_image(path), UPRIGHT[orientation](on_white(scaled(values))), atol=1e-6)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("bands", [1, 3])
def test_a_png_can_declare_one_value_as_transparent(bands, bits, tmp_path):
    values = random((9, 7, bands), f"u{bits // 8}")
    values[2, 3] = values[5, 1] = 100
    extra = [(b"tRNS", struct.pack(">H", 100) * bands)]
    if bits == 16:
        path = write_png16(tmp_path / "a.png", values, extra)
    else:
        path = write_png(tmp_path / "a.png", values.reshape(9, -1), 8, {1: 0, 3: 2}[bands], extra)
    expected = on_white(scaled(values)).copy()
    expected[2, 3] = expected[5, 1] = WHITE
    np.testing.assert_allclose(read_image(path), expected, atol=1e-6)


@pytest.mark.parametrize("header", [40, 52, 56])
def test_a_bmp_says_by_masks_where_its_colours_are(header, tmp_path):
    masks = struct.pack("<3I", 0xFF0000, 0xFF00, 0xFF) + (bytes(4) if header == 56 else b"")
    pixels = np.zeros((4, 5), "<u4")
    pixels[:] = 0xFF3300
    start = 14 + header + (12 if header == 40 else 0)
    head = struct.pack("<2sIII", b"BM", start + pixels.nbytes, 0, start)
    info = struct.pack("<IiiHHIIiiII", header, 5, 4, 1, 32, 3, pixels.nbytes, 0, 0, 0, 0)
    (tmp_path / "a.bmp").write_bytes(head + info + masks + pixels.tobytes())
    np.testing.assert_allclose(read_image(tmp_path / "a.bmp"), np.broadcast_to([1, 0.2, 0], (4, 5, 3)), atol=1e-6)


@pytest.mark.parametrize("most", [255, 1023, 65_535])
@pytest.mark.parametrize("bands", [1, 3])
def test_the_highest_value_of_a_ppm_is_white(bands, most, tmp_path):
    values = np.random.default_rng(0).integers(0, most + 1, (9, 7, bands))
    head = f"P{5 if bands == 1 else 6} 7 9 {most}\n".encode()
    (tmp_path / "a.ppm").write_bytes(head + values.astype("u1" if most == 255 else ">u2").tobytes())
    expected = np.broadcast_to(values / most, (9, 7, 3))
    np.testing.assert_allclose(read_image(tmp_path / "a.ppm"), expected, atol=1e-5)


def test_sixteen_bits_of_jpeg_2000_are_kept(tmp_path):
    values = random((40, 50, 3), "u2")
    encoded = cv2.imencode(".jp2", values[..., ::-1], [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])[1]
    (tmp_path / "a.jp2").write_bytes(encoded.tobytes())
    np.testing.assert_allclose(read_image(tmp_path / "a.jp2"), values / 65_535, atol=1e-6)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif", ".bmp"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_ordinary_pictures_are_pillows_to_the_last_bit(mode, suffix, tmp_path):
    smooth = cv2.GaussianBlur(random((61, 83, 3), "u1"), (0, 0), 2)
    Image.fromarray(smooth).convert(mode).save(tmp_path / f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as picture:
        expected = np.asarray(picture.convert("RGB")).astype(np.float32) / 255
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), expected)


def test_the_first_picture_of_an_animation_is_taken(tmp_path):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime")]
    for suffix in (".gif", ".webp", ".png"):
        frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:], lossless=True)
        np.testing.assert_allclose(read_image(tmp_path / f"a{suffix}"), np.full((6, 8, 3), [1, 0, 0]), atol=1e-6)


# ---------------------------------------------------------------------------------------------------- orientation


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_webp_is_turned_upright(orientation, prefix, tmp_path):
    values = random((9, 7, 3), "u1")
    picture = io.BytesIO()
    Image.fromarray(values).save(picture, "WEBP", lossless=True, exif=exif(orientation))
    data = picture.getvalue()
    at = data.index(b"EXIF")
    block = prefix + exif(orientation)
    data = data[:at] + b"EXIF" + struct.pack("<I", len(block)) + block + bytes(len(block) % 2)
    (tmp_path / "a.webp").write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
    np.testing.assert_allclose(read_image(tmp_path / "a.webp"), UPRIGHT[orientation](values) / 255, atol=1e-6)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_an_avif_is_turned_and_mirrored_upright(orientation, tmp_path):
    blocks = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[255, 255, 0], [0, 0, 0], [200, 200, 200]]], np.uint8)
    blocks = blocks.repeat(16, axis=0).repeat(16, axis=1)
    Image.fromarray(blocks).save(tmp_path / "a.avif", quality=100, subsampling="4:4:4", exif=exif(orientation))
    data = (tmp_path / "a.avif").read_bytes()
    assert (b"irot" in data or b"imir" in data) == (orientation > 1)  # Pillow writes EXIF's orientation as these
    image = read_image(tmp_path / "a.avif")
    np.testing.assert_allclose(image[8::16, 8::16], UPRIGHT[orientation](blocks)[8::16, 8::16] / 255, atol=0.03)


# -------------------------------------------------------------------------------------------------------- colours


def linear_profile(green_first=False):
    """Write an ICC profile of sRGB's primaries without its curve; with red and green exchanged if asked."""
    curve = b"curv" + bytes(4) + struct.pack(">I", 1) + struct.pack(">H", 256) + bytes(2)  # gamma 1
    columns = [(0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)]  # PCS, D50
    if green_first:
        columns[:2] = columns[1::-1]

    def xyz(column):
        return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65_536) for value in column))

    parts = {b"wtpt": xyz((0.9642, 1, 0.8249)), b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(78)}
    parts |= dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(xyz, columns), strict=True))
    parts |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, data, start = struct.pack(">I", len(parts)), b"", 128 + 4 + 12 * len(parts)
    for name, part in parts.items():
        table += name + struct.pack(">II", start + len(data), len(part))
        data += part + bytes(-len(part) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(data), bytes(4), 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + table + data


def in_srgb(linear):
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)  # IEC 61966-2-1


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("bands", [3, 4])
def test_colours_are_converted_by_the_profile(bands, suffix, tmp_path):
    values = random((16, 16, bands), "u1") // 2 + 64
    Image.fromarray(values).save(tmp_path / f"a{suffix}", icc_profile=linear_profile(), lossless=True)
    expected = scaled(values)
    expected[..., :3] = in_srgb(expected[..., :3])
    np.testing.assert_allclose(read_image(tmp_path / f"a{suffix}"), on_white(expected), atol=0.012)


def test_a_profile_with_other_primaries_moves_the_colours(tmp_path):
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "a.png", icc_profile=linear_profile(green_first=True))
    np.testing.assert_allclose(read_image(tmp_path / "a.png"), np.full((4, 4, 3), [0, 1, 0]), atol=0.02)


def test_a_profile_of_srgb_changes_nothing(tmp_path):
    values = random((16, 16, 3), "u1")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(values).save(tmp_path / "a.png", icc_profile=profile)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), values.astype(np.float32) / 255)


def test_one_warning_names_a_file_whose_profile_is_ignored(tmp_path):
    values = random((9, 7, 3), "u2")
    deep = write_png16(tmp_path / "deep.png", values, [(b"iCCP", b"x\0\0" + zlib.compress(linear_profile()))])
    with pytest.warns(UserWarning, match=r"deep\.png: its ICC profile was ignored") as caught:
        np.testing.assert_allclose(read_image(deep), values / 65_535, atol=1e-6)
    assert len(caught) == 1
    Image.fromarray(random((9, 7, 3), "u1")).save(tmp_path / "bad.png", icc_profile=b"no profile")
    with pytest.warns(UserWarning, match=r"bad\.png: its ICC profile can't be applied") as caught:
        read_image(tmp_path / "bad.png")
    assert len(caught) == 1


@pytest.mark.parametrize("code, name", [(16, "PQ"), (18, "HLG")])
def test_one_warning_names_a_picture_for_hdr_screens(code, name, tmp_path):
    rows = random((4, 15), "u1")
    path = write_png(tmp_path / "a.png", rows, 8, 2, [(b"cICP", bytes([9, code, 0, 1]))])
    with pytest.warns(UserWarning, match=rf"a\.png: .*HDR screens \({name}\)") as caught:
        read_image(path)
    assert len(caught) == 1
    Image.new("RGB", (8, 8)).save(tmp_path / "a.avif")
    data = (tmp_path / "a.avif").read_bytes()
    at = data.index(b"colrnclx") + 8
    (tmp_path / "a.avif").write_bytes(data[:at] + struct.pack(">HH", 9, code) + data[at + 4 :])
    with pytest.warns(UserWarning, match=rf"a\.avif: .*HDR screens \({name}\)"):
        read_image(tmp_path / "a.avif")


# --------------------------------------------------------------------------------------------------------- errors


def encoded(kind):
    """Return a whole picture of some size, as a file's bytes."""
    picture = io.BytesIO()
    if kind == "deep png":
        return cv2.imencode(".png", random((90, 90, 3), "u2"))[1].tobytes()
    if kind == "deep tif":
        return cv2.imencode(".tif", random((90, 90, 3), "u2"), [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1].tobytes()
    Image.fromarray(random((90, 90, 3), "u1")).save(picture, {"jp2": "JPEG2000"}.get(kind, kind))
    return picture.getvalue()


@pytest.mark.parametrize("kind", ["jpeg", "gif", "ppm", "deep png", "png", "webp", "bmp", "tiff", "avif", "jp2"])
def test_one_line_says_where_a_picture_is_cut_off(kind, tmp_path, capfd):
    data = encoded(kind)
    for share in (0.4, 0.9):
        (tmp_path / "a").write_bytes(data[: round(len(data) * share)])
        with pytest.raises(OSError, match=r"a \(\d+ bytes\) can't be decoded as a picture: it is cut off") as caught:
            read_image(tmp_path / "a")
        kilobytes = re.search(r"after ([\d.]+) (of [\d.]+ )?kB", str(caught.value))
        assert float(kilobytes[1]) == pytest.approx(len(data) * share / 1000, rel=0.06)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "it is empty"),
        (b"hello, this is a text", "none of JPEG, PNG"),
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "HEIC isn't read: convert it to JPEG or PNG"),
        (b"RIFF\1", "it is cut off after 5 of 9 bytes"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "it is a video or a recording"),
        (b"RIFF\x24\0\0\0AVI LIST", "it is a video or a recording"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", "it is a video or a recording"),
        (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\1B\xf7\x81", "it is a video or a recording"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "it is cut off|header is damaged"),
        (b"\xff\xd8\xff\xe0", "it is cut off|header is damaged"),
    ],
)
def test_the_reason_is_given_for_what_is_no_picture(data, reason, tmp_path, capfd):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(OSError, match=rf"a\.jpg.*({reason})") as caught:
        read_image(tmp_path / "a.jpg")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "dtype, bits, kind",
    [
        ("u1", 4, "whole numbers of 4"),
        ("u4", None, "whole numbers of 32"),
        ("i2", None, "signed"),
        ("f2", None, "floats of 16"),
    ],
)
def test_depths_that_nobody_reads_are_refused_by_name(dtype, bits, kind, tmp_path, capfd):
    path = write_tiff(tmp_path / "a.tif", np.ones((8, 8, 3), dtype), bits=bits)
    with pytest.raises(OSError, match=rf"a\.tif .*{kind}.*bits per sample in 3 bands"):
        read_image(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "tiff_adobe_deflate"])
def test_what_libtiff_prints_of_damage_is_the_reason(compression, tmp_path, capfd):
    picture = io.BytesIO()
    Image.fromarray(random((40, 40, 3), "u1")).save(picture, "TIFF", compression=compression)
    data = picture.getvalue()
    (tmp_path / "a.tif").write_bytes(data[:8] + bytes(400) + data[408:])
    with pytest.raises(
        OSError, match=r"a\.tif \(\d+ bytes\) can't be decoded as a picture: (?!decoder error)"
    ) as caught:
        read_image(tmp_path / "a.tif")
    assert "\n" not in str(caught.value)
    print("still shown", file=sys.stderr)
    assert capfd.readouterr() == ("", "still shown\n")


def test_a_damaged_checksum_is_no_noise(tmp_path, capfd):
    data = bytearray(encoded("deep png"))
    data[len(data) // 2] ^= 255
    (tmp_path / "a.png").write_bytes(data)
    for read in (read_image, lambda path: read_picture(path, strict_openl3=True)):
        with pytest.raises(OSError, match=r"a\.png \(\d+ bytes\) can't be decoded as a picture: "):
            read(tmp_path / "a.png")
    assert capfd.readouterr() == ("", "")


# --------------------------------------------------------------------------------------------------------- limits


def huge_pictures(folder):
    """Write small files that declare 16,000 x 16,000 pixels or more."""
    zeros = zlib.compress(bytes(1 << 20))
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 16_000, 16_000, 8, 2, 0, 0, 0))
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zeros) + png_chunk(b"IEND", b""))
    frame = b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;"
    (folder / "a.gif").write_bytes(b"GIF89a\xff\xff\xff\xff\x80\0\0" + b"\0\0\0\xff\xff\xff" + frame)
    (folder / "a.bmp").write_bytes(
        struct.pack("<2sIII", b"BM", 54, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 30_000, 30_000, 1, 24, 0, 0, 0, 0, 0, 0)
    )
    (folder / "a.ppm").write_bytes(b"P6 60000 60000 65535\n")
    write_tiff(folder / "a.tif", np.ones((2, 2, 3), "u2"), tag_256=50_000, tag_257=50_000)
    write_tiff(folder / "b.tif", np.ones((2, 2, 3), "u1"), tag_256=50_000, tag_257=50_000)
    return sorted(folder.iterdir())


def test_pictures_beyond_the_limit_are_refused_by_their_header(tmp_path):
    for path in huge_pictures(tmp_path):
        for read in (read_image, lambda path: read_picture(path, strict_openl3=True)):
            with pytest.raises(OSError, match=r"\d{5} x \d{5} pixels.*67,108,864.*OPENAVC_MAX_PIXELS") as caught:
                read(path)
            assert str(path) in str(caught.value)


def test_pictures_beyond_the_limit_cost_no_memory(tmp_path):
    resource = pytest.importorskip("resource")
    code = (
        "import resource, sys; from openavc.media.image import read_image\n"
        "import cv2, av, PIL.Image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[1:]:\n"
        "    try: read_image(path)\n"
        "    except OSError: pass\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3)"
    )
    command = [sys.executable, "-c", code, *map(str, huge_pictures(tmp_path))]
    megabytes = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert megabytes * (1e-3 if sys.platform == "darwin" else 1) < 60
    assert resource


def test_the_limit_can_be_set(tmp_path, monkeypatch):
    Image.new("RGB", (30, 20), "red").save(tmp_path / "a.png")
    monkeypatch.setenv("OPENAVC_MAX_PIXELS", "599")
    with pytest.raises(OSError, match=r"30 x 20 pixels, the limit is 599; OPENAVC_MAX_PIXELS"):
        read_image(tmp_path / "a.png")
    monkeypatch.setenv("OPENAVC_MAX_PIXELS", "600")
    assert read_image(tmp_path / "a.png").shape == (20, 30, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's own limit neither refuses nor warns
    assert read_image(tmp_path / "a.png").shape == (20, 30, 3)
    assert Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setenv("OPENAVC_MAX_PIXELS", "many")
    with pytest.raises(OSError, match="OPENAVC_MAX_PIXELS must be a whole number of pixels, got 'many'"):
        read_image(tmp_path / "a.png")


def write_jpeg(path, size=(1600, 1200), **options):
    """Write a JPEG of smooth colours and a block, and return its pixels (H, W, 3) uint8."""
    small = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    picture.paste((250, 20, 20), (size[0] // 2, size[1] // 3, size[0] // 2 + 300, size[1] // 3 + 200))
    picture.save(path, "JPEG", quality=95, **options)
    return np.asarray(Image.open(path))


@pytest.mark.parametrize(
    ("limit", "side", "found"),
    [
        (1_920_000, 100, (1200, 1600)),  # no more than allowed: nothing is reduced
        (1_919_999, 100, (150, 200)),
        (500_000, 151, (300, 400)),
        (500_000, 600, (600, 800)),
    ],
)
def test_a_jpeg_beyond_the_limit_is_decoded_at_a_reduced_size_with_the_same_content(
    tmp_path, monkeypatch, limit, side, found
):
    whole = write_jpeg(tmp_path / "a.jpg")
    monkeypatch.setenv("OPENAVC_MAX_PIXELS", str(limit))
    reduced = read_image(tmp_path / "a.jpg", side)
    assert reduced.shape[:2] == found
    truth = cv2.resize(whole, found[::-1], interpolation=cv2.INTER_AREA) / 255
    assert np.abs(reduced - truth).mean() < 0.005
    assert np.abs(reduced - truth).max() < 0.25  # at the edges of the block


def test_a_jpeg_is_turned_when_it_is_reduced(tmp_path, monkeypatch):
    turned = Image.Exif()
    turned[274] = 6
    write_jpeg(tmp_path / "a.jpg")
    write_jpeg(tmp_path / "b.jpg", exif=turned)
    monkeypatch.setenv("OPENAVC_MAX_PIXELS", "500000")
    upright, on_its_side = (read_image(tmp_path / name, 200) for name in ("a.jpg", "b.jpg"))
    np.testing.assert_array_equal(on_its_side, np.rot90(upright, 3))


@pytest.mark.parametrize(
    ("side", "limit", "options"),
    [
        (None, 1_900_000, {}),  # who needs the whole picture
        (601, 1_900_000, {}),
        (100, 119_999, {}),  # 16 times the limit
        (100, 1_900_000, {"progressive": True}),  # decoded whole all the same
    ],
)
def test_a_jpeg_that_cannot_be_reduced_is_refused(tmp_path, monkeypatch, side, limit, options):
    write_jpeg(tmp_path / "a.jpg", **options)
    monkeypatch.setenv("OPENAVC_MAX_PIXELS", str(limit))
    said = rf"a\.jpg.* it has 1600 x 1200 pixels, the limit is {limit:,}; OPENAVC_MAX_PIXELS"
    with pytest.raises(OSError, match=said):
        read_image(tmp_path / "a.jpg", side)


def test_an_embedding_of_a_reduced_jpeg_is_that_of_the_whole_one(tmp_path, monkeypatch, model):
    write_jpeg(tmp_path / "a.jpg")
    whole = get_image_embedding(tmp_path / "a.jpg", model)[0]
    monkeypatch.setenv("OPENAVC_MAX_PIXELS", "500000")
    reduced = get_image_embedding(tmp_path / "a.jpg", model)[0]
    assert (whole != reduced).any()
    assert np.linalg.norm(whole - reduced) < 0.01 * np.linalg.norm(whole)
