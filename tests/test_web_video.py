"""The video beside a running loop: what each viewer gets over a WebSocket, and all ways in which it ends."""

import asyncio
import socket
from contextlib import ExitStack
from io import BytesIO
from time import sleep

import av
import numpy as np
import pytest
from fakes import loop_threads
from test_loop import wait_until
from test_web import Run, grey
from waits import HANGS_S
from web_clients import VideoViewer, Viewer, serving
from websockets.exceptions import InvalidStatus

from rtseg.live.painter import Painter
from rtseg.live.views.browser import pages, watching
from rtseg.live.views.browser import server as server_module
from rtseg.live.views.browser.encoding import Encoding, MovingEncoder, Picture
from rtseg.live.views.browser.guard import SECURITY_HEADERS, Rates
from rtseg.live.views.browser.watching import Pace


@pytest.fixture(autouse=True)
def _leaves_no_thread():
    before = loop_threads()
    yield
    assert loop_threads() == before


@pytest.fixture(autouse=True)
def _keys_at_once(monkeypatch):
    monkeypatch.setattr(server_module, "_KEYS_APART_S", 0.0)


@pytest.fixture
def encoded(monkeypatch):
    """(index, whether a key frame was forced) of each encoded picture."""
    calls, plain = [], MovingEncoder.__call__

    def counted(self, picture, anew):
        calls.append((picture.index, anew))
        return plain(self, picture, anew)

    monkeypatch.setattr(MovingEncoder, "__call__", counted)
    return calls


def means(*parts):
    """Mean values of a video's pictures."""
    with av.open(BytesIO(b"".join(parts))) as container:
        return [frame.to_ndarray(format="bgr24").mean() for frame in container.decode(video=0)]


def is_key(fragment):
    """According to its sample's flags, which end the `moof`."""
    return fragment[96:100] == b"\x02\x00\x00\x00"


def test_a_viewer_gets_a_head_and_then_each_picture_with_its_index_and_time():
    with serving() as (server, _), VideoViewer(server.port) as viewer:
        fragments = []
        for index in range(4):
            server.offer(index, 100.0 + index, grey(60 * index))
            fragment, about = viewer.picture()
            fragments.append(fragment)
            assert (about["frame"], about["captured_at"], about["number"]) == (index, 100.0 + index, index + 1)
        ((codec, head),) = viewer.heads
    assert codec.startswith("avc1.")
    assert means(head, *fragments) == pytest.approx([0, 60, 120, 180], abs=3)
    assert [is_key(fragment) for fragment in fragments] == [True, False, False, False]


def test_a_picture_is_encoded_once_for_all_and_only_while_somebody_watches(encoded):
    with serving() as (server, _):
        for index in range(3):
            server.offer(index, 0.0, grey(index))
        with Viewer(server.port) as other:  # of JPEG pictures
            other.picture()
            assert encoded == []
            with VideoViewer(server.port) as first:
                first.picture()
                with VideoViewer(server.port) as second:
                    assert second.picture()[1]["frame"] == 2  # still the newest, and a key frame
                    server.offer(3, 0.0, grey(3))
                    assert [viewer.picture()[1]["frame"] for viewer in (first, second)] == [3, 3]
            assert encoded == [(2, True), (3, False)]
        wait_until(lambda: server._video.made.followers == 0)
        server.offer(4, 0.0, grey(4))
        assert encoded[2:] == []


def test_who_comes_later_begins_at_a_key_frame():
    with serving() as (server, _), VideoViewer(server.port) as first:
        for index in range(3):
            server.offer(index, 0.0, grey(50 * index))
            assert is_key(first.picture()[0]) == (index == 0)
        with VideoViewer(server.port) as later:
            fragment, about = later.picture()  # even if no newer picture comes, as in a pause
            assert (is_key(fragment), about["frame"]) == (True, 2)
            server.offer(3, 0.0, grey(150))
            follows, about = later.picture()
            assert (is_key(follows), about["frame"]) == (False, 3)
            assert means(later.heads[0][1], fragment, follows) == pytest.approx([100, 150], abs=3)
        assert [first.picture()[1]["frame"] for _ in range(2)] == [2, 3]  # and misses nothing
        assert len(first.heads) == 1


def test_who_does_not_say_that_it_has_a_picture_gets_fewer_and_goes_on_at_a_new_key_frame(monkeypatch):
    monkeypatch.setattr(watching, "_FIRST_S", 0.0)
    monkeypatch.setattr(watching, "_LATE_S", 0.0)  # late as soon as one picture is on the way
    with serving() as (server, _), VideoViewer(server.port, answers=False) as slow, VideoViewer(server.port) as fast:
        server.offer(0, 0.0, grey(0))
        begun, about = slow.picture()
        fast_frames = [fast.picture()[1]["frame"]]
        for index in range(1, 6):
            server.offer(index, 0.0, grey(40 * index))
            while fast_frames[-1] < index:
                fast_frames.append(fast.picture()[1]["frame"])
        slow.send(str(about["number"]))
        fragment, about = slow.picture()
        assert (about["frame"], is_key(fragment)) == (5, True)  # the newest, and none before it
        assert means(slow.heads[0][1], begun, fragment) == pytest.approx([0, 200], abs=3)
    assert sorted(set(fast_frames)) == [0, 1, 2, 3, 4, 5]


def test_another_size_begins_another_video_for_all():
    with serving() as (server, _), VideoViewer(server.port) as viewer:
        for index, size_hw in enumerate([(16, 16), (16, 16), (32, 48), (32, 48)]):
            server.offer(index, 0.0, grey(10, size_hw))
            fragment, about = viewer.picture()
            assert (about["frame"], is_key(fragment)) == (index, index in (0, 2))
            with av.open(BytesIO(viewer.heads[-1][1] + fragment)) as container:
                stream = container.streams.video[0]
                assert (stream.height, stream.width) == size_hw
        assert len(viewer.heads) == 2


def test_a_held_picture_is_drawn_again_for_who_watches(tmp_path):
    painter = Painter(opacity=0.0, legend=False, hud=False)
    with Run(tmp_path, painter=painter) as run:
        wait_until(lambda: run.loop.stats.frames > 0)
        run.ask(name="pause", value=True)
        with VideoViewer(run.port) as viewer:
            fragment, first = viewer.picture()
            fragments, told = [viewer.heads[0][1], fragment], [first]
            run.ask(name="opacity", value=1.0)
            shown = means(*fragments)
            while abs(shown[-1] - shown[0]) < 5:  # the pause itself may redraw it, too
                fragment, about = viewer.picture()
                fragments.append(fragment)
                told.append(about)
                shown = means(*fragments)
        assert {about["frame"] for about in told} == {first["frame"]}
        times = [about["time"] for about in told]
        assert times == sorted(set(times))
    assert run.error is None


@pytest.mark.parametrize("way", ["close", "vanish"])
def test_a_viewer_that_leaves_leaves_nothing_behind(way):
    with serving() as (server, _):
        for index in range(3):
            with VideoViewer(server.port) as viewer:
                server.offer(index, 0.0, grey(index))
                viewer.picture()
                getattr(viewer, way)()
                wait_until(lambda: server._video.made.followers == 0)
        wait_until(lambda: not server._uvicorn.server_state.connections)
        wait_until(lambda: not server._uvicorn.server_state.tasks)


@pytest.mark.parametrize("answer", ["2", "0", "-1", "x", "", "9" * 60, "1e0", b"1"])
def test_who_answers_with_anything_else_is_cut(answer):
    with serving() as (server, _), VideoViewer(server.port, answers=False) as viewer:
        server.offer(0, 0.0, grey(0))
        viewer.picture()
        viewer.send(answer)
        assert viewer.end() == (1008, "answer each picture with its number")
        wait_until(lambda: server._video.made.followers == 0)


def test_who_says_too_much_is_cut():
    with serving() as (server, _), VideoViewer(server.port) as viewer:
        viewer.send("1" * 65)
        assert viewer.end()[0] == 1009


def test_a_picture_that_is_no_video_ends_the_video_with_its_reason_and_nothing_else():
    wide = np.zeros((16, 20_000, 3), np.uint8)  # a JPEG may have 65500 columns
    with serving() as (server, _), VideoViewer(server.port) as viewer, Viewer(server.port) as other:
        server.offer(0, 0.0, wide)
        code, reason = viewer.end()
        assert code == 4000
        assert reason.startswith("pictures of 16x20000 cannot be encoded as H.264: ")
        assert other.picture()[2].shape == wide.shape
    assert server.error is None


def test_it_is_not_cut_for_saying_nothing(monkeypatch):
    """Like the connection of a request that never arrives."""
    monkeypatch.setattr(server_module, "_IDLE_S", 0.05)
    with serving() as (server, _), VideoViewer(server.port) as viewer:
        sleep(0.2)
        server.offer(0, 0.0, grey(0))
        assert viewer.picture()[1]["frame"] == 0


def test_it_ends_with_the_server_also_beside_who_does_not_read():
    with serving() as (server, _), ExitStack() as stack:
        viewers = [stack.enter_context(VideoViewer(server.port)) for _ in range(2)]
        server.offer(0, 0.0, np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8))
        viewers[0].picture()
        server.close()
        assert viewers[0].end() is None  # cut


# Who may watch: the same rules as for requests (test_web_guard.py)


def refused(port, headers=None, **options):
    """(status, headers, text) of a refusal."""
    with pytest.raises(InvalidStatus) as caught:
        VideoViewer(port, additional_headers=headers or {}, **options)
    answer = caught.value.response
    return answer.status_code, answer.headers, answer.body.decode()


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://evil.example", 403), ("null", 403), ("http://127.0.0.1:1", 403), ("https://127.0.0.1:{port}", 403)],
)
def test_another_page_cannot_watch(origin, status):
    """Browsers let any page open a WebSocket to anywhere: only its Origin tells."""
    with serving() as (server, _):
        answer = refused(server.port, origin=origin.format(port=server.port))
        assert answer[0] == status
        assert "another page asked" in answer[2]
        assert {name: answer[1][name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
        VideoViewer(server.port, origin=f"http://127.0.0.1:{server.port}").close()


def test_another_name_cannot_watch():
    """DNS rebinding."""
    with serving() as (server, _), socket.create_connection(("127.0.0.1", server.port), timeout=HANGS_S) as asked:
        lines = ["GET /video HTTP/1.1", "Host: evil.example", "Origin: http://evil.example", "Upgrade: websocket",
                 "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {'A' * 22}=="]  # fmt: skip
        asked.sendall("\r\n".join([*lines, "", ""]).encode())
        assert asked.recv(12) == b"HTTP/1.1 421"


def test_without_the_token_nobody_watches():
    with serving("0.0.0.0") as (server, listener):
        port, token = server.port, listener.token
        for cookie in ("", f"rtseg-{port}={token[::-1]}", f"rtseg-{port + 1}={token}"):
            assert refused(port, {"Cookie": cookie})[0] == 401
        VideoViewer(port, additional_headers={"Cookie": f"rtseg-{port}={token}"}).close()


def test_limits(monkeypatch):
    monkeypatch.setattr(pages, "MOST_VIEWERS", 2)
    with serving() as (server, _):
        assert refused(server.port, {f"X-{number}": "x" * 1500 for number in range(11)})[0] == 431
        assert refused(server.port, {"X-Long": "x" * 9000})[0] == 400
        with VideoViewer(server.port), VideoViewer(server.port):
            wait_until(lambda: server._video.made.followers == 2)
            assert refused(server.port)[::2] == (503, "too many viewers: close one\n")
    with serving(rates=Rates(1, lambda: 0.0)) as (server, _), VideoViewer(server.port):
        assert refused(server.port)[0] == 429


# Parts


def test_a_reader_is_late_by_what_it_takes_longer_than_at_best():
    now, pace = 0.0, None
    pace = Pace(lambda: now)
    assert not pace.is_late
    pace.sent(1)
    now = 1.3
    assert not pace.is_late  # no answer yet: it may be far away
    pace.acknowledge(1)
    pace.sent(2)
    now = 1.5
    pace.acknowledge(2)  # a round trip of 0.2 s
    for number in (3, 4):
        pace.sent(number)
    now = 1.99
    assert not pace.is_late
    now = 2.01
    assert pace.is_late
    pace.acknowledge(3)
    assert pace.is_late
    pace.acknowledge(4)
    assert not pace.is_late
    with pytest.raises(ValueError, match="5 is not what was sent"):
        pace.acknowledge(5)


def test_key_frames_that_are_asked_for_are_apart():
    async def times():
        encoding = Encoding("rtseg-web-test", lambda picture, anew: anew, anew_s=3600.0)
        with encoding.made.followed():
            running = asyncio.create_task(encoding.run())
            encoding.offer(Picture(0, 0.0, grey(0)))
            encoding.wake()
            made = encoding.made.follow()
            assert await anext(made)  # the very first
            encoding.ask_anew()
            assert await anext(made)  # the same picture again
            before = asyncio.get_running_loop().time()
            encoding.ask_anew()
            encoding.ask_anew()
            encoding.offer(Picture(1, 0.0, grey(1)))
            encoding.wake()
            assert not await anext(made)
            running.cancel()
            waits = encoding._timer.when() - before
            encoding._timer.cancel()
        encoding.close()
        return waits

    assert 3500 < asyncio.run(times()) <= 3600


def test_a_key_frame_comes_at_least_every_other_second(monkeypatch):
    now = 1000.0
    monkeypatch.setattr("rtseg.live.views.browser.encoding.perf_counter", lambda: now)
    encoder, keys = MovingEncoder(), []
    for index in range(9):
        now = 1000 + 0.5 * index
        made = encoder(Picture(index, 0.0, grey(index)), False)
        assert made.fragment.time_s == pytest.approx(now, abs=1e-4)
        keys.append(made.number if made.number == made.key else 0)
    assert keys == [1, 0, 0, 0, 5, 0, 0, 0, 9]
