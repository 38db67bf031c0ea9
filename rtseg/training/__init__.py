"""Training (torch): augmentation, losses, the run from a configuration to its best weights."""
