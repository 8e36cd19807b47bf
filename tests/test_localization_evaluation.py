"""Localisation on pictures and sounds whose truth is known: a red thing that whistles and a blue one that hums."""

import json

import av
import numpy as np
import pytest
import torch
import webdataset
from click.testing import CliRunner
from tones import jpeg
from torch import nn

from openavc.image import fit
from openavc.models.layers import AudioVisualNet
from openavc.weights import build_model
from training.checkpoint import save_weights
from training.data import Shards, encode_clip
from training.evaluate import ciou, encounters, localization, solo_duo, sound_boxes
from training.evaluate.__main__ import main as evaluate_main

RATE, HEIGHT, WIDTH = 24_000, 120, 160
KINDS = {"Red": (0, 6000), "Blue": (2, 150)}  # colour's channel, and the sound's pitch in Hz


class Oracle(AudioVisualNet):
    """Knows both: a place has its red and its blue, a sound whether it is high or low."""

    embeddings = ("features",)
    map_stride = 8

    def __init__(self, deaf=False, blind=False):
        super().__init__("mel64", (72, 96))
        self.unused, self.deaf, self.blind = nn.Parameter(torch.zeros(1)), deaf, blind

    def image_tower(self, image):
        if self.blind:  # what a place has is by chance
            return torch.rand(len(image), 2, image.shape[2] // 8, image.shape[3] // 8)
        return (nn.functional.avg_pool2d(image, 8)[:, [0, 2]]).relu()  # of places that are more than half coloured

    def represent_image(self, image):
        return self.image_tower(image)

    def represent_audio(self, spectrogram):
        halves = torch.stack([spectrogram[:, 0, 32:].mean((1, 2)), spectrogram[:, 0, :32].mean((1, 2))], dim=1)
        return torch.ones(len(halves), 2) if self.deaf else nn.functional.one_hot(halves.argmax(1), 2).float()

    def localize(self, image, audio):
        return torch.einsum("bdhw,bd->bhw", image, audio)

    def embed_image(self, image, embedding="features"):
        return self.image_tower(image).amax((2, 3))


class Loudness(Oracle):
    """Of a sound, how loud its halves are."""

    def prepare_audio(self, waveforms):
        return waveforms

    def represent_audio(self, waveforms):
        return waveforms.unflatten(1, (2, -1)).abs().amax(2)


def draw(boxes):
    """A black picture with a coloured box of each kind."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for kind, (x, y, width, height) in boxes.items():
        rows = slice(round(y * HEIGHT), round((y + height) * HEIGHT))
        picture[rows, round(x * WIDTH) : round((x + width) * WIDTH), KINDS[kind][0]] = 250
    return picture


def tone(kind, seconds=3.0):
    return 0.5 * np.sin(2 * np.pi * KINDS[kind][1] * np.arange(round(RATE * seconds)) / RATE)


def write(folder, clips):
    """Clips of (key, labels, sound, objects of each frame), a frame every half second."""
    folder.mkdir()
    with webdataset.TarWriter(str(folder / "0.tar")) as tar:
        for key, labels, sound, objects in clips:
            known = [{name: box for name, _, *box in frame if name in KINDS} for frame in objects]
            frames, times = [jpeg(draw(boxes)) for boxes in known], [0.5 * (k + 1) for k in range(len(objects))]
            about = {"labels": labels, "objects": objects, "level": f"of {key}"}
            tar.write(encode_clip(key, sound, RATE, frames, times, about))
    return Shards(folder)


def monster(kind, x, y, width=0.3, height=0.3):
    return [kind, "Monster", x, y, width, height]


@pytest.fixture
def rendered(tmp_path):
    """Folders of 8 solo and 4 duo episodes."""
    rng, kinds = np.random.default_rng(0), list(KINDS)
    solo = [
        (
            f"s{k}",
            [kinds[k % 2]],
            tone(kinds[k % 2]),
            [[monster(kinds[k % 2], *rng.uniform(0.1, 0.7, 2))] for _ in range(5)],
        )
        for k in range(8)
    ]
    duo = [
        (
            f"d{k}",
            kinds,
            tone("Red") + tone("Blue"),
            [
                [monster(kind, 0.6 * (kind == kinds[k % 2]) + rng.uniform(0, 0.1), 0.5) for kind in kinds]
                for _ in range(5)
            ],
        )
        for k in range(4)
    ]
    write(tmp_path / "solo", solo)
    write(tmp_path / "duo", duo)
    return tmp_path / "solo", tmp_path / "duo"


def measured(rendered, model, windows=1):
    solo, duo = map(Shards, rendered)
    asked = solo_duo.read_encounters(model, solo, duo, 3, windows, seed=0)
    return solo_duo.measure(model, [Oracle(deaf=True)], asked, seed=0)


@pytest.mark.parametrize("windows", [1, 3])
def test_a_model_that_knows_sound_and_picture_is_always_right(rendered, windows):
    report = measured(rendered, Oracle(), windows)
    figures = report.figures
    assert (figures["solo own sound"], figures["solo another kind's sound"]) == (100, 0)
    assert (figures["duo own sound"], figures["duo other's sound"]) == (100, 0)
    assert [figures[f"duo gain{bound}"] for bound in ("", ", lower bound", ", upper bound")] == [100, 100, 100]
    assert figures["duo gain, untrained"] == 0
    assert figures["solo chance (area of the box)"] == pytest.approx(9)
    title = next(name for name in report.tables if name.startswith("solo, 24 pictures of 8 levels"))
    assert report.tables[title]["own sound"]["off-centre"] == "100.0 [100.0, 100.0]"
    assert "duo, 12 pictures of 4 levels, both sounds each" in report.tables


def test_a_model_that_ignores_the_sound_gains_nothing(rendered):
    """It finds the one thing in solo pictures, and one of the two in duo pictures, whatever it hears."""
    figures = measured(rendered, Oracle(deaf=True)).figures
    assert figures["solo own sound"] == figures["solo another kind's sound"] == figures["solo silence"] == 100
    assert figures["duo own sound"] == figures["duo other's sound"] == 50
    assert figures["duo gain"] == figures["duo gain, upper bound"] == 0


def test_a_model_that_sees_noise_is_at_chance(rendered):
    model, (solo, duo) = Oracle(blind=True), map(Shards, rendered)
    asked = solo_duo.read_encounters(model, solo, duo, 5, 1, seed=0)
    heard = localization.hear(model, solo, asked.sounds)
    torch.manual_seed(0)
    runs = [solo_duo.duo_hits(model, heard, asked) for _ in range(30)]
    for name in ("own sound", "another kind's sound"):
        assert np.mean([run[name] for run in runs]) == pytest.approx(0.09, abs=0.03)


def test_pictures_are_chosen_by_what_is_seen_and_heard(tmp_path):
    """Of one episode's frames each breaks one rule, but for three; its second half is silent."""
    sound = tone("Red", 12.0)
    sound[8 * RATE :] = 0
    good = monster("Red", 0.1, 0.1)
    frames = [[good] for _ in range(23)]  # at 0.5, 1, ... 11.5 s
    frames[1] = [good, monster("Red", 0.6, 0.6)]  # two of them
    frames[2] = [monster("Red", 0.1, 0.1, 0.06, 0.08)]  # 0.48 % of the picture
    frames[3] = [monster("Red", 0.1, 0.1, 0.6, 0.5)]  # 30 %
    frames[4] = [good, ["Fire", "Explosive", 0.5, 0.5, 0.1, 0.1]]
    frames[5] = [["Red", "Decoration", 0.1, 0.1, 0.3, 0.3]]
    frames[6] = []
    frames[7] = [good, monster("Blue", 0.6, 0.6), ["Fire", "Explosive", 0.5, 0.5, 0.05, 0.05]]  # 0.25 %
    shards = write(tmp_path / "rules", [("a", ["Red"], sound, frames)])
    scenes, sounds = encounters.solo_scenes(shards, Oracle(), per_clip=50, windows=1, seed=0)
    # the first frame's window begins with the episode, and those from 8.5 s on hear nothing
    assert sorted(scene.frame for scene in scenes) == [0, 7, 8, 9, 10, 11, 12, 13, 14, 15]
    assert all(scene.boxes == {"Red": (0.1, 0.1, 0.3, 0.3)} for scene in scenes)
    assert [sound.middles for sound in sounds] == [(shards.clips[0].frame_times[scene.frame],) for scene in scenes]
    few, _ = encounters.solo_scenes(shards, Oracle(), per_clip=3, windows=1, seed=0)
    assert few == scenes[:3]
    assert [scene.frame for scene in encounters.solo_scenes(shards, Oracle(), 50, 1, seed=1)[0]] != [
        scene.frame for scene in scenes
    ]


def test_windows_of_one_recording_are_its_own_frame_and_others(tmp_path):
    shards = write(tmp_path / "one", [("a", ["Red"], tone("Red", 6.0), [[monster("Red", 0.1, 0.1)]] * 11)])
    _, sounds = encounters.solo_scenes(shards, Oracle(), per_clip=2, windows=4, seed=0)
    for sound in sounds:
        assert len(set(sound.middles)) == 4
        assert all(0.5 <= middle <= 5.5 for middle in sound.middles)


def test_duo_pictures_show_both_kinds_apart(tmp_path):
    apart = [monster("Red", 0.0, 0.5), monster("Blue", 0.6, 0.5)]
    frames = [apart, [monster("Red", 0.0, 0.5), monster("Blue", 0.2, 0.5)], apart[:1]]
    shards = write(tmp_path / "duo", [("a", ["Red", "Blue"], tone("Red"), frames)])
    [scene] = encounters.duo_scenes(shards, per_clip=5, seed=0)
    assert (scene.frame, list(scene.boxes)) == (0, ["Red", "Blue"])
    assert encounters.overlap((0, 0, 0.4, 0.4), (0.3, 0.2, 0.2, 0.2)) == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"no frame of .*lone"):
        encounters.duo_scenes(write(tmp_path / "lone", [("a", ["Red", "Blue"], tone("Red"), frames[2:])]), 5, 0)


def test_sounds_of_one_kind_or_of_other_kinds_are_refused(tmp_path):
    red = write(tmp_path / "red", [("a", ["Red"], tone("Red"), [[monster("Red", 0.1, 0.1)]] * 5)])
    both = [monster("Red", 0.0, 0.5), monster("Blue", 0.6, 0.5)]
    duo = write(tmp_path / "duo", [("a", ["Red", "Blue"], tone("Red"), [both] * 5)])
    with pytest.raises(ValueError, match="Blue, of which there is no solo recording"):
        solo_duo.read_encounters(Oracle(), red, duo, 2, 1, seed=0)


def test_an_untrained_network_is_settled_by_the_statistics_of_what_it_sees():
    """Of a first layer: those of its convolution's values, which are known once BatchNorm has taken them off."""
    torch.manual_seed(0)
    architecture = {"architecture": "avol", "widths": [4, 4, 8, 8], "frontend": "mel64", "image_size": 32}
    network = build_model(architecture).eval()
    rng = np.random.default_rng(0)
    pictures = list(rng.random((70, 36, 36, 3), dtype=np.float32))
    waveforms = list(rng.normal(size=(70, RATE)).astype(np.float32))
    before = [parameter.clone() for parameter in network.parameters()]
    localization.settle(network, pictures, waveforms)
    squares = torch.from_numpy(np.stack([fit(picture, 32) for picture in pictures]))
    first, norm = network.image_tower.layers[:2]
    with torch.no_grad():
        values = first(network.prepare_image(squares))
    expected = [part.mean((0, 2, 3)) for part in values.split(64)]
    torch.testing.assert_close(norm.running_mean, (expected[0] + expected[1]) / 2)
    assert not network.training
    assert all(torch.equal(*both) for both in zip(before, network.parameters(), strict=True))


def test_silence_is_what_the_network_makes_of_zeros():
    model = Loudness()
    np.testing.assert_array_equal(localization.silence(model), [[0.0, 0.0]])


def test_unusual_features_are_not_the_longest():
    """A channel that is loud everywhere tells nothing; a quiet one that answers at one place does."""
    features = np.zeros((2, 3, 4), np.float32)
    features[0] = 100 + np.arange(12).reshape(3, 4)  # longest at the last place
    features[1, 0, 1] = 1
    found = localization.saliency([features])
    assert localization.highest(found["feature norm"][0]) == (0.875, pytest.approx(5 / 6))
    assert localization.highest(found["unusual features"][0]) == (0.375, pytest.approx(1 / 6))
    z = (features - features.mean((1, 2), keepdims=True)) / features.std((1, 2), keepdims=True)
    np.testing.assert_allclose(found["unusual features"][0], np.linalg.norm(z, axis=0), rtol=1e-3)


def test_the_prior_is_the_mean_map_of_many_sounds(rendered):
    solo, duo = (Shards(folder) for folder in rendered)
    model = Oracle()
    found = solo_duo.read_encounters(model, solo, duo, 2, 1, seed=0)
    heard = localization.hear(model, found.solo, found.sounds)
    prior = solo_duo.solo_maps(model, heard, found)["mean map of many sounds"]
    seen = localization.see(model, found.solo, found.scenes)
    share_of_high = np.mean([heard[number][0, 0] for number in found.prior])
    assert 0 < share_of_high < 1 and len(found.prior) == localization.PRIOR_SOUNDS
    expected = share_of_high * seen[0][0] + (1 - share_of_high) * seen[0][1]
    np.testing.assert_allclose(prior[0], expected, rtol=1e-5)


@pytest.mark.parametrize("deaf", [False, True])
def test_a_model_tells_absent_sounds_by_the_highest_place_if_it_hears(rendered, deaf):
    solo, duo = (Shards(folder) for folder in rendered)
    model = Oracle(deaf=deaf)
    found = solo_duo.measure(model, [Oracle()], solo_duo.read_encounters(model, solo, duo, 2, 1, seed=0), seed=0)
    ap = found.figures["solo AP against another kind's sound, right if its highest place is in the box"]
    assert ap == pytest.approx(50 if deaf else 100, abs=1)  # deaf: both of one confidence


def test_the_interval_covers_the_truth_and_counts_episodes_not_pictures():
    """Pictures of an episode that are all alike are worth one picture: the interval is as wide as for one each."""
    rng, covered, widths = np.random.default_rng(0), 0, []
    for seed in range(100):
        episodes = (rng.random(60) < 0.3).astype(float)
        found = localization.share(np.repeat(episodes, 5), np.repeat(np.arange(60), 5), seed)
        covered += found.low <= 30 <= found.high
        widths.append(found.high - found.low)
        assert found.mean == pytest.approx(100 * episodes.mean())
    assert 86 <= covered <= 100
    assert np.mean(widths) == pytest.approx(2 * 196 * np.sqrt(0.3 * 0.7 / 60), rel=0.1)  # the normal interval's


def test_the_highest_place_is_pointed_at_by_its_middle():
    heatmap = np.zeros((2, 4))
    heatmap[1, 3] = 1
    assert localization.highest(heatmap) == (0.875, 0.75)
    assert localization.inside((0.875, 0.75), (0.8, 0.7, 0.1, 0.1))
    assert not localization.inside((0.875, 0.75), (0.0, 0.7, 0.875, 0.1))  # the right edge is outside
    assert localization.reachable(heatmap, (0.1, 0.2, 0.1, 0.1))
    assert not localization.reachable(heatmap, (0.2, 0.2, 0.1, 0.1))


def test_iou_of_the_higher_half_by_hand():
    """The left half is the answer; the box is the upper half: a quarter is shared, of three quarters."""
    left = np.tile(np.linspace(1, 0, ciou.SIZE, dtype=np.float32), (ciou.SIZE, 1))
    assert ciou.iou(left, ciou.truth([(0, 0, 1, 0.5)])) == pytest.approx(1 / 3, abs=0.01)
    assert ciou.iou(left, ciou.truth([(0, 0, 0.5, 1)])) == pytest.approx(1, abs=0.01)
    assert ciou.iou(left, ciou.truth([(0, 0, 0.2, 1)])) == pytest.approx(0.4, abs=0.01)
    assert ciou.iou(left, ciou.truth([(0, 0, 0.2, 1)]), share=0.2) == pytest.approx(1, abs=0.03)
    assert ciou.iou(np.ones((4, 4)), ciou.truth([(0, 0, 1, 1)])) == 0  # nothing is higher than the median
    assert ciou.iou(left, ciou.truth([(0.3, 0.8, 0.6, -1e16)])) == 0  # as there are in VGG-SS


def test_a_consensus_weighs_a_box_of_one_annotator_by_half():
    target = ciou.truth([(0, 0, 0.5, 1), (0.25, 0, 0.5, 1), (0.25, 0, 0.5, 1)], agreeing=2)
    assert (target[0, 0], target[0, 100], target[0, 200]) == (0.5, 1, 0)
    left = np.tile(np.linspace(1, 0, ciou.SIZE, dtype=np.float32), (ciou.SIZE, 1))
    assert ciou.iou(left, target) == pytest.approx(1, abs=0.02)  # the answer is all that anybody saw
    assert ciou.iou(left[:, ::-1], target) == 0
    assert ciou.iou(left, target, share=0.25) == pytest.approx(1 / 3, abs=0.02)  # 1/2 a quarter, of it and a whole one


def test_no_answer_of_half_of_the_picture_beats_the_best_possible():
    rng = np.random.default_rng(0)
    assert ciou.best_iou(ciou.truth([(0, 0, 0.5, 0.25)])) == pytest.approx(0.25)
    assert ciou.best_iou(ciou.truth([(0, 0, 1, 0.8)])) == pytest.approx(0.5 / 0.8, abs=0.01)
    for _ in range(20):
        (x0, x1), (y0, y1) = np.sort(rng.random((2, 2)))
        target = ciou.truth([(x0, y0, x1, y1)])
        assert ciou.iou(target + 1e-3 * rng.random(target.shape), target) <= ciou.best_iou(target) + 1e-3


def test_success_and_its_area_by_hand():
    """IoUs 0.5 and 0.26: at or above 0.5 one of two; the curve is 1 up to 0.25, 1/2 up to 0.5, then 0."""
    assert ciou.success([0.5, 0.26]) == 50
    assert ciou.success_curve_area([0.5, 0.26]) == pytest.approx(100 * (0.275 + 0.25 * 0.5))
    assert ciou.success_curve_area([1, 1]) == pytest.approx(100)


def test_average_precision_by_hand():
    """By confidence: right, negative, right, wrong. A wrong map costs precision, not recall."""
    confidence, right, positive = [4, 3, 2, 1], [True, True, True, False], [True, False, True, True]
    # precision 1, 1/2, 2/3, 1/2; recall 1/3, 1/3, 2/3, 1; the highest precision from each on
    ap, f1 = ciou.average_precision(confidence, right, positive)
    assert ap == pytest.approx(100 * (1 / 3 + 2 / 3 / 3 + 1 / 2 / 3))
    assert f1 == pytest.approx(100 * 2 / 3)
    assert ciou.average_precision([2, 1], [True, False], [True, False]) == (100, 100)
    tied = [ciou.average_precision([1, 1], [True, True], positive) for positive in ([True, False], [False, True])]
    assert tied == [(50, pytest.approx(200 / 3))] * 2  # whichever comes first


def write_clip(path, kind, box):
    """Two seconds; the kind's thing is seen at the middle alone."""
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
def annotated(tmp_path):
    """VGG-SS's layout, of two clips that are there, one that isn't and one that is no video."""
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


def test_annotated_videos_are_localised_and_others_named(annotated):
    annotations = sound_boxes.read_annotations(annotated[0])
    report, failures = sound_boxes.measure(Oracle(), Oracle(deaf=True), annotations, annotated[1], seed=0)
    rows, detected = report.tables.values()
    assert rows["own sound"]["highest place"] == "100.0"
    assert rows["another clip's sound"]["highest place"] == "0.0"  # there is nothing of its colour
    assert rows["best possible"]["AUC"] == "72.5"  # IoU 0.72 of boxes of 0.36: 1 up to 0.7, then 0
    assert set(failures) == {"missing_000004", "broken_000003"}
    assert failures["missing_000004"] == "missing"
    assert "broken_000003.mp4" in failures["broken_000003"]
    assert len(detected) == 4
    with pytest.raises(ValueError, match="of 1 annotated clips 0 could be read"):
        sound_boxes.measure(Oracle(), Oracle(), annotations[2:3], annotated[1], seed=0)


def test_a_sound_that_is_not_finite_costs_its_clip_alone(annotated):
    import soundfile

    _, folder = annotated
    for name, (kind, box) in (BOXES | {"nan_000005": BOXES["red_000001"]}).items():
        (folder / f"{name}.mp4").unlink(missing_ok=True)
        (folder / f"{name}.jpg").write_bytes(jpeg(draw({kind: box})))
        sound = tone(kind)
        sound[100] = np.nan if name == "nan_000005" else 0
        soundfile.write(folder / f"{name}.wav", sound, RATE, subtype="FLOAT")
    annotations = [sound_boxes.Annotation(name, "", [(0, 0, 0.5, 0.5)], agreeing=1) for name in ("nan_000005", *BOXES)]
    _, failures = sound_boxes.measure(Oracle(), Oracle(), annotations, folder, seed=0)
    assert failures.keys() == {"nan_000005"}
    assert "nan_000005.wav holds 1 NaN" in failures["nan_000005"]


def test_no_features_are_taken_of_the_untrained_network(annotated):
    class Counting(Oracle):
        seen = 0

        def image_tower(self, image):
            self.seen += len(image)
            return super().image_tower(image)

    fresh = Counting()
    sound_boxes.measure(Oracle(), fresh, sound_boxes.read_annotations(annotated[0]), annotated[1], seed=0)
    assert fresh.seen == 2 * len(BOXES)  # to settle it, and to measure it


def test_a_picture_and_a_sound_make_a_clip_and_xml_its_boxes(annotated, tmp_path):
    """LVS's layout of Flickr-SoundNet; coordinates are of 256."""
    import soundfile

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
    assert ciou.truth(annotations[0].boxes, annotations[0].agreeing).max() == 1
    report, failures = sound_boxes.measure(Oracle(), Oracle(), annotations, folder, seed=0)
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
    assert sum(ciou.truth(annotation.boxes).any() for annotation in annotations[:500]) > 490  # some have no area


@pytest.fixture
def weights(tmp_path):
    architecture = {"architecture": "avol", "widths": [4, 4, 4, 4], "frontend": "mel64", "image_size": [72, 96]}
    architecture["map_stride"] = 8
    save_weights(tmp_path / "tiny.safetensors", build_model(architecture), architecture)
    return tmp_path / "tiny.safetensors"


def evaluate(*arguments):
    return CliRunner().invoke(evaluate_main, ["--threads", "1", "localization", *map(str, arguments)])


def test_the_command_prints_both_tables_and_writes_json(rendered, weights, tmp_path):
    solo, duo = rendered
    options = ("--model", weights, "--per-clip", 2, "--untrained-seeds", 2, "--json", tmp_path / "found.json")
    result = evaluate("--solo", solo, "--duo", duo, *options)
    assert result.exit_code == 0, result.output
    for words in ("solo, 16 pictures of 8 levels", "duo, 8 pictures of 4 levels", "untrained: 2 seeds", "81.7"):
        assert words in result.output
    written = json.loads((tmp_path / "found.json").read_text())
    names = {metric["name"] for metric in written["metrics"]}
    assert {"localisation duo gain, lower bound", "localisation solo own sound"} <= names
    assert all(np.isfinite(metric["value"]) for metric in written["metrics"])


def test_the_command_takes_public_annotations(annotated, weights, tmp_path):
    boxes, videos = annotated
    options = ("--model", weights, "--untrained-seeds", 1, "--json", tmp_path / "found.json")
    result = evaluate("--boxes", boxes, "--videos", videos, *options)
    assert result.exit_code == 0, result.output
    assert "vggss.json, 2 of 4 clips" in result.output
    assert "left out: 1 clips that aren't in" in result.output and "missing_000004" in result.output
    assert set(json.loads((tmp_path / "found.json").read_text())["left_out"]) == {"missing_000004", "broken_000003"}
    for wrong in (("--boxes", boxes), (), ("--solo", videos), ("--solo", videos, "--duo", videos, "--boxes", boxes)):
        assert "give both --solo and --duo, or both --boxes and --videos" in evaluate(*wrong, *options).output
