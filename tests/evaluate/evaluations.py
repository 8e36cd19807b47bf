"""The command `training.evaluate` as tests call it, and networks small enough for tests."""

import torch
from click.testing import CliRunner

from openavc.weights import build_model
from training.checkpoint import save_weights
from training.evaluate.__main__ import main

TINY = {"architecture": "ave", "widths": [4, 4, 4, 4], "frontend": "mel64", "image_size": 16}


def evaluate(*arguments):
    return CliRunner().invoke(main, ["--threads", "1", *map(str, arguments)])


def save_network(path, **architecture):
    """Write the weights of a fresh network: a tiny AVE-Net, except for the options in `architecture`."""
    torch.manual_seed(0)
    described = TINY | architecture
    save_weights(path, build_model(described), described)
    return path
