"""The papers' networks, one file a paper."""

from .ave import AVENet
from .l3 import L3Net

ARCHITECTURES = {"l3": L3Net, "ave": AVENet}
