"""Arrays and tensors of every kind give the numbers they stand for, or are refused with what to pass instead."""

import mmap
import warnings

import numpy as np
import pytest
import torch

import openavc
from openavc.media.arrays import to_array
from openavc.media.audio import to_samples
from openavc.media.image import to_images

VALUES = np.array([0.5, 0.25, 1.0, 0.0], np.float32)
WHOLE = np.array([[[0, 513, 65_535]]], np.uint16)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def in_a_file(array):
    pages = mmap.mmap(-1, array.nbytes)
    pages.write(array.tobytes())
    return np.frombuffer(pages, array.dtype)


SAME = {
    "as it is": VALUES,
    "big-endian": VALUES.astype(">f4"),
    "read-only": read_only(VALUES),
    "backwards": VALUES[::-1].copy()[::-1],
    "every second": np.repeat(VALUES, 2)[::2],
    "mapped memory": in_a_file(VALUES),
    "nothing masked": np.ma.array(VALUES, mask=False),
    "a record's field": np.array([(v, 1) for v in VALUES], [("sound", "f4"), ("other", "i8")])["sound"],
    "half": VALUES.astype(np.float16),
    "long double": VALUES.astype(np.longdouble),
    "a tensor": torch.from_numpy(VALUES),
    "with gradients": torch.tensor(VALUES, requires_grad=True) * 1,
    "a parameter": torch.nn.Parameter(torch.tensor(VALUES)),
    "made in inference mode": torch.inference_mode()(lambda: torch.tensor(VALUES))(),
    "bfloat16": torch.tensor(VALUES).bfloat16(),
    "8-bit floats": torch.tensor(VALUES).to(torch.float8_e4m3fn),
    "with the negative bit": torch.complex(torch.zeros(4), torch.tensor(-VALUES)).conj().imag,
    "strided": torch.tensor(VALUES).repeat_interleave(3)[::3],
}


@pytest.mark.parametrize("kind", SAME)
def test_every_kind_of_array_gives_the_numbers_it_stands_for(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samples = to_samples(SAME[kind])
        picture = to_images(SAME[kind].reshape(2, 2))
    assert type(samples) is type(picture) is np.ndarray
    np.testing.assert_array_equal(samples[:, 0], VALUES)
    np.testing.assert_array_equal(picture[0, ..., 0], VALUES.reshape(2, 2))


def test_a_tensor_with_the_negative_bit_is_one():
    assert SAME["with the negative bit"].is_neg()


@pytest.mark.parametrize("dtype", [">u2", "<u2"])
def test_pictures_of_either_byte_order_are_the_same(dtype):
    np.testing.assert_array_equal(to_images(WHOLE.astype(dtype)), WHOLE[None] / np.float32(65_535))


@pytest.mark.parametrize("dtype", [">i2", "<i2", ">i4", ">i8", ">u2", ">u8", "i1"])
def test_samples_of_either_byte_order_are_the_same(dtype):
    limits = np.iinfo(dtype)
    ends = np.array([limits.min, limits.max // 2 + limits.min // 2, limits.max], dtype)
    np.testing.assert_allclose(to_samples(ends)[:, 0], [-1, 0, 1], atol=0.02)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_a_matrix_is_a_picture_like_its_array():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(to_images(np.matrix(grey)), to_images(grey))


# ------------------------------------------------------------------------------------------------------- refused

MASKED = np.ma.masked_equal(np.array([0.5, 0.25, 0.5], np.float32), 0.25)


class WithArray:
    """Stands for arrays of other packages, such as pandas' Series."""

    def __array__(self, dtype=None, copy=None):
        return VALUES


class WithCapsule:
    """Stands for arrays of other packages that know DLPack alone."""

    def __dlpack__(self, stream=None):
        return torch.utils.dlpack.to_dlpack(torch.tensor(VALUES))


def nested():
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


def nested_jagged():
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)


def masked_tensor():
    return torch.masked.masked_tensor(torch.ones(3), torch.tensor([True, False, True]))


def quantized():
    return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)


REFUSED = {
    "masked": (lambda: MASKED, ValueError, r"holds 1 masked values: pass audio\.filled\(0\)"),
    "a masked number": (lambda: np.ma.masked, ValueError, "holds 1 masked values"),
    "nested": (nested, TypeError, r"is a nested tensor: pass a list of its parts, list\(audio\.unbind\(\)\)"),
    "nested, jagged": (nested_jagged, TypeError, "is a nested tensor"),
    "a masked tensor": (masked_tensor, TypeError, r"is a masked tensor: pass audio\.to_tensor\(0\)"),
    "sparse": (lambda: torch.ones(3).to_sparse(), TypeError, r"is a sparse tensor: pass audio\.to_dense\(\)"),
    "sparse rows": (lambda: torch.ones(3, 3).to_sparse_csr(), TypeError, "is a sparse tensor"),
    "quantized": (quantized, TypeError, r"is a quantized tensor: pass audio\.dequantize\(\)"),
    "meta": (lambda: torch.ones(3, device="meta"), TypeError, "is a meta tensor: pass one that holds values"),
    "conjugate": (lambda: torch.ones(3, dtype=torch.complex64).conj(), TypeError, "got dtype complex64"),
    "half complex": (lambda: torch.ones(3, dtype=torch.complex32), TypeError, r"Tensor of torch\.complex32"),
    "bool": (lambda: VALUES > 0, TypeError, "got dtype bool"),
    "text": (lambda: np.array("sound.wav"), TypeError, "got dtype <U9"),
    "objects": (lambda: np.array([VALUES, None], object), TypeError, "got dtype object"),
    "masked records": (lambda: np.ma.zeros(3, [("left", "f4")]), TypeError, r"got dtype \[\('left'"),
    "times": (lambda: np.zeros(3, "m8[s]"), TypeError, "got dtype timedelta64"),
    "a Series": (WithArray, TypeError, r"got WithArray: convert it with numpy\.asarray\(\.\.\.\)"),
    "a capsule": (WithCapsule, TypeError, r"got WithCapsule: convert it with torch\.from_dlpack\(\.\.\.\)"),
    "a number": (lambda: 0.5, TypeError, r"got float: numbers go into one array, numpy\.array\(\.\.\.\)"),
    "a network": (lambda: torch.nn.Linear(1, 1), TypeError, "got Linear"),  # which has cpu(), as tensors do
    "bytes": (lambda: b"RIFF", TypeError, r"got bytes: if it is the content of a file, pass io\.BytesIO\(\.\.\.\)"),
}


@pytest.mark.filterwarnings("ignore")  # PyTorch's, of prototypes
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_taken_is_refused_with_what_can(kind):
    make, error, said = REFUSED[kind]
    with pytest.raises(error, match=said) as caught:
        to_array(make(), "audio", "floats")
    assert "\n" not in str(caught.value)
    with pytest.raises(error):
        to_images(make())


@pytest.mark.parametrize("shape", [(8, 9, 3), (2, 8, 9, 3)])
def test_masks_are_not_ignored_by_public_functions(shape, model):
    sound = np.ma.masked_less(np.linspace(-1, 1, 24_000), 0)
    picture = np.ma.masked_less(np.linspace(0, 1, np.prod(shape)).reshape(shape), 0.5)
    with pytest.raises(ValueError, match="audio holds 12000 masked values"):
        openavc.get_audio_embedding(sound, 24_000, model)
    with pytest.raises(ValueError, match="audio holds 12000 masked values"):
        list(openavc.stream_audio_embedding([sound], 24_000, model))
    with pytest.raises(ValueError, match=rf"image holds {picture.mask.sum()} masked values"):
        openavc.get_image_embedding(picture, model)
    np.testing.assert_array_equal(
        openavc.get_image_embedding(picture.filled(0), model),
        openavc.get_image_embedding(np.where(picture.mask, 0, picture.data), model),
    )
