"""The page beside a running loop: pictures, events, commands, several viewers, and all ways in which it ends."""

import random
import socket
import threading
from functools import partial
from time import perf_counter

import numpy as np
import pytest
from fakes import FakeEngine, FakeSource, fake_artifact, fake_segmenter, loop_threads
from test_loop import wait_until
from waits import HANGS_S
from web_clients import Viewer, request, serving

from rtseg.core.errors import EngineError
from rtseg.core.labels import CAMVID11, LabelSet
from rtseg.core.runspec import RunSpec
from rtseg.live.loop import Loop
from rtseg.live.painter import Painter
from rtseg.live.segmenter import Segmenter
from rtseg.live.views.browser import outlet as outlet_module
from rtseg.live.views.browser import server as server_module
from rtseg.live.views.browser.address import Address
from rtseg.live.views.browser.guard import Rates
from rtseg.live.views.browser.outlet import BrowserOutlet
from rtseg.live.views.desk import Desk
from rtseg.live.views.view import DeskView
from rtseg.sinks.video import VideoSink


@pytest.fixture(autouse=True)
def _leaves_no_thread():
    yield
    assert loop_threads() == []


@pytest.fixture
def encoded(monkeypatch):
    """The indices of encoded frames, one entry per encoding."""
    indices, plain = [], server_module.encode_jpeg

    def counted(picture, anew):
        indices.append(picture.index)
        return plain(picture, anew)

    monkeypatch.setattr(server_module, "encode_jpeg", counted)
    return indices


def grey(value, size_hw=(16, 16)):
    return np.full((*size_hw, 3), value, np.uint8)


def noise(size_hw=(480, 640)):
    return np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)  # JPEG of 200 KB


def test_a_part_is_the_picture_with_its_index_and_time():
    with serving() as (server, _), Viewer(server.port) as viewer:
        server.offer(7, 123.25, grey(77))
        index, captured_at, picture = viewer.picture()
    assert (index, captured_at, picture.shape) == (7, 123.25, (16, 16, 3))
    assert np.abs(picture.astype(int) - 77).max() <= 1


def test_a_picture_is_encoded_once_for_all_and_only_while_somebody_watches(encoded):
    with serving() as (server, _):
        for index in range(5):
            server.offer(index, 0.0, grey(index))
        with Viewer(server.port) as first, Viewer(server.port) as second, Viewer(server.port) as third:
            assert [viewer.picture()[0] for viewer in (first, second, third)] == [4, 4, 4]
            server.offer(5, 0.0, grey(5))
            assert [viewer.picture()[0] for viewer in (first, second, third)] == [5, 5, 5]
        assert encoded == [4, 5]
        wait_until(lambda: server._pictures.made.followers == 0)
        server.offer(6, 0.0, grey(6))
        with Viewer(server.port) as later:
            assert later.picture()[0] == 6  # not the one encoded for viewers who left
    assert encoded == [4, 5, 6]


def test_a_slow_viewer_gets_fewer_pictures_and_the_newest_last():
    picture, count = noise(), 40
    with serving() as (server, _), Viewer(server.port, receive_buffer=1 << 15) as slow, Viewer(server.port) as fast:
        for index in range(count):
            server.offer(index, 0.0, picture)
            assert fast.picture()[0] == index  # it misses none, however slow the other is
        got = [slow.picture()[0]]
        while got[-1] < count - 1:
            got.append(slow.picture()[0])
    assert got == sorted(set(got))
    assert len(got) <= 8  # what the buffers hold, and the newest


def test_the_encoder_goes_on_with_the_newest(monkeypatch):
    """New pictures replace those waiting while it is busy: there is one slot."""
    begun, free, done = threading.Event(), threading.Event(), []

    def slow(picture, anew, plain=server_module.encode_jpeg):
        begun.set()
        assert free.wait(HANGS_S)
        done.append(picture.index)
        return plain(picture, anew)

    monkeypatch.setattr(server_module, "encode_jpeg", slow)
    with serving() as (server, _), Viewer(server.port) as viewer:
        server.offer(0, 0.0, grey(0))
        assert begun.wait(HANGS_S)
        for index in range(1, 10):
            server.offer(index, 0.0, grey(index))
        free.set()
        assert [viewer.picture()[0], viewer.picture()[0]] == [0, 9]
    assert done == [0, 9]


def test_the_clock_is_the_one_of_the_capture_times():
    with serving() as (server, _):
        before = perf_counter()
        now = float(request(server.port, path="/clock")[2][7:-1])
        assert before <= now <= perf_counter()


@pytest.mark.parametrize("path", ["/stream.mjpg", "/events"])
def test_a_client_that_vanishes_leaves_nothing_behind(path):
    with serving() as (server, _):
        slot = server._pictures.made if path == "/stream.mjpg" else server._states
        for _ in range(3):
            viewer = Viewer(server.port, path)
            wait_until(lambda: slot.followers == 1)
            viewer.close()
            wait_until(lambda: slot.followers == 0)
        wait_until(lambda: not server._uvicorn.server_state.connections)
        assert not server._uvicorn.server_state.tasks


def test_a_client_that_vanishes_in_the_middle_of_a_picture():
    with serving() as (server, _):
        viewer = Viewer(server.port, receive_buffer=1 << 12)
        for index in range(3):
            server.offer(index, 0.0, noise((1080, 1920)))
        viewer._socket.recv(1000)
        viewer.close()
        wait_until(lambda: server._pictures.made.followers == 0)


def test_a_head_request_follows_nothing():
    with serving() as (server, _):
        status, headers, body = request(server.port, "HEAD", "/stream.mjpg")
        assert (status, body, server._pictures.made.followers) == (200, b"", 0)
        assert headers["Content-Type"].startswith("multipart/x-mixed-replace")


class Run:
    """A loop with a page, in its own thread."""

    def __init__(self, folder, source=None, engine=None, open_labeller=None, painter=None):
        self.outlet = BrowserOutlet(Address())
        self.port = int(self.outlet.url.rsplit(":", 1)[1].strip("/"))
        self.painter = painter or Painter(hud=False)
        self.desk = Desk(self.painter, self._record, ["fake", "other"], open_labeller, RunSpec("fake"), folder=folder)
        self.source = source or FakeSource(None, delay_s=0.002)
        self.view = DeskView(self.desk, [self.outlet])
        segmenter = engine if isinstance(engine, Segmenter) else Segmenter(engine or FakeEngine())
        self.loop = Loop(self.source, segmenter, draw=self.painter, view=self.view)
        self.report = self.error = None
        self.thread = threading.Thread(target=self._run)

    def _record(self, path):
        return VideoSink(path, self.source.size_hw, 30.0, threads=1)

    def _run(self):
        try:
            self.report = self.loop.run()
        except BaseException as error:
            self.error = error
        finally:
            self.view.close()

    def ask(self, **command):
        """(status, error) of a command."""
        status, _, body = request(self.port, "POST", "/control", body=command)
        return status, body.decode().removeprefix('{"error":"').removesuffix('"}')

    def state(self):
        """name -> the page's data on a control."""
        with Viewer(self.port, "/events") as events:
            return {control["name"]: control for control in events.event("controls")[1]["controls"]}

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.loop.stop()
        self.thread.join()


def test_the_loop_s_pictures_come_in_order(tmp_path):
    with Run(tmp_path, painter=Painter(opacity=0.0, legend=False, hud=False)) as run, Viewer(run.port) as viewer:
        seen = [viewer.picture() for _ in range(10)]
    indices, times = [index for index, _, _ in seen], [captured_at for _, captured_at, _ in seen]
    assert indices == sorted(set(indices))
    assert times == sorted(times)
    for index, _, picture in seen:
        assert picture.shape == (64, 96, 3)
        assert np.abs(picture.astype(int) - index % 11).max() <= 1
    assert run.error is None


def test_events_tell_figures_controls_and_notes(tmp_path):
    with Run(tmp_path) as run, Viewer(run.port, "/events") as events:
        topics = dict(events.event() for _ in range(3))
        assert set(topics) == {"figures", "controls", "note"}
        assert [chart["name"] for chart in topics["figures"]["charts"]] == ["fps", "latency"]
        assert topics["figures"]["facts"]["Source"] == "fake source"
        assert run.ask(name="opacity", value=0.8) == (200, "{}")
        note = events.event("note")[1]
        assert (note["text"], note["is_error"]) == ("opacity 0.8", False)


def test_nothing_is_told_while_nobody_listens(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(outlet_module, "_state", lambda desk, loop: told.append(1) or {"x": "1"})
    with Run(tmp_path) as run:
        wait_until(lambda: run.loop.stats.frames > 20)
        assert told == []
        with Viewer(run.port, "/events") as events:
            assert events.event() == ("x", 1)


def test_classes_that_are_chosen_in_a_pause_are_those_of_the_network_that_comes(tmp_path):
    """The held picture is the old network's, which has none of them: it is drawn without, and the run continues."""
    other = LabelSet("other", tuple(f"c{number}" for number in range(11)), CAMVID11.palette_rgb)
    engine = FakeEngine(fake_artifact(labels=other))
    with Run(tmp_path, open_labeller=lambda spec, size_hw: Segmenter(engine)) as run:
        wait_until(lambda: run.loop.stats.frames > 0)
        assert run.ask(name="pause", value=True) == (200, "{}")
        assert run.ask(name="network", value="other") == (200, "{}")
        wait_until(lambda: run.state()["network"]["value"] == "other")
        assert list(run.state()["classes"]["options"]) == list(other.names)
        assert run.ask(name="classes", value=["car"])[0] == 400
        assert run.ask(name="classes", value=["c1"]) == (200, "{}")
        assert run.ask(name="pause", value=False) == (200, "{}")
        wait_until(lambda: run.error or (run.loop.stats.card and run.loop.stats.card.labels == other))
        assert run.painter.show == ["c1"]
    assert run.error is None


def test_every_control_acts_on_the_loop(tmp_path):
    with Run(tmp_path) as run:
        wait_until(lambda: run.loop.stats.frames > 0)
        assert run.ask(name="opacity", value=0.25) == (200, "{}")
        assert run.painter.opacity == 0.25
        assert run.ask(name="split", value=True) == (200, "{}")
        assert run.painter.split is True
        assert run.ask(name="legend", value=False) == (200, "{}")
        assert run.ask(name="hud", value=True) == (200, "{}")
        assert (run.painter.legend, run.painter.hud) == (False, True)
        assert run.ask(name="classes", value=["car", "sky"]) == (200, "{}")
        assert run.painter.show == ["sky", "car"]
        assert run.state()["classes"]["value"] == ["sky", "car"]
        assert run.ask(name="classes", value=list(run.state()["classes"]["options"])) == (200, "{}")
        assert run.painter.show is None
        assert run.ask(key="v") == (200, "{}")
        assert run.painter.split is False
        assert run.ask(name="snapshot", value=None) == (200, "{}")
        assert [path.suffix for path in run.desk.saved] == [".png"]
        assert [path.parent for path in run.desk.saved] == [tmp_path]
        assert run.ask(name="record", value=True) == (200, "{}")
        frames = run.loop.stats.frames
        wait_until(lambda: run.loop.stats.frames > frames + 5)
        assert run.ask(name="record", value=False) == (200, "{}")
        wait_until(lambda: len(run.desk.saved) == 2)
        assert {path.suffix for path in run.desk.saved} == {".png", ".mp4"}
        assert run.ask(name="pause", value=True) == (200, "{}")
        assert run.loop.paused
        assert run.state()["pause"]["value"] is True
        assert run.ask(key="space") == (200, "{}")
        assert not run.loop.paused


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ({"name": "opacity", "value": 7}, "a number from 0 to 1, not 7"),
        ({"name": "quit", "value": None}, "unknown control 'quit'"),
        ({"name": "snapshot", "value": "../../x.png"}, "snapshot takes no value"),
        ({"name": "record", "value": "/etc/x.mp4"}, "true or false"),
        ({"name": "network", "value": "/etc/passwd"}, "unknown network"),
        ({"name": "classes", "value": ["cart"]}, "did you mean car"),
        ({"name": "opacity"}, "a command is"),
        ({}, "a command is"),
        ({"key": "v", "name": "split"}, "a command is"),
    ],
)
def test_a_command_that_cannot_be_done_says_why_and_the_loop_goes_on(tmp_path, command, words):
    with Run(tmp_path) as run:
        wait_until(lambda: run.loop.stats.frames > 0)
        status, error = run.ask(**command)
        assert status == 400
        assert words in error.replace('\\"', '"')
        frames = run.loop.stats.frames
        wait_until(lambda: run.loop.stats.frames > frames)
    assert run.error is None
    assert list(tmp_path.iterdir()) == []


def test_no_command_ends_the_loop(tmp_path, monkeypatch):
    """Two hundred random ones, most of them invalid."""
    monkeypatch.setattr(server_module, "Rates", partial(Rates, burst=1e9))

    def open_labeller(spec, frame_hw):
        raise EngineError("not now")

    draw = random.Random(0)
    values = [None, True, False, 0, 1, -1, 0.5, 1e308, -0.0, 10**400, "", "auto", "fake", "\ud800", "x" * 2000, [],
              ["car"], [[]], [None], {}, {"a": 1}, ["sky"] * 100]  # fmt: skip
    with Run(tmp_path, open_labeller=open_labeller) as run:
        wait_until(lambda: run.loop.stats.frames > 0)
        names = [name for name in run.state() if name != "record"]
        for _ in range(200):
            fields = {"name": draw.choice([*names, *values]), "value": draw.choice(values), "key": draw.choice(values)}
            command = {field: fields[field] for field in draw.choice([("name", "value"), ("key",), tuple(fields)])}
            assert run.ask(**command)[0] in (200, 400)
        run.ask(name="pause", value=False)
        frames = run.loop.stats.frames
        wait_until(lambda: run.loop.stats.frames > frames)


def test_a_held_picture_is_drawn_again_for_those_who_watch(tmp_path):
    """Also for a viewer who connects during the pause."""
    painter = Painter(opacity=0.0, legend=False, hud=False)
    with Run(tmp_path, painter=painter) as run:
        wait_until(lambda: run.loop.stats.frames > 0)
        run.ask(name="pause", value=True)
        with Viewer(run.port) as viewer:
            index, _, before = viewer.picture()
            run.ask(name="opacity", value=1.0)
            again, _, after = viewer.picture()
        assert again == index
        assert np.abs(before.astype(int) - index % 11).max() <= 1
        assert np.abs(after.astype(int) - before).max() > 20


def test_a_command_that_the_loop_does_not_take_in_time(monkeypatch):
    monkeypatch.setattr(server_module, "_ANSWER_S", 0.01)
    with serving() as (server, _):
        assert request(server.port, "POST", "/control", body={"key": "v"})[0] == 503
        assert server.commands.get_nowait().done.cancelled()  # and is not run later, when nobody expects it


def test_a_command_that_waits_when_the_server_ends(capfd):
    with serving() as (server, _):
        sent = socket.create_connection(("127.0.0.1", server.port), timeout=HANGS_S)
        lines = ["POST /control HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", "Content-Length: 13"]
        sent.sendall("\r\n".join([*lines, "", '{"key": "v"}\n']).encode())
        wait_until(lambda: not server.commands.empty())
    sent.close()
    assert server.error is None
    assert capfd.readouterr().err == ""


def test_commands_that_wait_are_limited(monkeypatch):
    monkeypatch.setattr(server_module, "_MOST_WAITING", 1)
    with serving() as (server, _):
        waiting = threading.Thread(target=request, args=(server.port, "POST", "/control", None, {"key": "v"}))
        waiting.start()
        wait_until(server.commands.full)
        assert request(server.port, "POST", "/control", body={"key": "v"})[0] == 503
        server.commands.get_nowait().done.set_result(None)
        waiting.join()


def test_another_network_is_warm_before_it_takes_over_and_no_frame_is_lost(tmp_path):
    loading, ready, made = threading.Event(), threading.Event(), []

    def open_labeller(spec, frame_hw):
        loading.set()
        assert ready.wait(HANGS_S)
        labeller = fake_segmenter(made)
        labeller.prepare(frame_hw)
        return labeller

    first = FakeEngine()
    with Run(tmp_path, engine=first, open_labeller=open_labeller) as run:
        shown, plain = [], run.outlet.show
        run.outlet.show = lambda result, picture: (shown.append((result.frame.index, result.info.engine, len(made))),
                                                   plain(result, picture))  # fmt: skip
        wait_until(lambda: run.loop.stats.frames > 3)
        assert run.ask(name="network", value="other") == (200, "{}")
        assert loading.wait(HANGS_S)
        assert run.state()["network"]["value"] == "fake"
        assert run.ask(name="engine", value="auto") == (200, "{}")  # it has that value already
        assert "still being loaded" in run.ask(name="precision", value="fp32")[1]
        calls = first.calls
        wait_until(lambda: first.calls > calls + 5)  # meanwhile the loop runs on
        ready.set()
        wait_until(lambda: made and made[0].calls > 5)
        assert run.state()["network"]["value"] == "other"
        wait_until(lambda: first.released)
    assert [index for index, _, _ in shown] == list(range(shown[0][0], shown[-1][0] + 1))
    assert first.calls + made[0].calls - 1 >= len(shown)  # one of the second's was the warm-up
    assert run.error is None
    assert made[0].released


def test_a_network_that_cannot_be_loaded_is_told_and_the_old_one_runs_on(tmp_path):
    def open_labeller(spec, frame_hw):
        raise EngineError(f"no {spec.model} with {spec.precision}")

    with Run(tmp_path, open_labeller=open_labeller) as run, Viewer(run.port, "/events") as events:
        wait_until(lambda: run.loop.stats.frames > 0)
        run.ask(name="precision", value="int8")
        note = events.event("note")[1]
        while not note["is_error"]:
            note = events.event("note")[1]
        assert note["text"] == "no fake with int8"
        assert run.state()["precision"]["value"] == "auto"
        frames = run.loop.stats.frames
        wait_until(lambda: run.loop.stats.frames > frames)


def test_the_end_of_the_source_ends_the_streams(tmp_path):
    gate = threading.Event()
    with Run(tmp_path, source=FakeSource(10, gates={9: gate})) as run, Viewer(run.port) as viewer:
        viewer.picture()
        gate.set()
        viewer.read_to_end()
        run.thread.join()
        assert run.report.frames == 10


def test_a_stage_that_fails_ends_the_server_with_its_error(tmp_path):
    failed = EngineError("out of memory")
    with Run(tmp_path, engine=FakeEngine(fail_at=5, error=failed)) as run:
        run.thread.join()
        assert run.error is failed


def test_a_server_that_dies_ends_the_loop_with_its_error(tmp_path):
    with Run(tmp_path) as run:
        wait_until(lambda: run.loop.stats.frames > 0)
        run.outlet._server.error = failed = RuntimeError("server")
        run.thread.join()
        assert run.error is failed


def test_it_ends_beside_clients_that_hang_about():
    with serving() as (server, _):
        viewers = [Viewer(server.port, path) for path in ("/stream.mjpg", "/events", "/stream.mjpg")]
        server.offer(0, 0.0, noise((1080, 1920)))  # more than the buffers hold: one is stuck in the middle
        assert viewers[0].picture()[0] == 0
    assert loop_threads() == []
    for viewer in viewers:
        viewer.close()
