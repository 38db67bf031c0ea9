"""Training (torch): augmentation, losses, the run from a configuration to its best weights."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the network for a newer version
