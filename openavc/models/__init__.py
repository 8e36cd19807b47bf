"""The papers' networks: `l3`, `openl3`, `ave`, `avol`, `avts`, `multisensory` and what builds on it, and `pe_av`."""

from .ave import AVENet
from .avol import AVOLNet
from .avts import AVTSNet
from .avts_classifier import AVTSClassifier
from .l3 import L3Net
from .multisensory import Multisensory
from .multisensory_classifier import MultisensoryClassifier
from .openl3 import OpenL3Net, OpenL3Towers
from .pe_av import PEAV
from .separation import SeparationNet

ARCHITECTURES = {
    "l3": L3Net,
    "ave": AVENet,
    "avol": AVOLNet,
    "avts": AVTSNet,
    "avts-classifier": AVTSClassifier,
    "multisensory": Multisensory,
    "multisensory-classifier": MultisensoryClassifier,
    "separation": SeparationNet,
    "openl3": OpenL3Net,
    "openl3-towers": OpenL3Towers,
}
FOLDERS = {"pe_audio_video": PEAV}  # networks of folders in transformers' layout, by the type that config.json states
