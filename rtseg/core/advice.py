"""Advice that several errors share."""

OPENCV_FIX = (
    "pip uninstall -y opencv-python opencv-python-headless opencv-contrib-python-headless && pip install opencv-python"
)
"""albumentations installs the headless build of OpenCV, whose files replace those of the full one."""
