"""Picture files of known pixels, written by hand where no library writes their kind."""

import struct
import zlib

import numpy as np

# EXIF 2.32, tag 274: where the stored picture's first row and first column are seen. Here, how to turn it upright.
UPRIGHT = {
    1: lambda stored: stored,  # top, left
    2: lambda stored: stored[:, ::-1],  # top, right
    3: lambda stored: stored[::-1, ::-1],  # bottom, right
    4: lambda stored: stored[::-1],  # bottom, left
    5: lambda stored: stored.swapaxes(0, 1),  # left, top
    6: lambda stored: stored.swapaxes(0, 1)[:, ::-1],  # right, top
    7: lambda stored: stored.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
    8: lambda stored: stored.swapaxes(0, 1)[::-1],  # left, bottom
}


def exif(orientation):
    """Return an EXIF block that holds nothing but an orientation."""
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(path, rows, bits, colour_type, extra=()):
    """Write a PNG; `rows` are the bytes of each row, `extra` are chunks (kind, data) that come before them."""
    width = rows.shape[1] * 8 // bits // {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), bits, colour_type, 0, 0, 0))
    for kind, data in extra:
        header += png_chunk(kind, data)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b""))
    return path


def write_png16(path, values, extra=()):
    """Write uint16 values (H, W, C) as a PNG."""
    rows = values.astype(">u2").reshape(len(values), -1).view(np.uint8)
    return write_png(path, rows, 16, {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]], extra)


def write_tiff(path, values, order="<", apart=False, packed=False, bits=None, **tags):
    """Write values (H, W, C) as a TIFF, in one plane or in planes apart, as they are or deflated.

    `tags` are named by `tag_` and their numbers, and take a whole number; `bits` is for values that are packed bytes.
    """
    height, width, bands = values.shape
    values = values.astype(values.dtype.newbyteorder(order))
    planes = [values[..., band].tobytes() for band in range(bands)] if apart else [values.tobytes()]
    planes = [zlib.compress(plane) for plane in planes] if packed else planes
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    entries = {256: [width], 257: [height], 258: [bits or 8 * values.itemsize] * bands, 259: [8 if packed else 1]}
    entries |= {262: [2 if bands > 2 else 1], 273: [0] * len(planes), 277: [bands], 278: [height]}
    entries |= {279: [len(plane) for plane in planes], 284: [2 if apart else 1], 339: [kind] * bands}
    entries |= {int(name[4:]): [value] for name, value in tags.items()}
    at = 8 + 2 + 12 * len(entries) + 4 + 4 * sum(len(numbers) for numbers in entries.values() if len(numbers) > 1)
    entries[273] = [at + sum(map(len, planes[:plane])) for plane in range(len(planes))]
    directory, beside = struct.pack(order + "H", len(entries)), b""
    for tag, numbers in sorted(entries.items()):
        packed_numbers = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            place = 8 + 2 + 12 * len(entries) + 4 + len(beside)
            beside += packed_numbers
            packed_numbers = struct.pack(order + "I", place)
        directory += struct.pack(order + "HHI", tag, 4, len(numbers)) + packed_numbers
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    path.write_bytes(head + directory + bytes(4) + beside + b"".join(planes))
    return path
