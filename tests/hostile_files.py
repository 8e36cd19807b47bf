"""Files that are small and claim, or unpack to, far more than any machine has; made by hand, byte by byte.

`SOUNDS`, `PICTURES`, `VIDEOS` and `RESULTS` map names of files to functions that return their bytes.
"""

import io
import json
import math
import struct
import zlib

import numpy as np
from pictures import png_chunk

HUGE = 65_500  # pixels a side, the most that a JPEG may have
RATES = (1_000_000_000, 100_000_000, 7, 1)  # Hz


# ------------------------------------------------------------------------------------------------------------ sound


def pcm(samples):
    """Return loud noise, 16 bits."""
    return np.random.default_rng(0).integers(-9999, 9999, samples, np.int16).tobytes()


def riff_chunk(kind, data, claimed=None):
    return kind + struct.pack("<I", len(data) if claimed is None else claimed) + data


def wav(rate=16_000, channels=1, claimed=None, extra=b"", data=None, bits=16):
    """Return a WAV whose data chunk claims a size, with more chunks before it."""
    frame = channels * bits // 8
    head = struct.pack("<HHIIHH", 1, channels, rate, rate * frame % 2**32, frame % 2**16, bits)
    chunks = riff_chunk(b"fmt ", head) + extra + riff_chunk(b"data", pcm(16_000) if data is None else data, claimed)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def rf64(size):
    sizes = riff_chunk(b"ds64", struct.pack("<QQQI", size, size, size // 2, 0))
    head = riff_chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16))
    return b"RF64\xff\xff\xff\xffWAVE" + sizes + head + riff_chunk(b"data", pcm(16_000), 0xFFFF_FFFF)


def w64(size):
    def chunk(kind, data, claimed):
        rest = bytes.fromhex("f3acd3118cd100c04f8edb8a")
        return kind + rest + struct.pack("<Q", claimed) + data

    head = struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16)
    chunks = chunk(b"fmt ", head, 24 + len(head)) + chunk(b"data", pcm(16_000), size)
    start = bytes.fromhex("726966662e91cf11a5d628db04c10000") + struct.pack("<Q", size)
    return start + b"wave" + bytes.fromhex("f3acd3118cd100c04f8edb8a") + chunks


def aiff(exponent, channels=1):
    """Return an AIFF of a rate of 2 ** exponent Hz."""
    rate = struct.pack(">HQ", 16_383 + exponent, 1 << 63)
    common = b"COMM" + struct.pack(">IhIh", 18, channels, 16_000, 16) + rate
    data = b"SSND" + struct.pack(">III", 8 + 32_000, 0, 0) + pcm(16_000)
    return b"FORM" + struct.pack(">I", 4 + len(common) + len(data)) + b"AIFF" + common + data


def au(rate, channels):
    return b".snd" + struct.pack(">IIIII", 24, 0xFFFF_FFF0, 3, rate, channels) + pcm(16_000)


def caf(rate, channels, size):
    head = struct.pack(">d4sIIIII", rate, b"lpcm", 2, 2, 1, channels, 16)
    start = b"caff\0\1\0\0desc" + struct.pack(">Q", len(head)) + head
    return start + b"data" + struct.pack(">QI", size, 0) + pcm(16_000)


def nist(rate, channels):
    fields = f"sample_rate -i {rate}\nchannel_count -i {channels}\nsample_n_bytes -i 2\nsample_count -i 99999999999\n"
    text = f"NIST_1A\n   1024\n{fields}sample_coding -s3 pcm\nsample_byte_format -s2 01\nend_head\n"
    return text.encode().ljust(1024) + pcm(16_000)


def id3(kind, size, rest=b""):
    """Return a tag of one frame that claims a size, and what follows."""

    def sevens(number):
        return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))

    return b"ID3\x04\0\0" + sevens(size + 10) + kind + sevens(size) + b"\0\0" + rest


def mpeg_frames(number=40):
    """Return silent MP3 frames of 32 kbit/s at 48 kHz."""
    return (b"\xff\xfb\x14\xc4" + bytes(92)) * number


def crc(data, polynomial, bits):
    remainder, top = 0, 1 << bits - 1
    for byte in data:
        remainder ^= byte << bits - 8
        for _ in range(8):
            remainder = (remainder << 1 ^ (polynomial if remainder & top else 0)) & (1 << bits) - 1
    return remainder


def flac_frame(number, rate=None, loud=0):
    """Return a frame of 4096 equal samples; it has the header's rate, or one of its own in Hz."""
    coded = bytes([number]) if number < 128 else bytes([0xC0 | number >> 6, 0x80 | number & 63])
    head = b"\xff\xf8" + bytes([0xC0 | (0 if rate is None else 13), 0x08]) + coded
    head += b"" if rate is None else struct.pack(">H", rate)
    head += bytes([crc(head, 0x107, 8)])
    frame = head + b"\0" + struct.pack(">h", loud)  # a constant subframe
    return frame + struct.pack(">H", crc(frame, 0x18005, 16))


def flac(rate, frames, samples, comment=b""):
    """Return a FLAC file whose header claims a rate and a number of samples."""
    packed = rate << 44 | 15 << 36 | samples
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    block = b"\x04" + len(comment).to_bytes(3, "big") + comment if comment else b""
    return b"fLaC" + (b"\0" if comment else b"\x80") + b"\0\0\x22" + info + block.replace(b"\x04", b"\x84", 1) + frames


def ogg_page(packet, position, number, flags):
    lacing = bytes([255] * (len(packet) // 255) + [len(packet) % 255])
    head = b"OggS\0" + bytes([flags]) + struct.pack("<qIII", position, 1, number, 0) + bytes([len(lacing)]) + lacing
    checksum = struct.pack("<I", crc(head + packet, 0x1_04C1_1DB7, 32))
    return head[:22] + checksum + head[26:] + packet


def ogg(first, comments):
    """Return the start of an Ogg stream of two packets."""
    return ogg_page(first, 0, 0, 2) + ogg_page(comments, 0, 1, 0) + ogg_page(bytes(64), 48_000, 2, 4)


def vorbis(rate=16_000, channels=1, comment=8):
    """Return a Vorbis stream's first pages, of comments that claim a length."""
    first = b"\x01vorbis" + struct.pack("<IBIiiiBB", 0, channels, rate, 0, 0, 0, 0xB8, 1)
    return ogg(first, b"\x03vorbis" + struct.pack("<I", comment) + bytes(64))


def opus(channels):
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, channels, 0, 0xFFFF_FFFF, 0, 255) + bytes([channels, 0])
    return ogg(head + bytes(range(channels)), b"OpusTags" + struct.pack("<II", 0, 0xFFFF_FFFF))


# ------------------------------------------------------------------------------------------------------- containers


def ebml(kind, data, claimed=None):
    """Return an element of Matroska; its size takes 8 bytes."""
    return bytes.fromhex(kind) + (1 << 56 | (len(data) if claimed is None else claimed)).to_bytes(8, "big") + data


def number(kind, value):
    return ebml(kind, value.to_bytes(8, "big"))


def sound_track(rate=16_000, channels=1, index=1, codec=b"A_PCM/INT/LIT"):
    audio = ebml("b5", struct.pack(">d", rate)) + number("9f", channels) + number("6264", 16)
    return ebml(
        "ae", number("d7", index) + number("73c5", index) + number("83", 2) + ebml("86", codec) + ebml("e1", audio)
    )


def picture_track(width, height, codec=b"V_MJPEG", index=2, private=b"", duration=None):
    size = ebml("e0", number("b0", width) + number("ba", height))
    about = number("d7", index) + number("73c5", index) + number("83", 1) + ebml("86", codec)
    about += ebml("63a2", private) if private else b""
    about += number("23e383", duration) if duration else b""  # nanoseconds a frame
    return ebml("ae", about + size)


def bitmap_track(width, height, fourcc):
    """Return a track of a codec that only AVI knows by name."""
    head = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, fourcc, 0, 0, 0, 0, 0)
    return picture_track(width, height, b"V_MS/VFW/FOURCC", private=head)


def cluster(time, packets, tick=0):
    """Return a cluster at a time (in ticks) of (track, bytes) packets, some ticks apart."""
    blocks = [
        bytes([0x80 | track]) + struct.pack(">hB", k * tick, 0x80) + data for k, (track, data) in enumerate(packets)
    ]
    return ebml("1f43b675", number("e7", time) + b"".join(ebml("a3", block) for block in blocks))


def matroska(tracks, clusters, scale=1_000_000, claimed=None):
    """Return a Matroska file; `scale` is the length of a tick, in nanoseconds."""
    head = ebml("1a45dfa3", ebml("4282", b"matroska") + number("4287", 4) + number("4285", 2))
    info = ebml("1549a966", number("2ad7b1", scale))
    content = info + ebml("1654ae6b", b"".join(tracks)) + b"".join(clusters)
    return head + ebml("18538067", content, claimed)


def with_gaps(count, seconds, track=None):
    """Return sound of 0.1 s, again and again after gaps."""
    piece = [(1, pcm(1600))]
    return matroska([track or sound_track()], [cluster(round(1000 * seconds * k), piece) for k in range(count)])


def written(container, codec, times, rate=16_000, layout="mono"):
    """Return what PyAV writes: 0.1 s of noise at each of some times, in seconds."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        for time in times:
            frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm(rate // 10), np.int16)[None], "s16", layout)
            frame.sample_rate, frame.pts = rate, round(time * rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return file.getvalue()


def alternating_adts(rounds):
    """Return AAC frames whose rate changes from each to the next, between 8 and 96 kHz."""
    frames = []
    for rate in (8000, 96_000):
        data, found, at = written("adts", "aac", [0], rate=rate), [], 0
        while at < len(data):
            size = int.from_bytes(data[at + 3 : at + 6], "big") >> 5 & 0x1FFF
            found.append(data[at : at + size])
            at += size
        frames.append(found[-1])
    return b"".join(frames) * rounds


def avi(width, height, fourcc=b"MJPG", rate=25, frame=b"", frames=1):
    """Return an AVI of pictures that claims a size and a rate of frames."""

    def listed(kind, data):
        return b"LIST" + struct.pack("<I", 4 + len(data)) + kind + data

    main = struct.pack("<14I", 1, 0, 0, 0x10, frames, 0, 1, 0, width, height, 0, 0, 0, 0)
    stream = b"vids" + fourcc + struct.pack("<10I4H", 0, 0, 0, 1, rate, 0, frames, 0, 0, 0, 0, 0, 0, 0)
    bitmap = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, fourcc, 0, 0, 0, 0, 0)
    head = listed(
        b"hdrl", riff_chunk(b"avih", main) + listed(b"strl", riff_chunk(b"strh", stream) + riff_chunk(b"strf", bitmap))
    )
    data = head + listed(b"movi", riff_chunk(b"00dc", frame + bytes(len(frame) % 2)) * frames)
    return b"RIFF" + struct.pack("<I", 4 + len(data)) + b"AVI " + data


def mp4_box(kind, *parts):
    data = b"".join(parts)
    return struct.pack(">I", 8 + len(data)) + kind + data


# --------------------------------------------------------------------------------------------------------- pictures


def gif(side=65_535):
    """Return a GIF of 35 bytes, of one pixel on a canvas."""
    screen = struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(3) + b"\xff\xff\xff"
    return b"GIF89a" + screen + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0;"


def png(width, height, bits=1, colour=0, rows=None):
    """Return a PNG of zeros, of which as many rows are there as are given."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = bytes(1 + math.ceil(width * samples * bits / 8))
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(height if rows is None else rows)) + packer.flush()
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def jpeg_segment(kind, data):
    return b"\xff" + bytes([kind]) + struct.pack(">H", 2 + len(data)) + data


def jpeg(width, height, progressive=False, scans=1):
    """Return a JPEG of a few hundred bytes, whose scans end at once."""
    tables = jpeg_segment(0xDB, b"\0" + bytes([1] * 64))
    for table in (0x00, 0x10, 0x01, 0x11):
        tables += jpeg_segment(0xC4, bytes([table, 0, 1]) + bytes(14) + b"\0")
    parts = b"\x01\x22\0\x02\x11\0\x03\x11\0"
    frame = jpeg_segment(0xC2 if progressive else 0xC0, struct.pack(">BHHB", 8, height, width, 3) + parts)
    first = jpeg_segment(0xDA, b"\x03\x01\0\x02\0\x03\0" + (b"\0\0\1" if progressive else b"\0\x3f\0"))
    later = jpeg_segment(0xDA, b"\x01\x01\0\x01\x3f\x01") if progressive else b""
    return b"\xff\xd8" + tables + frame + first + bytes(64) + (later + bytes(16)) * (scans - 1) + b"\xff\xd9"


def progressive_jpeg(side, scans):
    """Return a JPEG that is whole, whose one scan of high frequencies comes again and again."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (side, side), 77).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def tiff(tags, data=b"", big=False):
    """Return a TIFF of whole numbers: tags to their values, or to (type, count, offset)."""
    entries = b""
    for tag, value in sorted(tags.items()):
        kind, count, content = value if isinstance(value, tuple) else (4, 1, value)
        entries += struct.pack("<HHQQ" if big else "<HHII", tag, kind, count, content)
    count = struct.pack("<Q" if big else "<H", len(tags))
    head = b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) if big else b"II*\0" + struct.pack("<I", 8)
    return head + count + entries + bytes(8 if big else 4) + data


def tiff_of(width, height, bits=8, bands=1, packing=8, kind=1, strip=None, **more):
    """Return a TIFF that claims a size; its one strip is deflated zeros."""
    data = zlib.compress(bytes(1 << 20))
    tags = {256: width, 257: height, 258: bits, 259: packing, 262: 1 if bands < 3 else 2, 273: 200, 277: bands}
    tags |= {278: strip or height, 279: len(data), 339: kind} | {int(tag[4:]): value for tag, value in more.items()}
    whole = tiff(tags)
    return whole.ljust(200, b"\0") + data


def striped_tiff(side, bits, bands, kind, **more):
    """Return a TIFF whose strips all lie at one place: deflated zeros."""
    rows = 50
    data = zlib.compress(bytes(rows * side * bands * bits // 8))
    count = math.ceil(side / rows)
    tags = {256: side, 257: side, 259: 8, 262: 1 if bands < 3 else 2, 273: (4, count, 512), 277: bands, 278: rows}
    tags |= {258: (3, bands, 1000 + 8 * count) if bands > 2 else bits, 279: (4, count, 512 + 4 * count)}
    tags |= {339: (3, bands, 1016 + 8 * count) if bands > 2 else kind} | {
        int(tag[4:]): value for tag, value in more.items()
    }
    start = 1100 + 8 * count
    lists = struct.pack(f"<{count}I", *[start] * count) + struct.pack(f"<{count}I", *[len(data)] * count)
    whole = (tiff(tags).ljust(512, b"\0") + lists).ljust(1000 + 8 * count, b"\0")
    whole += struct.pack(f"<{bands}H", *[bits] * bands).ljust(16, b"\0") + struct.pack(f"<{bands}H", *[kind] * bands)
    return whole.ljust(start, b"\0") + data


def avif():
    """Return an AVIF of 64 pixels whose header claims a thousand times as many a side."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "AVIF")
    return file.getvalue().replace(struct.pack(">II", 64, 64), struct.pack(">II", 64_000, 64_000))


def endless_tiff():
    """Return a TIFF whose directory of pages leads back to itself."""
    data = tiff_of(64, 64, packing=1)
    end = 8 + 2 + 12 * struct.unpack_from("<H", data, 8)[0]
    return data[:end] + struct.pack("<I", 8) + data[end + 4 :]


def bmp(width, height, bits=24, packing=0):
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, packing, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 64, 0, 0, 54) + head + bytes(64)


def webp(side=16_383, animated=False):
    """Return a WebP whose header claims a size."""
    if animated:
        wide = struct.pack("<I", side - 1)[:3]
        chunks = riff_chunk(b"VP8X", b"\x02\0\0\0" + wide + wide) + riff_chunk(b"ANIM", bytes(6))
        frame = bytes(6) + struct.pack("<I", 0)[:3] * 2 + bytes(4)
        chunks += riff_chunk(b"ANMF", frame + riff_chunk(b"VP8L", b"\x2f" + struct.pack("<I", 0) + bytes(17)))
    else:
        chunks = riff_chunk(b"VP8L", b"\x2f" + struct.pack("<I", side - 1 | side - 1 << 14) + bytes(17))
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def jpeg2000(width, height, parts=3, tile=None):
    """Return the head of a JPEG 2000 codestream."""
    size = struct.pack(">HIIIIIIIIH", 0, width, height, 0, 0, tile or width, tile or height, 0, 0, parts)
    style = b"\xff\x52\0\x0c\0\0\0\1\0\5\4\4\0\1"
    quantities = b"\xff\x5c\0\x13\x40" + bytes([0x40] * 16)
    segment = size + b"\7\1\1" * parts
    head = b"\xff\x4f\xff\x51" + struct.pack(">H", 2 + len(segment)) + segment + style + quantities
    return head + b"\xff\x90\0\x0a\0\0\0\0\0\0\0\1\xff\x93" + bytes(64) + b"\xff\xd9"


def ico(inner):
    """Return an icon of 16 pixels, whose picture is a file of another size."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


def psd(side):
    return b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, side, side, 8, 3) + bytes(64)


def qoi(side):
    return b"qoif" + struct.pack(">IIBB", side, side, 4, 0) + b"\xfd" * 64 + bytes(7) + b"\1"


# ---------------------------------------------------------------------------------------------------------- results


def npy(shape, data=b"", dtype="<f4"):
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape})
    head = text.ljust(128 - 10 - 1) + "\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head.encode() + data


def metadata(path):
    """Return what a result of joint embeddings says of itself, and of its source."""
    source = {"path": path, "name": "x.wav", "sha256": "1" * 64}
    parameters = {"modality": "audio", "embedding": "joint"}
    text = json.dumps({"model": "drawn", "weights_sha256": "0" * 64, "parameters": parameters, "source": source})
    return npy((), text.encode("utf-32-le"), f"<U{len(text)}"), 0


def npz(**members):
    """Return a zip of members: (first bytes, number of zeros after them), deflated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)  # may be repeated
    whole, directory = b"", b""
    for name, (start, count) in members.items():
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        data = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH) + block * (count // 2**24) + b"\3\0"
        checksum = zlib.crc32(start + bytes(count)) if count <= 2**24 else 0  # compared at the very end
        sizes = struct.pack("<III", checksum, len(data), len(start) + count)
        about = struct.pack("<HHHHH", 20, 0, 8, 0, 0) + sizes + struct.pack("<HH", len(name) + 4, 0)
        place = struct.pack("<HHHII", 0, 0, 0, 0, len(whole))
        directory += b"PK\1\2\x14\0" + about + place + f"{name}.npy".encode()
        whole += b"PK\3\4" + about + f"{name}.npy".encode() + data
    end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(directory), len(whole), 0)
    return whole + directory + b"PK\5\6" + end


# ------------------------------------------------------------------------------------------------------------- all

SOUNDS = {
    **{f"rate{rate}.wav": lambda rate=rate: wav(rate) for rate in RATES},
    **{f"rate{rate}.mka": lambda rate=rate: with_gaps(1, 0, sound_track(rate)) for rate in RATES},
    **{f"rate{rate}.au": lambda rate=rate: au(rate, 1) for rate in RATES},
    "rate_of_1e300.mka": lambda: with_gaps(1, 0, sound_track(1e300)),
    "rate_of_2_to_30.aiff": lambda: aiff(30),
    "rate_of_2_to_600.aiff": lambda: aiff(600),
    "rate_of_1e300.caf": lambda: caf(1e300, 1, 32_000),
    "rate_of_1e9.caf": lambda: caf(1e9, 1, 32_000),
    "rate_of_1e9.sph": lambda: nist(10**9, 1),
    "rate_of_1_hertz.flac": lambda: flac(1, b"".join(map(flac_frame, range(50))), 50 * 4096),
    "rate_of_100_hertz.flac": lambda: flac(100, b"".join(map(flac_frame, range(100))), 100 * 4096),
    "rate_of_655350.flac": lambda: flac(655_350, b"".join(map(flac_frame, range(2000))), 2000 * 4096),
    "rates_within.flac": lambda: flac(
        16_000, b"".join(flac_frame(k, (1, 65_535, 7)[k % 3], 99) for k in range(600)), 0
    ),
    "rates_within.aac": lambda: alternating_adts(3000),
    "rate_of_1e9.ogg": lambda: vorbis(10**9),
    "channels255.wav": lambda: wav(channels=255),
    "channels65535.wav": lambda: wav(channels=65_535),
    "channels65535.au": lambda: au(16_000, 65_535),
    "channels_4e9.caf": lambda: caf(16_000, 2**32 - 1, 32_000),
    "channels32767.aiff": lambda: aiff(14, 32_767),
    "channels_1e9.sph": lambda: nist(16_000, 10**9),
    "channels255.mka": lambda: with_gaps(1, 0, sound_track(channels=255)),
    "channels65535.mka": lambda: with_gaps(1, 0, sound_track(channels=65_535)),
    "channels255.ogg": lambda: vorbis(channels=255),
    "channels255.opus": lambda: opus(255),
    "claims_4_gb.wav": lambda: wav(claimed=0xFFFF_FFF0),
    "claims_10_tb.rf64": lambda: rf64(10**13),
    "claims_10_tb.w64": lambda: w64(10**13),
    "claims_10_tb.caf": lambda: caf(16_000, 1, 10**13),
    "claims_10_tb.mka": lambda: matroska([sound_track()], [cluster(0, [(1, pcm(16_000))])], claimed=10**13),
    "claims_2_to_36_samples.flac": lambda: flac(16_000, b"".join(map(flac_frame, range(20))), 2**36 - 2),
    "comment_of_4_gb.ogg": lambda: vorbis(comment=0xFFFF_FFFF),
    "comment_of_16_mb.flac": lambda: flac(16_000, flac_frame(0), 4096, struct.pack("<II", 0, 2**32 - 1)),
    "list_of_4_gb.wav": lambda: wav(extra=riff_chunk(b"LIST", b"INFO", 0xFFFF_FFF0)),
    "tag_of_256_mb.mp3": lambda: id3(b"TIT2", 2**28 - 11, mpeg_frames()),
    "tag_of_256_mb.wav": lambda: id3(b"TIT2", 2**28 - 11, wav()),
    "picture_of_256_mb.mp3": lambda: id3(b"APIC", 2**28 - 11, mpeg_frames()),
    "bomb_as_cover.mp3": lambda: id3(b"APIC", 48, b"\0image/gif\0\3\0" + gif() + mpeg_frames()),
    "gap_of_100_hours.mka": lambda: with_gaps(2, 360_000),
    "gap_of_100_hours.nut": lambda: written("nut", "pcm_s16le", [0, 360_000]),
    "gap_of_100_hours.mkv": lambda: matroska(
        [sound_track(), picture_track(32, 32)], [cluster(0, [(1, pcm(1600))]), cluster(360_000_000, [(1, pcm(1600))])]
    ),
    "many_gaps.mka": lambda: with_gaps(500, 300),
    "gaps_among_pictures.mkv": lambda: matroska(
        [sound_track(), picture_track(32, 32)],
        [
            cluster(0, [(1, pcm(1600))]),
            *(cluster(500_000 * k, [(2, jpeg(32, 32))]) for k in range(600)),
            cluster(300_000_000, [(1, pcm(1600))]),
        ],
    ),
    "tiny_packets.mka": lambda: matroska(
        [sound_track()], [cluster(k // 16, [(1, b"\1\2")] * 1000) for k in range(0, 16_000, 1000)]
    ),
    "tiny_ticks.mka": lambda: matroska([sound_track()], [cluster(0, [(1, pcm(16_000))] * 3, tick=9)], scale=1),
    "streams.mka": lambda: matroska(
        [sound_track(index=k % 127 + 1) for k in range(5000)], [cluster(0, [(1, pcm(16_000))])]
    ),
    "network.mp3": lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://192.0.2.1/a.mp3\n#EXT-X-ENDLIST\n",
    "network.m3u8.wav": lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://192.0.2.1/a.ts\n",
    "password.mp3": lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "itself.mp3": lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nitself.mp3\n#EXT-X-ENDLIST\n",
    "concat.wav": lambda: b"ffconcat version 1.0\nfile concat.wav\n",
    "concat_of_good.wav": lambda: b"ffconcat version 1.0\nfile good.wav\n",
    "session.wav": lambda: b"v=0\no=- 0 0 IN IP4 192.0.2.1\ns=x\nc=IN IP4 192.0.2.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    "drawing.mp3": lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="60000" height="60000"/>',
    "text.mp3": lambda: b"only text\n" * 9,
    "sizes.amr": lambda: b"#!AMR\n" + b"\xff" * 5000,
}
PICTURES = {
    "canvas.gif": gif,
    "side16000.png": lambda: png(16_000, 16_000),
    "bomb.png": lambda: png(30_000, 30_000, rows=1),
    "giant.jpg": lambda: jpeg(HUGE, HUGE),
    "scans.jpg": lambda: progressive_jpeg(8192, 500),
    "strip.tif": lambda: tiff_of(2**31, 2**31),
    "strips.tif": lambda: tiff(
        {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 273: (4, 2**31, 8), 277: 1, 278: 1, 279: (4, 2**31, 8)}, bytes(99)
    ),
    "tile.tif": lambda: tiff(
        {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1, 322: 2**20, 323: 2**20, 324: 200, 325: 99},
        zlib.compress(bytes(2**24)),
    ),
    "bands.tif": lambda: tiff_of(64, 64, bands=65_535),
    "endless.tif": endless_tiff,
    "floats_rgba8192.tif": lambda: striped_tiff(8192, 64, 4, 3),
    "multiplied8192.tif": lambda: striped_tiff(8192, 16, 4, 1, tag_338=1),
    "patched.avif": avif,
    "deep_giant.tif": lambda: tiff_of(30_000, 30_000, 16, 4),
    "giant.tiff": lambda: tiff(
        {256: 2**31, 257: 2**31, 258: 8, 262: 1, 273: 200, 277: 1, 278: 2**31, 279: 99}, big=True
    ),
    "giant.bmp": lambda: bmp(2**31 - 1, 2**31 - 1),
    "giant_runs.bmp": lambda: bmp(60_000, 60_000, 8, 1),
    "giant.webp": webp,
    "animated.webp": lambda: webp(animated=True),
    "giant.jp2": lambda: jpeg2000(2**31, 2**31),
    "tiles.jp2": lambda: jpeg2000(60_000, 60_000, tile=16),
    "bands.jp2": lambda: jpeg2000(8192, 8192, 16_384),
    "giant.ico": lambda: ico(png(13_000, 13_000)),
    "icon.ico": lambda: ico(png(30_000, 30_000, rows=1)),
    "layers.psd.png": lambda: psd(30_000),
    "giant.qoi": lambda: qoi(2**30),
    "giant.ppm": lambda: b"P6 99999999 99999999 255\n" + bytes(99),
    "giant.ras": lambda: struct.pack(">8I", 0x59A66A95, 2**31, 2**31, 24, 0, 1, 0, 0) + bytes(64),
    "drawing.png": lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="60000" height="60000"/>',
}


def video(track, packets, tick=40, scale=1_000_000, more=()):
    """Return one second of sound, and pictures."""
    sounds = [cluster(0, [(1, pcm(16_000))])]
    return matroska(
        [sound_track(), track, *more], [*sounds, cluster(0, [(2, packet) for packet in packets], tick)], scale
    )


VIDEOS = {
    "side30000.mkv": lambda: video(picture_track(30_000, 30_000), [jpeg(30_000, 30_000)] * 3),
    "within30000.mkv": lambda: video(picture_track(32, 32), [jpeg(32, 32), *[jpeg(30_000, 30_000)] * 9]),
    "within16000.mkv": lambda: video(picture_track(32, 32), [jpeg(32, 32), *[jpeg(16_000, 16_000)] * 9]),
    "png16000.mkv": lambda: video(bitmap_track(32, 32, b"MPNG"), [png(16_000, 16_000)] * 9),
    "png_bombs.mkv": lambda: video(bitmap_track(30_000, 30_000, b"MPNG"), [png(30_000, 30_000, rows=1)] * 9),
    "raw30000.avi": lambda: avi(30_000, 30_000, b"\0\0\0\0", frame=bytes(99)),
    "h264.mkv": lambda: video(picture_track(65_535, 65_535, b"V_MPEG4/ISO/AVC"), [bytes(99)]),
    "ffv1.mkv": lambda: video(bitmap_track(16_000, 16_000, b"FFV1"), [bytes(99)] * 9),
    "lossless.mkv": lambda: video(bitmap_track(16_000, 16_000, b"HFYU"), [bytes(9999)] * 9),
    "gap_of_100_hours.mkv": lambda: matroska(
        [sound_track(), picture_track(32, 32)],
        [cluster(360_000_000 * k, [(1, pcm(1600)), (2, jpeg(32, 32))]) for k in range(2)],
    ),
    "sound_gap.mkv": lambda: matroska(
        [sound_track(), picture_track(32, 32)],
        [cluster(500_000 * k, [*([(1, pcm(1600))] if k in (0, 719) else []), (2, jpeg(32, 32))]) for k in range(720)],
    ),
    "rate_of_1e9.avi": lambda: avi(32, 32, rate=10**9, frame=jpeg(32, 32), frames=50),
    "rate_of_0.avi": lambda: avi(32, 32, rate=0, frame=jpeg(32, 32), frames=50),
    "frames_of_1_ns.mkv": lambda: video(picture_track(32, 32, duration=1), [jpeg(32, 32)] * 50, 1, 1),
    "streams.mkv": lambda: video(
        picture_track(32, 32),
        [jpeg(32, 32)] * 5,
        more=[picture_track(16_000, 16_000, index=k) for k in range(3, 120)] * 30,
    ),
    "pictures_of_gif.mkv": lambda: video(bitmap_track(32, 32, b"gif "), [gif(16_000)] * 5),
    "rate_of_1e9.mkv": lambda: matroska(
        [sound_track(1e9), picture_track(32, 32)], [cluster(0, [(1, pcm(1600)), (2, jpeg(32, 32))])]
    ),
    "playlist.mp4": lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://192.0.2.1/a.ts\n#EXT-X-ENDLIST\n",
    "concat.mp4": lambda: b"ffconcat version 1.0\nfile concat.mp4\n",
    "samples.mp4": lambda: (
        mp4_box(b"ftyp", b"isom\0\0\2\0isom")
        + mp4_box(
            b"moov",
            mp4_box(
                b"trak",
                mp4_box(
                    b"mdia",
                    mp4_box(b"mdhd", bytes(12), struct.pack(">IIHH", 1, 2**32 - 1, 0, 0)),
                    mp4_box(b"hdlr", bytes(8), b"vide", bytes(13)),
                    mp4_box(
                        b"minf",
                        mp4_box(
                            b"stbl",
                            mp4_box(
                                b"stsd",
                                struct.pack(">II", 0, 1),
                                struct.pack(">I4s6xH16xHH50x", 86, b"jpeg", 1, 32, 32),
                            ),
                            mp4_box(b"stts", struct.pack(">IIII", 0, 1, 2**32 - 1, 2**31)),
                            mp4_box(b"stsz", struct.pack(">III", 0, 1, 2**32 - 1)),
                            mp4_box(b"stsc", struct.pack(">IIIII", 0, 1, 1, 2**32 - 1, 1)),
                            mp4_box(b"stco", struct.pack(">III", 0, 1, 0)),
                        ),
                    ),
                ),
            ),
        )
    ),
}
RESULTS = {
    "bomb.npz": lambda: npz(embedding=(npy((3 * 2**18, 1024)), 3 * 2**30), metadata=(npy((), dtype="<U2"), 0)),
    "bomb_of_metadata.npz": lambda: npz(metadata=(npy((), dtype=f"<U{3 * 2**28}"), 3 * 2**30)),
    "giant_shape.npz": lambda: npz(metadata=(npy((2**40,)), 0), embedding=(npy((2**40, 2**20)), 0)),
    "array.npz": lambda: npy((2**30,)),
    "moments.npz": lambda: npz(
        metadata=metadata("/" + "x" * 100_000),
        embedding=(npy((2**20, 4), np.ones(2**22, "<f4").tobytes()), 0),
        timestamps=(npy((2**20,)), 2**24),
    ),
}
