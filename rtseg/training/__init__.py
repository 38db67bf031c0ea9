"""Training (torch): from a configuration to the run's best weights."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # importing it would check the network for a newer version
