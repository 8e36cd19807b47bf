"""AVE-Net's towers that see motion: AVE+MF and AVE+OF (Objects that Sound, arXiv 1712.06651, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .layers import ConvTower, block_maps, channels_last, conv_block, initialised

FRAME_RATE = 25.0  # frames per second, for both
MOST_FRAMES = 999  # of a clip
FRAME_COUNTS = {
    None: (1, 1),
    "frames": (25, 7),
    "flow": (11, 3),
}  # by motion: the paper's number, and the lowest


class TwoStreamTower(nn.Module):
    """A picture and its optical flow, each through blocks of its own up to pool3, then together (AVE+OF).

    Objects that Sound: a second copy of conv1_1 to pool3 sees the flow; conv4_1 and conv4_2 see the maps of both,
    14 x 14 x (256 + 256).

    Parameters
    ----------
    flow_channels : int
        20 in the paper: two for each of 10 fields.
    widths : sequence of 4 int
        As in `ConvTower`.
    """

    def __init__(self, flow_channels: int, widths=(64, 128, 256, 512)):
        super().__init__()
        towers = (ConvTower(channels, widths, first_stride=2) for channels in (3, flow_channels))
        self.picture, self.flow = (nn.Sequential(*list(tower.layers)[:-6]) for tower in towers)  # conv1_1 to pool3
        self.together = initialised(nn.Sequential(*conv_block(2 * widths[2], widths[3])))

    def streams(self, x: Tensor) -> Tensor:
        """Return pool3 of both streams, concatenated: (B, 2 * widths[2], H, W)."""
        picture, flow = channels_last(x[:, :3]), channels_last(x[:, 3:])
        return torch.cat([self.picture(picture), self.flow(flow)], dim=1)

    def raw(self, x: Tensor) -> Tensor:
        """Return conv4_2 before BatchNorm and ReLU, as `ConvTower.raw` does."""
        return self.together[:-2](self.streams(x))

    def blocks(self, x: Tensor) -> list[Tensor]:
        """Return the output maps of the four blocks; the first three concatenate both streams."""
        both = zip(block_maps(self.picture, x[:, :3]), block_maps(self.flow, x[:, 3:]), strict=True)
        *maps, pooled = [torch.cat(pair, dim=1) for pair in both]
        return [*maps, self.together(pooled)]

    def forward(self, x: Tensor) -> Tensor:
        """Return conv4_2 after BatchNorm and ReLU, for pictures with their flow (B, 3 + flow_channels, H, W)."""
        return self.together(self.streams(x))


def motion_tower(widths: Sequence[int]) -> ConvTower:
    """Build the tower of AVE+MF: clips (B, 3, T, H, W) through 3-D convolutions to (B, widths[3], T / 8, H, W).

    Objects that Sound says only that the convolutions are 3-D; the rest is ours. Kernels are 3 x 3 x 3. Time is halved
    together with space, by the stride of conv1_1 and by the pools: maps of all 25 frames would cost 75 times as much as
    those of a picture; this way they cost 17 times as much. The last pool doesn't halve time: of 25 frames, 3 remain by
    then (25, 13, 6, 3), so that conv4_1 and conv4_2 also see change.
    """
    return ConvTower(3, widths, first_stride=2, second_kernels=((3, 3, 3),) * 4, last_pool=(1, 2, 2))


def check_frame_count(motion: str | None, frames: int | None) -> int:
    """Return the number of frames, by default the paper's; raise ValueError for an unknown motion or invalid number."""
    if motion not in list(FRAME_COUNTS):
        raise ValueError(f"motion must be None, 'frames' or 'flow', got {motion!r}")
    usual, fewest = FRAME_COUNTS[motion]
    frames = usual if frames is None else frames
    if type(frames) is not int or not fewest <= frames <= (MOST_FRAMES if motion else 1) or frames % 2 == 0:
        possible = f"an odd number of {fewest} to {MOST_FRAMES}" if motion else "1"
        raise ValueError(f"frames must be {possible} with motion={motion!r}, got {frames!r}")
    return frames


def check_frame_rate(rate: float) -> None:
    """Raise ValueError unless the rate is a number that videos can have."""
    if not isinstance(rate, int | float) or not 0 < rate <= 1000:
        raise ValueError(f"frame_rate must be above 0 and at most 1000 frames a second, got {rate!r}")
