"""Shows a window on the screen, through OpenCV."""

import os
import re
import socket
import sys
from pathlib import Path

import cv2
import numpy as np

from rtseg.core.advice import OPENCV_FIX
from rtseg.core.errors import OutputError
from rtseg.core.frame import Frame
from rtseg.sinks.base import Sink

_HOW_TO_GO_ON = "without a window use --no-window --record out.mp4, or --no-window --web for a page in the browser"
_NAMED_KEYS = {27: "esc", 13: "enter", 10: "enter", 32: "space", 9: "tab", 8: "backspace"}


def gui_available() -> tuple[bool, str]:
    """Whether a window can be opened here and, if not, why; does not try, since Qt ends the process on failure."""
    framework = _gui()
    if not framework:
        return False, f"this OpenCV has no GUI (opencv-python-headless is installed): {OPENCV_FIX}"
    if not sys.platform.startswith("linux"):
        return True, ""
    display, wayland = os.environ.get("DISPLAY"), os.environ.get("WAYLAND_DISPLAY")
    if display:
        return (True, "") if _x_server_answers(display) else (False, f"no X server answers at DISPLAY={display}")
    if wayland and (not framework.startswith("QT") or _qt_speaks_wayland()):
        return True, ""
    if wayland:
        return False, "this OpenCV speaks X11 only, and DISPLAY is not set: start XWayland"
    return False, "there is no display (DISPLAY and WAYLAND_DISPLAY are not set)"


def _gui() -> str:
    """The window toolkit in this build of OpenCV ('QT', 'GTK3', 'WIN32', 'COCOA'); empty if it has none."""
    match = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    return match[1] if match and match[1] != "NONE" else ""


def _qt_speaks_wayland() -> bool:
    platforms = Path(cv2.__file__).parent / "qt" / "plugins" / "platforms"
    return not platforms.is_dir() or any(platforms.glob("libqwayland*"))


def _x_server_answers(display: str) -> bool:
    """Tries to connect to the X server that DISPLAY names ([host]:number[.screen])."""
    match = re.fullmatch(r"(?:unix|([^:/]*)):(\d+)(?:\.\d+)?", display)
    if not match:
        return True  # a form that only Xlib knows, such as a launchd socket, so let it try
    host, number = match[1], int(match[2])
    unix = getattr(socket, "AF_UNIX", None)
    addresses: list[tuple[int, object]] = [(socket.AF_INET, (host or "localhost", 6000 + number))]
    if not host and unix is not None:
        path = f"/tmp/.X11-unix/X{number}"
        addresses = [(unix, "\0" + path), (unix, path), *addresses]
    for family, address in addresses:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(address)  # type: ignore[arg-type]
            except OSError:
                continue
            return True
    return False


class WindowSink(Sink):
    """Shows pictures in a window. Create, write and poll it in the main thread.

    Attributes:
        closed: the user has closed the window.
    """

    def __init__(self, title: str = "rtseg", max_size_hw: tuple[int, int] = (1080, 1920)) -> None:
        """Prepares a window that opens with the first picture, scaled down to fit `max_size_hw`.

        Raises:
            OutputError: no window can be opened here; says why and what to do instead.
        """
        ok, reason = gui_available()
        if not ok:
            raise OutputError(f"cannot open a window: {reason}; {_HOW_TO_GO_ON}")
        self.title = title
        self.closed = False
        self._max_size_hw = max_size_hw
        self._shown_hw: tuple[int, int] | None = None

    def write(self, frame: Frame, labels: np.ndarray, picture: np.ndarray) -> None:
        if self.closed:
            return
        try:
            if self._shown_hw != picture.shape[:2]:
                self._fit(picture.shape[0], picture.shape[1])
            cv2.imshow(self.title, picture)
        except cv2.error as error:
            raise OutputError(f"cannot show the window: {error.err}; {_HOW_TO_GO_ON}") from error
        self.frames += 1

    def _fit(self, height: int, width: int) -> None:
        cv2.namedWindow(self.title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        scale = min(1.0, self._max_size_hw[0] / height, self._max_size_hw[1] / width)
        cv2.resizeWindow(self.title, max(1, round(width * scale)), max(1, round(height * scale)))
        self._shown_hw = (height, width)

    def poll_key(self, delay_ms: int = 1) -> str | None:
        """Lets the window work for `delay_ms`; returns the key that was pressed ('q', '+', 'space', 'esc') or None.

        Also sets `closed` when the user has closed the window.
        """
        if self._shown_hw is None or self.closed:
            return None
        code = cv2.waitKey(max(1, delay_ms))
        self.closed = not self._visible()
        if code < 0:
            return None
        code &= 0xFF
        return _NAMED_KEYS.get(code, chr(code) if 33 <= code < 127 else None)

    def _visible(self) -> bool:
        try:
            return cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:  # raised by Qt once the user has closed the last window
            return False

    def close(self, complete: bool = True) -> None:
        if self._shown_hw is not None and not self.closed and self._visible():
            cv2.destroyWindow(self.title)
            cv2.waitKey(1)  # some window systems close it only while handling events
        self.closed = True
