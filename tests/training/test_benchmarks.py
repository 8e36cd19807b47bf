"""Benchmarks count and measure correctly: FLOPs in closed form, plans by hand, the loader on its own corpus."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from benchmarks import loader, openl3, planning, search
from openavc.models.contract import AudioVisualModel, FramesInput, SoundInput
from training.corpora.shards import Shards
from training.recipe import Recipe, merge, read_recipe, read_tables, to_recipe
from training.state import build

PAGE = (Path(planning.__file__).parents[1] / "docs/planning.md").read_text()
RECIPES = {path.stem: path for path in planning.RECIPES}


def tiny(name: str) -> Recipe:
    """Return a recipe at a reduced size."""
    small = {"model": {"widths": [4, 4, 8, 8], "image_size": 16}, "batch_size": 8}
    return to_recipe(merge(read_tables(RECIPES[name]), small))


def conv_flops(layer: nn.Conv2d, height: int, width: int) -> int:
    """Return the FLOPs of a forward pass: two for each weight at each position of the map."""
    kernel = layer.kernel_size[0] * layer.kernel_size[1]
    return 2 * layer.in_channels * layer.out_channels * kernel * height * width


def test_one_convolution_counts_as_in_its_closed_form(monkeypatch):
    """The gradient of the weights costs as much as the forward pass; the input is data and needs no gradient."""

    class One(AudioVisualModel):
        def __init__(self):
            super().__init__(SoundInput(10, 1.0, channels=2), FramesInput(14, 14), {})
            self.layer = nn.Conv2d(3, 5, 3, stride=2)

        def prepare_frames(self, frames):
            return frames[:, 0].permute(0, 3, 1, 2)

        def prepare_audio(self, samples):
            return samples[:, None]

    class Mean(nn.Module):
        drawn = 0

        def forward(self, model, frames, spectrogram, batch):
            return model.layer(frames).mean(), torch.zeros(())

    monkeypatch.setattr(planning, "build", lambda recipe, device: (One(), Mean(), None))
    work = planning.count("one", to_recipe(merge(read_tables(RECIPES["l3_flickr"]), {"batch_size": 4, "steps": 3})))
    assert work.pair == 2 * conv_flops(One().layer, 6, 6) == 2 * 2 * 3 * 5 * 9 * 36
    assert (work.parameters, work.pairs) == (3 * 5 * 9 + 5, 12)
    assert work.bytes == 14 * 14 * 3 * 4 + 10 * 2 * 4 + 8 + 8 + 8  # picture, sound, label, target, group


def test_the_full_l3_net_counts_as_its_layers_do_and_as_the_page_says():
    """The gradient of a layer's input costs as much as its forward pass, and so does that of its weights."""
    recipe = read_recipe(RECIPES["l3_flickr"])
    model, *_ = build(recipe, torch.device("cpu"))
    expected = 0
    for tower, (height, width) in ((model.image_tower, (224, 224)), (model.audio_tower, (257, 199))):
        first = True
        for layer in tower.layers:
            if isinstance(layer, nn.MaxPool2d):
                height, width = height // 2, width // 2
            if isinstance(layer, nn.Conv2d):
                expected += conv_flops(layer, height, width) * (2 if first else 3)
                first = False
    expected += 3 * 2 * (1024 * 128 + 128 * 2)  # fusion
    work = planning.count("l3_flickr", recipe)
    assert work.pair == expected
    assert work.pairs == 60_000_000
    assert planning.work_table([work]).splitlines()[-1] in PAGE.splitlines()


def test_the_page_has_every_recipe():
    for name in RECIPES:
        assert f"| {name} |" in PAGE


def test_a_recipe_that_makes_its_own_negatives_in_groups_is_counted_and_measured(tmp_path):
    recipe = read_recipe(RECIPES["avol_small_silence"])
    work = planning.count("avol_small_silence", recipe)
    assert planning.work_table([work]).splitlines()[-1] in PAGE.splitlines()
    shards = loader.own_corpus(recipe, tmp_path)
    assert [clip.group for clip in shards.clips] == [0] * 8 + [1] * 8


@pytest.mark.parametrize("name", ["ave_frames_audioset", "ave_flow_audioset"])
def test_recipes_that_see_motion_are_measured_on_frames_at_their_rate(name, tmp_path, monkeypatch):
    monkeypatch.setitem(loader.CORPORA[48_000], "seconds", 2)
    small = {"model": {"widths": [4, 4, 8, 8], "image_size": 32}, "batch_size": 4, "accumulate": 1}
    recipe = to_recipe(merge(read_tables(RECIPES[name]), small | {"data": {"workers": 0}}))
    shards = loader.own_corpus(recipe, tmp_path)
    assert np.diff(shards.clips[0].frame_times) == pytest.approx(1 / 25)
    [batch] = loader.Training(recipe, shards, torch.device("cpu")).batches()()
    assert len(batch["frames"]) == 4


def test_the_page_says_what_recipes_that_see_motion_ask_for():
    for name in ("ave_frames_audioset", "ave_flow_audioset"):
        recipe = read_recipe(RECIPES[name])
        model, *_ = build(recipe, torch.device("cpu"))
        size = math.prod(planning.frames_shape(model)) * 4 + 48_000 * 4 + 24  # bytes
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| {name} | float32"))
        assert row.split("|")[-2].strip() == planning.number(size / 1e3)


def test_plans_by_hand():
    work = planning.Work("x", "bf16", parameters=1, pair=1e9, pairs=3_600_000, bytes=1)
    assert work.total == 3.6e15
    assert work.hours(peak=10, share=0.5) == pytest.approx(0.2)  # 3.6e15 / 5e12 = 720 s
    assert work.pace(peak=10, share=0.5) == pytest.approx(5000)
    assert planning.cores(5000, 1200) == 5
    assert "| x | 0.2 h, $0.6 |" in planning.gpu_table([work], [("G", 10, 20, 40, 3.0)], 0.5)
    density = planning.Density(pixel=0.25, sound=50_000)
    assert density.clip(seconds=10, frame_rate=5, width=400, height=200) == 10 * (5 * 20_000 + 50_000)


def test_the_density_of_shards_is_that_of_their_files(shared):
    density, about = planning.measure_density(shared / "data/grid")
    assert about.startswith(f"{planning.FEW} clips")
    assert 0.05 < density.pixel < 1  # a JPEG of quality 90: 0.4 to 8 bits a pixel
    assert 5e3 < density.sound < 48_000 * 2  # FLAC is smaller than 16 bits a sample


def test_a_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(ValueError, match="first 0 videos"):
        planning.measure_density(tmp_path)


def test_a_corpus_of_noise_gives_batches_of_the_recipe(tmp_path):
    loader.write_corpus(tmp_path, 24_000, clips=3, classes=2)
    shards = Shards(tmp_path)
    assert shards.classes == ["class000", "class001"]
    assert [clip.seconds for clip in shards.clips] == [20, 20, 20]
    assert shards.frame(shards.clips[0], 0).shape == (120, 160, 3)


def test_the_loader_is_measured_for_two_steps(tmp_path):
    loader.write_corpus(tmp_path, 24_000, clips=4)
    found = loader.measure(tiny("ave_small"), Shards(tmp_path), torch.device("cpu"), least=0)
    assert all(0 < found[name] < math.inf for name in ("loader", "step", "both"))
    assert 0 < found["waiting"] < 1


def test_waiting_is_what_a_slow_loader_costs(tmp_path, monkeypatch):
    """If the loader takes 50 ms per batch of 8 and the step 10 ms, five sixths of the time is waiting."""
    loader.write_corpus(tmp_path, 24_000, clips=2)
    training = loader.Training(tiny("ave_small"), Shards(tmp_path), torch.device("cpu"))
    now = [0.0]

    def take(seconds):
        now[0] += seconds

    monkeypatch.setattr(training, "batches", lambda: lambda: take(0.05))
    monkeypatch.setattr(training, "update", lambda parts: take(0.01))
    pace, waiting = loader.together(training, 0.5, clock=lambda: now[0])
    assert pace == pytest.approx(8 / 0.06)
    assert waiting == pytest.approx(5 / 6)


def test_the_command_refuses_what_a_recipe_cannot_do():
    result = CliRunner().invoke(loader.main, [str(RECIPES["ave_small"]), "--batch-size", "3"])
    assert result.exit_code == 2
    assert "multiple of 2" in result.output


def test_the_distance_to_openl3_is_its_largest_difference_and_smallest_cosine():
    found, expected = np.array([[3.0, 4], [1, 0], [2, 0]]), np.array([[3.0, 4], [0, 1], [4, 0]])
    assert openl3.distance(found, expected) == (2, 0)
    assert openl3.worst([("a", 2, 0.9), ("b", 1, 1.0), ("a", 1, 0.8)]) == {("a",): (2, 0.8), ("b",): (1, 1.0)}


FRONTENDS = ("librosa", "kapre", "kapre-0.1.4")


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("name", ["noise_48k", "dog_44k"])
def test_the_limits_tell_a_right_frontend_from_wrong_ones(reference, frontend, name):
    """OpenL3's embedding of a sound with one frontend is compared with openavc's, with each frontend."""
    computed = openl3.Reference(reference)
    kind = "legacy_expected" if frontend == "kapre-0.1.4" else "expected"
    theirs = computed.load(f"audio_mel256_{kind}")[f"{name}|{frontend}|512|0.5|True|emb"]
    for other in FRONTENDS:
        ours, _ = computed.embed("mel256", other, 512, name, 0.5, True)
        right = openl3.within("mel256", frontend, name, *openl3.distance(ours, theirs))
        assert right == (other == frontend), other


def test_recall_is_the_share_of_the_true_nearest():
    vectors = np.eye(4, dtype=np.float32)
    truth = [search.brute_force(vectors, np.array([0.9, 0.4, 0.1, 0], np.float32), 2)]
    np.testing.assert_allclose(truth, [[0.9, 0.4]])
    assert search.recall([[0.9, 0.1]], truth) == 0.5
    assert search.recall([[0.9, 0.4]], truth) == 1


def test_the_vectors_searched_are_clustered_as_is_said():
    library, queries = search.draw(1000, 3, 128)
    assert library.shape == (1000, 128)
    assert queries.shape == (3, 128)
    np.testing.assert_allclose(np.linalg.norm(library, axis=1), 1, atol=1e-6)
    recordings = library.reshape(10, search.WINDOWS, 128)
    cosines = [(part @ search.unit(part.mean(axis=0))).mean() for part in recordings]
    np.testing.assert_allclose(cosines, 0.9, atol=0.02)


def test_search_is_measured_in_the_small(tmp_path):
    pytest.importorskip("lancedb", reason="searching needs LanceDB, of the extra [search]")
    result = CliRunner().invoke(search.main, ["--vectors", "300", "--queries", "3", "--dimensions", "8"])
    assert result.exit_code == 0
    assert "300 vectors of 8 values, from 3 .npz" in result.output
    assert result.output.count("| 1.0000 |") == 3  # below the size from which an index is made, all is exact
