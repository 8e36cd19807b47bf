"""A tiny PE-AV with random numbers, written as a folder in transformers' layout."""

import pytest
import torch

from openavc.models.pe_av import _classes

RATE, SIDE = 48_000, 28  # Hz, pixels
WORDS = "[PAD] [CLS] [SEP] [UNK] a dog barks rain falls on the roof".split()
ENCODER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 16}
CODEC = {"encoder_hidden_size": 2, "decoder_hidden_size": 8, "n_codebooks": 2, "codebook_size": 8, "codebook_dim": 8}
VISION = {
    "architecture": "vit_pe_core_large_patch14_336",
    "num_classes": 8,
    "model_args": {
        "embed_dim": 32,
        "num_heads": 2,
        "depth": 2,
        "img_size": (SIDE, SIDE),
        "global_pool": "map",
        "use_post_transformer_norm": False,
        "init_values": 0.1,
        "ref_feat_shape": (1, 1),
    },
}
TEXT = {
    "model_type": "modernbert",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": len(WORDS),
    **{f"{kind}_token_id": k for kind, k in (("pad", 0), ("cls", 1), ("bos", 1), ("sep", 2), ("eos", 2))},
}


def write_tiny_pe_av(folder, num_frames=None, seed=0, shard=None):
    """Write the folder; `num_frames` as of the forms that take exactly so many, `shard` the largest file of weights."""
    network(seed).save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    processor(num_frames).save_pretrained(folder)
    return folder


def network(seed):
    """Return a network whose embeddings differ between inputs, in evaluation mode."""
    from transformers import PeAudioVideoConfig, PeAudioVideoModel

    torch.manual_seed(seed)
    codec = CODEC | {"downsampling_ratios": [2, 8, 10, 12]}  # 1,920 samples a token
    config = PeAudioVideoConfig(
        text_config=TEXT,
        audio_video_config=ENCODER
        | {
            "audio_config": {"model_type": "pe_audio_encoder", "dac_config": codec, **ENCODER},
            "video_config": {"model_type": "pe_video_encoder", "vision_config": VISION, **ENCODER},
        },
    )
    made = PeAudioVideoModel(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter += torch.randn_like(parameter) * fan_in**-0.5
        made.audio_video_logit_scale.fill_(0.5)
        made.audio_video_logit_bias.fill_(-1.0)
    return made


def processor(num_frames):
    """Return what prepares sound, video and text, with a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        PeAudioFeatureExtractor,
        PeAudioVideoProcessor,
        PeVideoVideoProcessor,
        PreTrainedTokenizerFast,
    )

    words = Tokenizer(models.WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    marks = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    half = [0.5, 0.5, 0.5]
    video = PeVideoVideoProcessor(
        size={"height": SIDE, "width": SIDE},
        do_resize=True,
        do_rescale=True,
        do_normalize=True,
        do_convert_rgb=True,
        image_mean=half,
        image_std=half,
        do_sample_frames=num_frames is not None,
        num_frames=num_frames,
    )
    return PeAudioVideoProcessor(
        feature_extractor=PeAudioFeatureExtractor(),
        video_processor=video,
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=words, **marks),
    )


def require_pe_av():
    """Skip the tests of PE-AV, with what is missing, where its packages can't be imported."""
    try:
        _classes()
    except ImportError as error:
        pytest.skip(str(error))
