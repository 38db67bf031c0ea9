"""Windows that open, or say why they cannot."""

import socket

import cv2
import numpy as np
import pytest
from sink_frames import a_frame, a_picture, record

from rtseg.core.errors import OutputError
from rtseg.sinks import window as sink_window
from rtseg.sinks.window import WindowSink, gui_available


@pytest.fixture
def on_linux(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(sink_window, "_gui", lambda: "QT5")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_no_display_is_one_line_with_the_way_on(on_linux: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match=r"there is no display .*--no-window --record out\.mp4") as caught:
        WindowSink("rtseg")
    assert "\n" not in str(caught.value)


def test_headless_opencv_is_one_line_with_the_fix(on_linux: pytest.MonkeyPatch) -> None:
    on_linux.setattr(sink_window, "_gui", lambda: "")
    with pytest.raises(OutputError, match=r"no GUI .*pip install opencv-python.*--no-window"):
        WindowSink("rtseg")


def test_a_display_that_nobody_serves_is_found_before_qt_ends_the_process(on_linux: pytest.MonkeyPatch) -> None:
    on_linux.setenv("DISPLAY", ":987")
    assert gui_available() == (False, "no X server answers at DISPLAY=:987")


def test_a_display_that_answers_is_available(on_linux: pytest.MonkeyPatch) -> None:
    with socket.socket() as server:
        for number in range(900, 990):
            try:
                server.bind(("127.0.0.1", 6000 + number))
                break
            except OSError:
                continue
        server.listen()
        on_linux.setenv("DISPLAY", f"127.0.0.1:{number}.0")
        assert gui_available() == (True, "")


def test_wayland_alone_needs_an_opencv_that_speaks_it(on_linux: pytest.MonkeyPatch) -> None:
    on_linux.setenv("WAYLAND_DISPLAY", "wayland-0")
    on_linux.setattr(sink_window, "_qt_speaks_wayland", lambda: False)
    assert "DISPLAY is not set" in gui_available()[1]
    on_linux.setattr(sink_window, "_gui", lambda: "GTK3")
    assert gui_available() == (True, "")


class FakeWindows:
    """Stands in for OpenCV's window functions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.code = -1
        self.visible = 1.0
        self.shown: list[tuple[int, ...]] = []
        self.asked_wh: tuple[int, int] | None = None
        self.destroyed = 0
        monkeypatch.setattr(sink_window, "gui_available", lambda: (True, ""))
        monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
        monkeypatch.setattr(cv2, "resizeWindow", lambda _, width, height: setattr(self, "asked_wh", (width, height)))
        monkeypatch.setattr(cv2, "imshow", lambda _, picture: self.shown.append(picture.shape))
        monkeypatch.setattr(cv2, "waitKey", lambda _: self.code)
        monkeypatch.setattr(cv2, "getWindowProperty", self.get_property)
        monkeypatch.setattr(cv2, "destroyWindow", lambda _: setattr(self, "destroyed", self.destroyed + 1))

    def get_property(self, *_: object) -> float:
        if self.visible < 0:  # like Qt when its last window is gone
            raise cv2.error("NULL guiReceiver (please create a window)")
        return self.visible


@pytest.mark.parametrize("gone", [0.0, -1.0])
def test_window_fits_the_screen_names_keys_and_notices_that_it_was_closed(
    monkeypatch: pytest.MonkeyPatch, gone: float
) -> None:
    windows = FakeWindows(monkeypatch)
    with WindowSink("rtseg", max_size_hw=(500, 1000)) as sink:
        assert sink.poll_key() is None  # nothing has been shown yet
        sink.write(a_frame(), np.zeros((1024, 2048), np.uint8), a_picture((1024, 2048)))
        assert windows.shown == [(1024, 2048, 3)]
        assert windows.asked_wh == (1000, 500)
        for code, key in ((ord("q"), "q"), (27, "esc"), (32, "space"), (ord("+"), "+"), (-1, None), (0xFFE1, None)):
            windows.code = code
            assert sink.poll_key() == key
        windows.visible = gone
        sink.poll_key()
        assert sink.closed
        sink.write(a_frame(), np.zeros((4, 4), np.uint8), a_picture())
        assert len(windows.shown) == 1
    assert windows.destroyed == 0


def test_window_is_destroyed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = FakeWindows(monkeypatch)
    sink = WindowSink("rtseg")
    record(sink, [0.0])
    sink.close()
    sink.close()
    assert windows.destroyed == 1
