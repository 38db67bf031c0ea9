"""Advice that more than one error gives."""

OPENCV_FIX = (
    "pip uninstall -y opencv-python opencv-python-headless opencv-contrib-python-headless && pip install opencv-python"
)
"""albumentations brings the headless build, whose files replace those of the full one."""
