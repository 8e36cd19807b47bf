"""Training and evaluation of audio-visual correspondence models; imports `openavc`, never the reverse."""

import os

PARENT = os.getppid()  # noted before torch is imported: meanwhile the parent may be killed
