"""Shards that aren't whole are refused by name, and those that are missing are named; earlier shards are read."""

import io
import json
import tarfile
import warnings

import numpy as np
import pytest
import webdataset
from tones import RATE, jpeg

from training.corpora.shards import Shards, encode_clip
from training.corpora.tars import is_whole, read_tar, write_tar

CLIPS = 4


def clip(number):
    picture = jpeg(np.full((24, 32, 3), 10 * number, np.uint8))
    return encode_clip(f"clip{number}", np.full(RATE, 0.1, np.float32), RATE, [picture] * 2, [0.2, 0.6], {})


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "000000.tar"
    with write_tar(path, shards=1) as write:
        for number in range(CLIPS):
            write(clip(number))
    return path


@pytest.fixture
def earlier(tmp_path):
    """Write a shard as earlier versions did, without a count."""
    path = tmp_path / "000000.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for number in range(CLIPS):
            writer.write(clip(number))
    return path


def offsets(path):
    with tarfile.open(path) as tar:
        return [member.offset for member in tar]


def change(path, first, content):
    with path.open("rb+") as file:
        file.seek(first)
        file.write(content)


def check_refused(path, said):
    with pytest.raises(OSError, match=said) as refused:
        Shards(path.parent)
    assert str(path) in str(refused.value) and len(str(refused.value).splitlines()) == 1
    with pytest.warns(UserWarning, match=f"{path.name} is damaged.*it is made again"):
        assert not is_whole(path)


def test_a_shard_says_how_much_is_in_it(shard):
    assert len(Shards(shard.parent).clips) == CLIPS
    clips, shards = read_tar(shard)
    assert (len(clips), shards) == (CLIPS, 1) and is_whole(shard)
    with tarfile.open(shard) as tar:
        *_, last = tar
        about = json.loads(tar.extractfile(last).read())
    assert about == {"clips": CLIPS, "bytes": last.offset, "shards": 1}


@pytest.mark.parametrize("content", [b'{"clipz": 4, "bytes"', b"[1]", b"7", b'{"clips": [4]'])
def test_a_count_that_is_none_is_damage(shard, content):
    with tarfile.open(shard) as tar:
        *_, last = tar
        whole = tar.extractfile(last).read()
    changed = whole.replace(b'{"clips": 4, "bytes"', content) if content[-1:] == b'"' else content
    changed = changed.replace(b'{"clips": [4]', b'{"clips": [4], "bytes": 1, "shards": 1}')
    change(shard, last.offset_data, changed.ljust(last.size))
    check_refused(shard, "its last member, __shard__, can't be read")


def test_webdataset_reads_the_clips_alone(shard):
    found = list(webdataset.WebDataset(str(shard), shardshuffle=False))
    assert [sample["__key__"] for sample in found] == [f"clip{number}" for number in range(CLIPS)]
    assert all(sample.keys() >= {"json", "mjpeg", "wav"} for sample in found)


def test_shards_of_earlier_versions_are_read(earlier):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(Shards(earlier.parent).clips) == CLIPS
        assert read_tar(earlier)[1] is None and is_whole(earlier)


@pytest.mark.parametrize("kind", ["shard", "earlier"])
@pytest.mark.parametrize("at", [0.0, 0.3, 0.6, 0.95])
def test_a_shard_cut_off_anywhere_is_refused(kind, at, request):
    path = request.getfixturevalue(kind)
    with path.open("rb+") as file:
        file.truncate(int(offsets(path)[-1] * at))
    check_refused(path, "is damaged")


@pytest.mark.parametrize("kind", ["shard", "earlier"])
@pytest.mark.parametrize("member", [3, 6])
def test_a_shard_cut_off_between_two_clips_is_refused(kind, member, request):
    path = request.getfixturevalue(kind)
    with path.open("rb+") as file:
        file.truncate(offsets(path)[member])
    check_refused(path, "is cut off after")


@pytest.mark.parametrize("kind", ["shard", "earlier"])
@pytest.mark.parametrize("content", [bytes(1024), b"\xff" * 512])
def test_what_two_writers_mixed_up_is_refused(kind, content, request):
    """Zeros end a tar for those who read it, whatever follows."""
    path = request.getfixturevalue(kind)
    change(path, offsets(path)[6], content)
    check_refused(path, "what follows byte .* can't be read")


def test_a_clip_that_was_taken_out_is_missed(shard):
    with tarfile.open(shard) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(shard, "w") as tar:
        for member, content in members:
            if not member.name.startswith("clip2."):
                tar.addfile(member, io.BytesIO(content))
    check_refused(shard, f"it holds {CLIPS - 1} of {CLIPS} clips")


@pytest.mark.parametrize(("extension", "said"), [("json", "no json"), ("mjpeg", "no mjpeg"), ("wav", "no wav or flac")])
def test_a_clip_of_which_a_part_is_missing_is_named(tmp_path, extension, said):
    with webdataset.TarWriter(str(tmp_path / "0.tar")) as writer:
        for number in range(3):
            sample = clip(number)
            if number == 1:
                del sample[extension]
            writer.write(sample)
    check_refused(tmp_path / "0.tar", f"its clip clip1 has {said}")


def test_a_description_of_other_frames_is_named(shard):
    clips, _ = read_tar(shard)
    change(shard, clips["clip1"]["json"][0], b"{")
    change(shard, clips["clip1"]["json"][0] + 1, b" " * 10)
    with pytest.raises(OSError, match=r"000000\.tar is damaged: the description of its clip clip1"):
        Shards(shard.parent)


def test_frames_and_sound_that_cannot_be_decoded_are_named(shard):
    found = Shards(shard.parent)
    for name in ("mjpeg", "wav"):
        first, size = found.clips[2].members[name]
        change(shard, first, bytes(size))
    with pytest.raises(OSError, match=r"000000\.tar is damaged: frame 1 of its clip clip2 can't be decoded"):
        found.frame(found.clips[2], 1)
    with pytest.raises(OSError, match=r"000000\.tar is damaged: the sound of its clip clip2 can't be decoded"):
        found.sound(found.clips[2], 0.5, 0.5, RATE)
    assert found.frame(found.clips[1], 1).shape == (24, 32, 3)


def test_missing_shards_are_named(tmp_path):
    for number in range(5):
        with write_tar(tmp_path / f"{number:06d}.tar", shards=5) as write:
            write(clip(number))
    (tmp_path / "000001.tar").unlink()
    (tmp_path / "000004.tar").unlink()
    with pytest.warns(UserWarning, match=r"lacks 2 of 5 shards \(000001\.tar, 000004\.tar\)") as told:
        assert len(Shards(tmp_path).clips) == 3
    assert str(tmp_path) in str(told[0].message)


def test_gaps_between_earlier_shards_are_named(earlier):
    for number in (1, 2, 5, 9):
        (earlier.parent / f"{number:06d}.tar").hardlink_to(earlier)
    with pytest.warns(UserWarning, match=r"lacks 5 of 10 shards \(000003\.tar, .*000008\.tar\)"):
        Shards(earlier.parent)
