"""The papers' networks, one file a paper; AVE-Net and AVOL-Net share theirs."""

from .ave import AVENet
from .avol import AVOLNet
from .l3 import L3Net

ARCHITECTURES = {"l3": L3Net, "ave": AVENet, "avol": AVOLNet}
