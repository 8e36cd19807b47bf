"""Localisation on public annotations, VGG-SS and Flickr-SoundNet, with videos whose truth is known."""

import json

import av
import numpy as np
import pytest
import soundfile
from evaluations import evaluate, save_network
from red_and_blue import HEIGHT, RATE, WIDTH, Cells, Oracle, draw, tone
from tones import jpeg

from training.evaluate.datasets import sound_boxes
from training.evaluate.metrics import annotated, ciou


def write_clip(path, kind, box):
    """Write a video of two seconds; the kind's thing is seen only in the middle."""
    with av.open(str(path), "w") as file:
        video, audio = file.add_stream("mpeg4", rate=10), file.add_stream("aac", rate=RATE)
        video.width, video.height, video.bit_rate = WIDTH, HEIGHT, 10**7
        for k in range(20):
            picture = draw({kind: box} if 9 <= k <= 11 else {})
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        samples = tone(kind, 2.0).astype(np.float32)
        for start in range(0, len(samples), 1000):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1000], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = RATE, start
            file.mux(audio.encode(frame))
        file.mux(video.encode(None))
        file.mux(audio.encode(None))


BOXES = {"red_000001": ("Red", (0.1, 0.1, 0.6, 0.6)), "blue_000002": ("Blue", (0.4, 0.4, 0.6, 0.6))}


@pytest.fixture
def clips(tmp_path):
    """Write VGG-SS's layout, for two clips that exist, one that doesn't and one that isn't a video."""
    folder = tmp_path / "videos"
    folder.mkdir()
    entries = []
    for name, (kind, (x, y, width, height)) in BOXES.items():
        write_clip(folder / f"{name}.mp4", kind, (x, y, width, height))
        entries.append({"file": name, "class": kind, "bbox": [[x, y, x + width, y + height]]})
    (folder / "broken_000003.mp4").write_text("no video")
    for name in ("missing_000004", "broken_000003"):
        entries.append({"file": name, "class": "Red", "bbox": [[0, 0, 1, 1]]})
    (tmp_path / "vggss.json").write_text(json.dumps(entries))
    return tmp_path / "vggss.json", folder


def test_annotated_videos_are_localised_and_others_named(clips):
    annotations = sound_boxes.read_annotations(clips[0])
    report, failures = annotated.measure(Oracle(), Oracle(deaf=True), annotations, clips[1], seed=0)
    rows, detected = report.tables.values()
    assert rows["own sound"]["highest place"] == "100.0"
    assert rows["another clip's sound"]["highest place"] == "0.0"  # there is nothing of its colour
    assert rows["best possible"]["AUC"] == "72.5"  # IoU 0.72 of boxes of 0.36: 1 up to 0.7, then 0
    assert set(failures) == {"missing_000004", "broken_000003"}
    assert failures["missing_000004"] == "missing"
    assert "broken_000003.mp4" in failures["broken_000003"]
    assert len(detected) == 4
    with pytest.raises(ValueError, match="of 1 annotated clips 0 could be read"):
        annotated.measure(Oracle(), Oracle(), annotations[2:3], clips[1], seed=0)


def test_a_sound_that_is_not_finite_costs_its_clip_alone(clips):
    _, folder = clips
    for name, (kind, box) in (BOXES | {"nan_000005": BOXES["red_000001"]}).items():
        (folder / f"{name}.mp4").unlink(missing_ok=True)
        (folder / f"{name}.jpg").write_bytes(jpeg(draw({kind: box})))
        sound = tone(kind)
        sound[100] = np.nan if name == "nan_000005" else 0
        soundfile.write(folder / f"{name}.wav", sound, RATE, subtype="FLOAT")
    annotations = [sound_boxes.Annotation(name, "", [(0, 0, 0.5, 0.5)], agreeing=1) for name in ("nan_000005", *BOXES)]
    _, failures = annotated.measure(Oracle(), Oracle(), annotations, folder, seed=0)
    assert failures.keys() == {"nan_000005"}
    assert "nan_000005.wav holds 1 NaN" in failures["nan_000005"]


def test_no_features_are_taken_of_the_untrained_network(clips):
    class Counting(Cells):
        seen = 0

        def forward(self, frames):
            self.seen += len(frames)
            return super().forward(frames)

    fresh, counting = Oracle(), Counting(blind=False)
    fresh.image_tower = fresh.sees = counting
    annotated.measure(Oracle(), fresh, sound_boxes.read_annotations(clips[0]), clips[1], seed=0)
    assert counting.seen == 2 * len(BOXES)  # to settle it, and to measure it


def test_a_picture_and_a_sound_make_a_clip_and_xml_its_boxes(clips, tmp_path):
    """The layout is that of Flickr-SoundNet in LVS; coordinates are from 0 to 256."""
    folder, boxes = tmp_path / "flickr", tmp_path / "Annotations"
    (folder / "frames").mkdir(parents=True)
    (folder / "audio").mkdir()
    boxes.mkdir()
    for name, (kind, box) in BOXES.items():
        (folder / "frames" / f"{name}.jpg").write_bytes(jpeg(draw({kind: box})))
        soundfile.write(folder / "audio" / f"{name}.wav", tone(kind), RATE)
        edges = [round(256 * edge) for edge in (box[0], box[1], box[0] + box[2], box[1] + box[3])]
        element = "<bbox><who>1</who>" + "".join(f"<v>{edge}</v>" for edge in edges) + "</bbox>"
        (boxes / f"{name}.xml").write_text(f"<root><a>{element}</a><a>{element}</a></root>")
    (boxes / "other.xml").write_text("<root/>")
    (tmp_path / "test.csv").write_text("red_000001,7\nblue_000002,0\n")
    annotations = sound_boxes.read_annotations(boxes, tmp_path / "test.csv")
    assert [annotation.name for annotation in annotations] == list(BOXES)
    assert annotations[0].boxes[0] == pytest.approx((0.1, 0.1, 0.7, 0.7), abs=0.01)
    assert ciou.target_of(annotations[0].boxes, annotations[0].agreeing).max() == 1
    report, failures = annotated.measure(Oracle(), Oracle(), annotations, folder, seed=0)
    assert not failures
    assert next(iter(report.tables.values()))["own sound"]["highest place"] == "100.0"


def test_what_is_no_annotation_is_refused(tmp_path):
    (tmp_path / "wrong.json").write_text('[{"file": "a", "bbox": [[1, 2, 3]]}]')
    (tmp_path / "right.json").write_text('[{"file": "a", "bbox": [[0, 0, 1, 1]]}]')
    (tmp_path / "names.csv").write_text("a\nb\n")
    with pytest.raises(ValueError, match=r"wrong.json isn't a list of"):
        sound_boxes.read_annotations(tmp_path / "wrong.json")
    with pytest.raises(ValueError, match=r"no boxes of 1 names .* such as b"):
        sound_boxes.read_annotations(tmp_path / "right.json", tmp_path / "names.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no annotations in"):
        sound_boxes.read_annotations(tmp_path / "empty")


def test_the_shared_annotations_are_read(shared):
    folder = shared / "data" / "annotations"
    annotations = sound_boxes.read_annotations(folder / "vggss.json", folder / "vggss_test.csv")
    assert len(annotations) == 5158
    assert sum(ciou.target_of(annotation.boxes).any() for annotation in annotations[:500]) > 490  # some have no area


@pytest.fixture
def weights(tmp_path):
    return save_network(tmp_path / "tiny.safetensors", architecture="avol", image_size=[72, 96], map_stride=8)


def test_the_command_takes_public_annotations(clips, weights, tmp_path):
    boxes, videos = clips
    options = ("--model", weights, "--untrained-seeds", 1, "--json", tmp_path / "found.json")
    result = evaluate("localization", "--boxes", boxes, "--videos", videos, *options)
    assert result.exit_code == 0, result.output
    assert "vggss.json, 2 of 4 clips" in result.output
    assert "left out: 1 clips that aren't in" in result.output and "missing_000004" in result.output
    assert set(json.loads((tmp_path / "found.json").read_text())["left_out"]) == {"missing_000004", "broken_000003"}
    for wrong in (("--boxes", boxes), (), ("--solo", videos), ("--solo", videos, "--duo", videos, "--boxes", boxes)):
        assert (
            "give both --solo and --duo, or both --boxes and --videos"
            in evaluate("localization", *wrong, *options).output
        )
