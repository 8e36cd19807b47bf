"""The networks against the papers' tables and formulas."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import with_statistics
from gradients import check_gradients
from torch import nn

import openavc
from openavc import correspondence_score
from openavc.models import AVENet, AVOLNet, L3Net
from openavc.models.contract import EmbedsAudio, FramesInput, SoundInput
from openavc.models.layers import ConvTower, one_pass_tower, pool_to_grid, pool_windows
from openavc.weights import build_model
from training.checkpoint import save_weights
from training.objectives import Correspondence


@pytest.mark.parametrize(
    ("channels", "stride", "size", "expected"),
    [
        (3, 1, (224, 224), (28, 28)),  # L3 paper, Figure 2
        (1, 1, (257, 199), (32, 24)),
        (3, 2, (224, 224), (14, 14)),  # Objects that Sound, Figure 2
        (1, 2, (257, 199), (16, 12)),
        (1, 2, (257, 200), (16, 12)),
    ],
)
def test_the_last_map_has_the_papers_shape(channels, stride, size, expected):
    tower = ConvTower(channels, first_stride=stride)
    with torch.no_grad():
        assert tower(torch.zeros(1, channels, *size)).shape == (1, 512, *expected)


def test_a_tower_has_eight_3x3_convolutions_each_with_batch_norm_and_relu_and_three_pools():
    kinds = [type(layer) for layer in ConvTower(3).layers]
    block = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 2
    assert kinds == [*block, *([nn.MaxPool2d, *block] * 3)]
    widths = [layer.out_channels for layer in ConvTower(3).layers if isinstance(layer, nn.Conv2d)]
    assert widths == [64, 64, 128, 128, 256, 256, 512, 512]


def test_l3_towers_have_the_papers_number_of_weights():
    sizes = [(1, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    expected = sum(9 * a * b + b + 2 * b for a, b in sizes)  # kernel, bias, BatchNorm's scale and shift
    assert sum(p.numel() for p in ConvTower(1).parameters()) == expected
    assert expected == pytest.approx(4.7e6, rel=0.01)  # openl3.md: "~4.7 M per tower"


@pytest.mark.parametrize(("size", "audio", "image"), [(None, 6144, 8192), (6144, 6144, 8192), (512, 512, 512)])
def test_l3_embeds_raw_conv4_2_in_the_papers_sizes(size, audio, image):
    torch.manual_seed(0)
    model = L3Net(embedding_size=size).eval()
    with torch.no_grad():
        sound = model.embed_audio(torch.randn(1, 1, 257, 199))
        picture = model.embed_frames(torch.randn(1, 3, 224, 224))
    assert sound.shape == (1, audio)
    assert picture.shape == (1, image)
    assert model.embedding_sizes == {"audio": {"features": audio}, "image": {"features": image}}


def test_l3_features_are_taken_before_relu():
    torch.manual_seed(0)
    model = L3Net(widths=(4, 4, 4, 4), image_size=32).eval()
    with torch.no_grad():
        sound = torch.randn(4, 1, 257, 199)
        raw = model.audio_tower.raw(sound)
        after = model.audio_tower(sound)
    assert (raw < 0).any()
    assert (after >= 0).all()
    batch_norm = model.audio_tower.layers[-2]
    torch.testing.assert_close(after, torch.relu(batch_norm(raw)))


def test_pooling_to_a_grid_keeps_the_order_row_column_channel():
    feature_map = torch.arange(2 * 3 * 8 * 6.0).reshape(2, 3, 8, 6)
    pooled = pool_to_grid(feature_map, 4, 3)
    assert pooled.shape == (2, 4 * 3 * 3)
    row, column, channel = 2, 1, 2
    expected = feature_map[1, channel, 4:6, 2:4].max()
    assert pooled[1, (row * 3 + column) * 3 + channel] == expected


@pytest.fixture
def small_ave():
    torch.manual_seed(0)
    return AVENet(widths=(4, 4, 8, 8), frontend="mel64", image_size=32, joint_size=16)


def test_ave_joint_embeddings_are_unit_vectors(small_ave):
    with torch.no_grad():
        image = small_ave.embed_frames(torch.randn(5, 3, 32, 32), "joint")
        audio = small_ave.embed_audio(torch.randn(5, 1, 64, 77), "joint")
    torch.testing.assert_close(image.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(audio.norm(dim=1), torch.ones(5))


def test_ave_score_falls_strictly_with_the_distance_at_the_start(small_ave):
    angle = torch.linspace(0, torch.pi, 20)
    image = torch.stack([torch.cos(angle), torch.sin(angle)], dim=1)  # from the same to the opposite direction
    audio = torch.tensor([[1.0, 0.0]]).repeat(20, 1)
    score = small_ave.compare(image, audio).softmax(dim=1)[:, 1]
    assert (score.diff() < 0).all()


def test_ave_decides_by_the_euclidean_distance_not_its_square(small_ave):
    image, audio = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    weight, bias = small_ave.fc3.weight[:, 0], small_ave.fc3.bias
    torch.testing.assert_close(small_ave.compare(image, audio)[0], weight * 2**0.5 + bias)


def test_ave_gradient_is_finite_where_both_embeddings_are_the_same(small_ave):
    vector = torch.tensor([[1.0, 0.0]], requires_grad=True)
    small_ave.compare(vector, vector.detach().clone())[0, 1].backward()
    assert torch.isfinite(vector.grad).all()


def test_ave_features_are_the_maximum_of_the_last_map_or_maxima_and_means_of_the_last_three_blocks():
    torch.manual_seed(0)
    options = {"widths": (3, 4, 6, 8), "frontend": "mel64", "image_size": 32, "one_pass": True}
    model = with_statistics(AVENet(**options, features="blocks"))
    plain = AVENet(**options, features="max").eval()
    plain.load_state_dict(model.state_dict())
    for tower, embed, inputs in (
        (model.audio_tower, "embed_audio", torch.randn(2, 1, 64, 77)),
        (model.image_tower, "embed_frames", torch.randn(2, 3, 32, 32)),
    ):
        with torch.no_grad():
            features, maximum = getattr(model, embed)(inputs), getattr(plain, embed)(inputs)
            before_pools = [k for k, layer in enumerate(tower.layers) if isinstance(layer, nn.MaxPool2d)]
            maps = [tower.layers[:k](inputs) for k in (*before_pools[1:], None)]
        parts = [part for m in maps for part in (m.amax(dim=(2, 3)), m.mean(dim=(2, 3)))]
        torch.testing.assert_close(features, torch.cat(parts, dim=1))
        torch.testing.assert_close(maximum, maps[-1].amax(dim=(2, 3)))
        assert features.shape == (2, 2 * (4 + 6 + 8))


@pytest.mark.parametrize("frames", [33, 64, 77, 78, 79, 80, 81, 199, 325])
def test_spans_are_the_columns_of_an_actual_forward_pass(model, frames):
    with torch.no_grad():
        maps = model.audio_tower.blocks(torch.zeros(1, 1, 64, frames))
    assert [m.shape[3] for m in maps] == [columns for columns, _ in model.audio_tower.spans(frames)]
    assert [stride for _, stride in model.audio_tower.spans(frames)] == [1, 2, 4, 4]


def test_a_column_of_the_compact_sound_tower_sees_32_frames_of_which_12_columns_cover_a_window():
    torch.manual_seed(0)
    tower = one_pass_tower((4, 4, 4, 4)).eval()
    spectrogram = torch.rand(1, 1, 64, 77, requires_grad=True)
    feature_map = tower.raw(spectrogram)
    assert feature_map.shape[3] == 12
    for column in (0, 11):
        [gradient] = torch.autograd.grad(feature_map[..., column].square().sum(), spectrogram, retain_graph=True)
        seen = gradient.abs().amax(dim=(0, 1, 2)).nonzero()
        assert seen.min() >= 4 * column
        assert seen.max() <= 4 * column + 31
        assert seen.max() - seen.min() >= 26  # max-pools pass on one of two


@pytest.mark.parametrize("embedding", ["features", "joint"])
@pytest.mark.parametrize("hop_samples", [1200, 2400, 6000, 12_000])
def test_the_slices_of_one_pass_are_the_windows_one_by_one(model, hop_samples, embedding):
    waveforms = torch.rand(2, 24_000 + 6 * hop_samples, 1) - 0.5
    waveforms *= torch.logspace(-3, 0, waveforms.shape[1])[:, None]  # quiet to loud, so that the windows differ
    with torch.no_grad():
        together = model.embed_slices(model.prepare_audio(waveforms), embedding, hop_samples)
        alone = [
            model.embed_audio(model.prepare_audio(waveforms[:, k * hop_samples :][:, :24_000]), embedding)
            for k in range(7)
        ]
    torch.testing.assert_close(together, torch.stack(alone, dim=1), rtol=0, atol=1e-5 * float(together.abs().max()))
    assert together.std(dim=1).max() > 1e-3


def test_one_pass_works_on_the_papers_spectrogram_too():
    torch.manual_seed(0)
    model = with_statistics(AVENet(widths=(2, 2, 4, 4), image_size=32, one_pass=True, joint_size=4))
    assert model.slice_samples == 4 * 240
    waveform = torch.rand(1, 48_000 + 2 * 4800, 1) - 0.5
    with torch.no_grad():
        together = model.embed_slices(model.prepare_audio(waveform), "features", 4800)
        alone = [model.embed_audio(model.prepare_audio(waveform[:, k * 4800 :][:, :48_000])) for k in range(3)]
    torch.testing.assert_close(together, torch.stack(alone, dim=1), rtol=0, atol=1e-5 * float(together.abs().max()))


def test_windows_of_a_map_are_pooled_as_by_hand():
    feature_map = torch.randn(2, 3, 5, 17)
    maximum, mean = pool_windows(feature_map, 6, 4)
    assert maximum.shape == mean.shape == (2, 3, 3)  # (B, T, C); columns 14 to 16 are part of no window
    torch.testing.assert_close(maximum[1, 2], feature_map[1, :, :, 8:14].amax(dim=(1, 2)))
    torch.testing.assert_close(mean[1, 2], feature_map[1, :, :, 8:14].mean(dim=(1, 2)))


@pytest.mark.parametrize("hop_samples", [0, 300, 1000, 1800])
def test_a_hop_that_is_no_slice_is_refused(model, hop_samples):
    with pytest.raises(ValueError, match=f"{hop_samples} samples apart.*multiple of 1200"):
        model.embed_slices(torch.zeros(1, 1, 64, 200), "features", hop_samples)


def test_a_network_that_pads_in_time_has_no_slices(small_ave):
    assert small_ave.slice_samples is None
    with pytest.raises(ValueError, match="one_pass=True"):
        small_ave.embed_slices(torch.zeros(1, 1, 64, 200), "features", 1200)


def test_ave_refuses_features_it_does_not_have():
    with pytest.raises(ValueError, match="'max' or 'blocks', got 'mean'"):
        AVENet(features="mean")


def test_full_size_ave_gives_128_values_and_takes_the_papers_inputs():
    model = AVENet().eval()
    assert (model.sound, model.frames) == (SoundInput(48_000, 1.0), FramesInput(224, 224))
    with torch.no_grad():
        spectrogram = model.prepare_audio(torch.randn(1, 48_000, 1))
        assert spectrogram.shape == (1, 1, 257, 199)
        assert model.embed_audio(spectrogram, "joint").shape == (1, 128)
        assert model.embed_audio(spectrogram).shape == (1, 512)
        assert model(torch.zeros(1, 3, 224, 224), spectrogram).shape == (1, 2)


def test_pictures_are_prepared_to_minus_one_to_one_whatever_their_dtype(small_ave):
    bytes_ = torch.randint(0, 256, (1, 1, 32, 32, 3), dtype=torch.uint8)
    prepared = small_ave.prepare_frames(bytes_)
    torch.testing.assert_close(prepared, small_ave.prepare_frames(bytes_.float() / 255))
    torch.testing.assert_close(prepared[0, 1, 2, 3], bytes_[0, 0, 2, 3, 1] / 127.5 - 1)
    assert prepared.shape == (1, 3, 32, 32)


@pytest.fixture
def small_avol():
    torch.manual_seed(0)
    return AVOLNet(widths=(4, 4, 8, 8), frontend="mel64", image_size=64, joint_size=16).eval()


def test_avol_map_has_14_x_14_places_of_128_values_at_the_papers_size():
    model = AVOLNet().eval()
    assert (model.sound, model.frames) == (SoundInput(48_000, 1.0), FramesInput(224, 224))
    with torch.no_grad():
        audio = model.represent_audio(model.prepare_audio(torch.randn(1, 48_000, 1)))
        image = model.represent_frames(torch.randn(1, 3, 224, 224))
        assert audio.shape == (1, 128)
        assert image.shape == (1, 128, 14, 14)
        assert model.localize(image, audio).shape == (1, 14, 14)
        assert model.compare(image, audio).shape == (1, 2)
        assert model.embed_frames(torch.zeros(1, 3, 224, 224)).shape == (1, 512)


def test_avol_vectors_are_not_normalised(small_avol):
    with torch.no_grad():
        audio = small_avol.represent_audio(torch.randn(5, 1, 64, 77))
        image = small_avol.represent_frames(torch.randn(5, 3, 64, 64))
    assert audio.norm(dim=1).std() > 1e-3
    assert image.norm(dim=1).std() > 1e-3


def test_avol_map_is_the_scaled_and_shifted_scalar_product_at_each_place(small_avol):
    image, audio = torch.randn(3, 16, 4, 4), torch.randn(3, 16)
    with torch.no_grad():
        small_avol.conv7.weight.fill_(0.5)
        small_avol.conv7.bias.fill_(-2.0)
        places = small_avol.localize(image, audio)
        thrice = small_avol.localize(image, 3 * audio)
    assert places[2, 1, 3].item() == pytest.approx(0.5 * float(image[2, :, 1, 3] @ audio[2]) - 2, abs=1e-5)
    torch.testing.assert_close(thrice + 2, 3 * (places + 2))


def test_avol_score_is_the_maximum_of_the_papers_sigmoid_map(small_avol):
    image, audio = torch.randn(6, 16, 4, 4), torch.randn(6, 16)
    with torch.no_grad():
        score = small_avol.compare(image, audio).softmax(dim=1)[:, 1]
        heatmap = small_avol.localize(image, audio).sigmoid()
    torch.testing.assert_close(score, heatmap.amax(dim=(1, 2)))


def test_avol_score_rises_with_likeness_at_the_start(small_avol):
    audio = torch.ones(20, 16)
    image = torch.linspace(-1, 1, 20)[:, None, None, None].expand(20, 16, 4, 4)
    score = small_avol.compare(image, audio).softmax(dim=1)[:, 1]
    assert (score.diff() > 0).all()


def test_avol_trains_on_the_papers_logistic_loss(small_avol):
    image, spectrogram, label = torch.randn(6, 3, 64, 64), torch.randn(6, 1, 64, 77), torch.arange(6) % 2
    with torch.no_grad():
        loss, _ = Correspondence()(small_avol, image, spectrogram, {"label": label})
        places = small_avol.localize(small_avol.represent_frames(image), small_avol.represent_audio(spectrogram))
    expected = F.binary_cross_entropy_with_logits(places.amax(dim=(1, 2)), label.float())
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("pooling", ["max", "logsumexp"])
def test_avol_gradients_are_finite_and_reach_every_layer(pooling):
    torch.manual_seed(0)
    model = AVOLNet(widths=(4, 4, 8, 8), frontend="mel64", image_size=64, joint_size=16, pooling=pooling)
    label = torch.arange(6) % 2
    loss, _ = Correspondence()(model, torch.randn(6, 3, 64, 64), torch.randn(6, 1, 64, 77), {"label": label})
    loss.backward()
    check_gradients(model)


def test_avol_softer_pooling_is_between_mean_and_maximum_and_exact_where_all_places_are_the_same(small_avol):
    image, audio = torch.randn(6, 16, 4, 4), torch.randn(6, 16)
    small_avol.pooling = "logsumexp"
    with torch.no_grad():
        places = small_avol.localize(image, audio).flatten(1)
        soft = small_avol.similarity(image, audio).diag()
        same = small_avol.similarity(image[:, :, :1, :1].expand(-1, -1, 4, 4), audio).diag()
        score = small_avol.compare(image, audio)[:, 1]
    assert ((places.mean(dim=1) < soft) & (soft < places.amax(dim=1))).all()
    torch.testing.assert_close(same, places[:, 0])
    torch.testing.assert_close(score, places.amax(dim=1))  # the paper's, whatever it was trained with


def test_avol_similarity_is_that_of_all_pictures_with_all_sounds(small_avol):
    image, audio = torch.randn(3, 16, 2, 5), torch.randn(4, 16)
    similarity = small_avol.similarity(image, audio)
    assert similarity.shape == (3, 4)
    expected = max(float(image[2, :, row, column] @ audio[1]) for row in range(2) for column in range(5)) / 4
    assert similarity[2, 1].item() == pytest.approx(expected, abs=1e-5)


def test_avol_map_can_be_finer_and_as_wide_as_the_picture():
    model = AVOLNet(widths=(4, 4, 8, 8), frontend="mel64", image_size=[72, 96], map_stride=8, joint_size=16).eval()
    with torch.no_grad():
        assert model.represent_frames(torch.zeros(1, 3, 72, 96)).shape == (1, 16, 9, 12)
    with pytest.raises(ValueError, match="8 or 16 pixels, got 4"):
        AVOLNet(map_stride=4)


def test_avol_has_features_alone_since_no_one_vector_stands_for_a_picture(small_avol):
    assert small_avol.embedding_sizes == {"audio": {"features": 8}, "image": {"features": 8}}
    with pytest.raises(ValueError, match="no embedding 'joint'; it has 'features'"):
        small_avol.embed_frames(torch.zeros(1, 3, 64, 64), "joint")


def test_avol_scores_sounds_with_pictures(small_avol):
    rng = np.random.default_rng(0)
    waveform, pictures = rng.uniform(-1, 1, 24_000).astype(np.float32), rng.random((2, 73, 73, 3), dtype=np.float32)
    scores = correspondence_score(waveform, 24_000, pictures, small_avol)
    with torch.no_grad():
        spectrogram = small_avol.prepare_audio(torch.from_numpy(waveform)[None, :, None])
        audio = small_avol.represent_audio(spectrogram).expand(2, -1)
        crops = torch.from_numpy(pictures[:, None, 4:68, 4:68])  # 73 = 64 * 256 / 224: just cropped
        image = small_avol.represent_frames(small_avol.prepare_frames(crops))
        expected = small_avol.localize(image, audio).sigmoid().amax(dim=(1, 2))
    np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.parametrize("network", [L3Net, AVENet, AVOLNet])
def test_an_option_that_does_not_exist_is_refused_with_what_does(network):
    with pytest.raises(ValueError, match=r"'mel65'.*linear257"):
        network(frontend="mel65")


def test_l3_refuses_an_embedding_size_it_does_not_have():
    with pytest.raises(ValueError, match="6144, 512, got 100"):
        L3Net(embedding_size=100)


def test_avol_refuses_a_pooling_it_does_not_have():
    with pytest.raises(ValueError, match="'max' or 'logsumexp', got 'mean'"):
        AVOLNet(pooling="mean")


# -------------------------------------------------------------------------------- AVE-Net that sees several frames


def tiny_motion(motion, frames=9, **options):
    torch.manual_seed(0)
    sizes = {"widths": (4, 4, 8, 8), "frontend": "mel64", "image_size": 32, "joint_size": 16}
    return AVENet(**sizes, motion=motion, frames=frames, **options)


def precomputed_shape(model):
    """Return the shape of a clip after `precompute_frames`: (T, H, W, 3), or (H, W, 3 + 2 (T - 1)) with flow."""
    count, height, width, colours = model.frames.shape
    return (height, width, colours + 2 * (count - 1)) if model.motion == "flow" else model.frames.shape


def clips_of_noise(model, count):
    """Return the output of `prepare_frames` for noise in the shape of precomputed clips."""
    return model.prepare_frames(torch.rand(count, *precomputed_shape(model)))


def test_flow_and_picture_meet_at_14_x_14_x_256_each_before_conv4_1():
    """Objects that Sound, AVE+OF: 224 x 224 x 20 beside the picture, with a second copy of conv1_1 to pool3."""
    with torch.device("meta"):
        model = AVENet(motion="flow")
        image = model.prepare_frames(torch.empty(1, *precomputed_shape(model)))
        assert image.shape == (1, 3 + 20, 224, 224)
        tower = model.image_tower
        assert tower.picture(image[:, :3]).shape == tower.flow(image[:, 3:]).shape == (1, 256, 14, 14)
        assert tower.streams(image).shape == (1, 512, 14, 14)
        assert tower(image).shape == (1, 512, 14, 14)
        assert model.embed_frames(image).shape == (1, 512)
    assert model.frames == FramesInput(224, 224, 11, 25.0)
    widths = [(c.in_channels, c.out_channels) for c in tower.together if isinstance(c, nn.Conv2d)]
    assert widths == [(512, 512), (512, 512)]


def test_25_frames_go_through_3d_convolutions_to_maps_of_14_x_14():
    with torch.device("meta"):
        model = AVENet(motion="frames")
        image = model.prepare_frames(torch.empty(2, *precomputed_shape(model)))
        assert image.shape == (2, 3, 25, 224, 224)
        assert [tuple(m.shape[1:]) for m in model.image_tower.blocks(image)] == [
            (64, 13, 112, 112),
            (128, 6, 56, 56),
            (256, 3, 28, 28),
            (512, 3, 14, 14),
        ]
        assert model.embed_frames(image).shape == (2, 512)
    assert model.frames == FramesInput(224, 224, 25, 25.0)
    kernels = [layer.kernel_size for layer in model.image_tower.layers if isinstance(layer, nn.Conv3d)]
    assert kernels == [(3, 3, 3)] * 8


def test_kernels_that_see_one_frame_make_of_a_still_what_ave_net_makes_of_the_picture():
    plain = with_statistics(AVENet(widths=(4, 4, 8, 8), frontend="mel64", image_size=32, joint_size=16))
    model = tiny_motion("frames").eval()
    state = {
        name: F.pad(value[:, :, None], (0, 0, 0, 0, 1, 1)) if value.dim() == 4 and name.startswith("image") else value
        for name, value in plain.state_dict().items()  # the 2-D kernel in the middle of the 3-D one
    }
    model.load_state_dict(state)
    pictures = torch.rand(3, 32, 32, 3)
    stills = pictures[:, None].expand(-1, 9, -1, -1, -1)
    with torch.no_grad():
        for kind in ("features", "joint"):
            expected = plain.embed_frames(plain.prepare_frames(pictures[:, None]), kind)
            torch.testing.assert_close(model.embed_frames(model.prepare_frames(stills), kind), expected)


def test_what_moves_is_seen_and_in_which_order():
    model = tiny_motion("frames").eval()
    run = torch.rand(1, *model.frames.shape) * torch.linspace(0, 1, 9)[:, None, None, None]  # it grows brighter
    with torch.no_grad():
        moving, backwards, still = (
            model.embed_frames(model.prepare_frames(frames), "joint")
            for frames in (run, run.flip(1), run[:, 4:5].expand_as(run))
        )
    assert (moving - backwards).abs().max() > 1e-3
    assert (moving - still).abs().max() > 1e-3


def test_the_picture_has_ave_nets_own_stream_and_flow_another():
    plain, model = ConvTower(3, (4, 4, 8, 8), first_stride=2).eval(), with_statistics(tiny_motion("flow"))
    tower, image = model.image_tower, clips_of_noise(model, 2)
    tower.picture.load_state_dict(plain.layers[:-6].state_dict())
    still = torch.cat([image[:, :3], torch.zeros_like(image[:, 3:])], dim=1)
    with torch.no_grad():
        streams, of_still = tower.streams(image), tower.streams(still)
        torch.testing.assert_close(streams[:, :8], plain.layers[:-6](image[:, :3]))
        torch.testing.assert_close(of_still[:, :8], streams[:, :8])
        torch.testing.assert_close(streams[:, 8:], tower.flow(image[:, 3:]))
        assert (of_still[:, 8:] - streams[:, 8:]).abs().max() > 1e-3
        joint = [model.embed_frames(x, "joint") for x in (image, still)]
    assert (joint[0] - joint[1]).abs().max() > 1e-3


def test_flow_of_nothing_moving_is_0_for_the_network():
    model = tiny_motion("flow")
    still = model.precompute_frames(np.full((9, 32, 32, 3), 0.7, np.float32))
    prepared = model.prepare_frames(torch.from_numpy(still)[None])
    torch.testing.assert_close(prepared[:, :3], torch.full((1, 3, 32, 32), 0.4))
    assert not prepared[:, 3:].any()


@pytest.mark.parametrize("features", ["max", "blocks"])
@pytest.mark.parametrize("motion", ["frames", "flow"])
def test_gradients_of_networks_that_see_motion_are_finite_and_reach_every_layer(motion, features):
    model = tiny_motion(motion, features=features)
    label = torch.arange(6) % 2
    image = clips_of_noise(model, 6)
    loss, _ = Correspondence()(model, image, torch.randn(6, 1, 64, 77), {"label": label})
    (loss + model.embed_frames(image).square().mean()).backward()
    check_gradients(model)


@pytest.mark.parametrize("features", ["max", "blocks"])
@pytest.mark.parametrize("motion", ["frames", "flow"])
def test_embeddings_of_runs_do_not_depend_on_the_batch(motion, features):
    model = with_statistics(tiny_motion(motion, features=features))
    image = clips_of_noise(model, 3)
    with torch.no_grad():
        for kind in ("features", "joint"):
            together = model.embed_frames(image, kind)
            alone = torch.cat([model.embed_frames(image[k : k + 1], kind) for k in range(3)])
            torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert (
        model.embed_frames(image).shape[1]
        == {
            ("frames", "max"): 8,
            ("flow", "max"): 8,
            ("frames", "blocks"): 2 * (4 + 8 + 8),
            ("flow", "blocks"): 2 * (2 * 4 + 2 * 8 + 8),  # of both streams
        }[motion, features]
    )


@pytest.mark.parametrize("motion", ["frames", "flow"])
def test_weights_of_networks_that_see_motion_come_back_with_what_they_state(motion, tmp_path):
    options = {"architecture": "ave", "widths": [4, 4, 8, 8], "frontend": "mel64", "image_size": 32}
    options |= {"motion": motion, "frames": 9}
    model = with_statistics(build_model(options))
    save_weights(tmp_path / "a.safetensors", model, options, torch.float32)
    loaded = openavc.load_model(tmp_path / "a.safetensors")
    assert (loaded.motion, loaded.frames) == (motion, FramesInput(32, 32, 9, 25.0))
    image = clips_of_noise(model, 2)
    with torch.no_grad():
        torch.testing.assert_close(loaded.embed_frames(image, "joint"), model.embed_frames(image, "joint"))
    with pytest.raises(ValueError, match="its frames is 9, not 11: leave frames out"):
        openavc.load_model(tmp_path / "a.safetensors", frames=11)


def test_the_model_that_ships_sees_single_pictures_and_has_the_weights_of_plain_ave_net():
    model = openavc.load_model("ave-small")
    assert (model.motion, model.frames) == (None, FramesInput(64, 64))
    assert type(model.image_tower) is ConvTower
    assert "motion" not in model.architecture


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"motion": "sound"}, "None, 'frames' or 'flow', got 'sound'"),
        ({"frames": 25}, "must be 1 with motion=None, got 25"),
        ({"motion": "frames", "frames": 24}, "an odd number of 7 to 999 with motion='frames', got 24"),
        ({"motion": "frames", "frames": 5}, "of 7 to 999"),
        ({"motion": "flow", "frames": 1}, "of 3 to 999 with motion='flow', got 1"),
        ({"motion": "flow", "frames": 5.0}, r"got 5\.0"),
    ],
)
def test_motion_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AVENet(**options)


def test_the_fewest_frames_are_enough():
    for motion, fewest in (("frames", 7), ("flow", 3)):
        model = tiny_motion(motion, fewest).eval()
        assert model.embed_frames(clips_of_noise(model, 1)).shape == (1, 8)


@pytest.mark.parametrize("network", ["small_avol", "small_ave"])
def test_more_channels_or_frames_than_a_network_takes_are_refused(network, request):
    model = request.getfixturevalue(network)
    with pytest.raises(ValueError, match="mono"):
        model.prepare_audio(torch.zeros(1, model.sound.samples, 2))
    with pytest.raises(ValueError, match="single pictures"):
        model.prepare_frames(torch.zeros(1, 2, 64, 64, 3))


def test_a_network_without_preparation_says_what_is_missing():
    class Unprepared(EmbedsAudio):
        def embed_audio(self, spectrogram, embedding="features"):
            return spectrogram

    with pytest.raises(ValueError, match="takes no sound"):
        Unprepared(None, None, {}).prepare_audio(torch.zeros(1, 10, 1))
    with pytest.raises(TypeError, match="Unprepared states that it takes sound, but doesn't define prepare_audio"):
        Unprepared(SoundInput(100, 1.0), None, {}).prepare_audio(torch.zeros(1, 100, 1))
