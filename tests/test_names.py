"""Names and words that users type or see: tildes, long names, commas, passwords, and a stdout that disappears."""

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from batch_runs import ROOT
from odd_media import Video, command, label, watch
from videos import make_video

from rtseg.apps._console import Steady, run
from rtseg.apps.cam import app as cam_app
from rtseg.core.addresses import is_badly_written, without_password
from rtseg.core.errors import InputError, OutputError, UsageError
from rtseg.core.labels import CAMVID11, LabelSet
from rtseg.core.paths import natural_key, user_path, walk
from rtseg.live.report import LoopStats
from rtseg.sinks.video import VideoSink
from rtseg.sources.open import open_source

SECRETS = [
    "rtsp://admin:secret@10.0.0.5/live",
    "rtsp://admin:pa#secret@10.0.0.5/live",
    "rtsp://admin:pa/secret@10.0.0.5/live",
    "rtsp://admin:12/secret@10.0.0.5/live",
    "rtsp://admin:pa?secret@10.0.0.5/live",
    "rtsp://admin:pa[secret@10.0.0.5/live",
    "rtsp://admin:pa@secret@10.0.0.5/live",
    "http://10.0.0.5/mjpg?user=admin&pwd=secret",
    "http://10.0.0.5/cgi?loginpas=secret&x=1",
    "http://10.0.0.5/live#access_token=secret",
    "srt://10.0.0.5:9000?passphrase=secret",
    "http://10.0.0.5/live?Signature=secret&Expires=1",
    "http://10.0.0.5/snap?usr=a&psw=secret",
    "rtsp://10.0.0.5/user=admin_password=secret_channel=1_stream=0.sdp",
    "http://proxy/mjpg?token=secret&src=rtsp://admin:secret@10.0.0.5/live",
    "http://proxy/mjpg?src=rtsp%3A%2F%2Fadmin%3Asecret%4010.0.0.5%2Flive",
    "rtsp://10.0.0.5:secret%40/live",
    "rtsp:/admin:secret@10.0.0.5/live",
    "rtsp//admin:secret@10.0.0.5/live",
    "admin:secret@10.0.0.5/live",
]


@pytest.mark.parametrize("url", SECRETS)
def test_a_password_never_appears(url: str) -> None:
    shown = without_password(url)
    assert "secret" not in shown
    assert "10.0.0.5" in shown
    assert is_badly_written(url) == any(sign in url for sign in ("pa#", "pa/", "pa?", "12/"))


@pytest.mark.parametrize(
    "url",
    ["http://10.0.0.5:8080/live?channel=1", "udp://@239.0.0.1:1234", "http://a/b@c", "http://[fe80::1]:80/live",
     "day/12:30.mp4", "C:\\clips\\a@b.mp4"],
)  # fmt: skip
def test_an_address_without_a_password_stays(url: str) -> None:
    assert without_password(url) in (url, url.replace("//@", "//"))


@pytest.mark.parametrize("url", [url.replace("10.0.0.5", "127.0.0.1:1") for url in SECRETS[:8] + SECRETS[-3:]])
def test_no_error_tells_a_password(url: str) -> None:
    with pytest.raises((InputError, UsageError)) as caught:
        open_source(url, timeout_s=1)
    assert "secret" not in str(caught.value)
    assert ("write # as %23" in str(caught.value)) == is_badly_written(url)


def test_the_batch_tells_no_password(bands: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert label("rtsp://admin:secret@10.0.0.5/live") == 2
    assert label("rtsp:/admin:secret@10.0.0.5/live") == 3
    assert "secret" not in str(capsys.readouterr())


def test_a_name_that_begins_with_a_tilde_is_a_name(bands: Path) -> None:
    for name in ("~clip.mp4", "ok.mp4"):
        Video(name).make(bands)
    assert label("ok.mp4", "~clip.mp4", "./~clip.mp4") == 0
    assert sorted(path.name for path in Path("out").glob("*.mp4")) == ["ok.mp4", "~clip.mp4"]
    assert watch("~clip.mp4") == watch("./~clip.mp4") == 0
    assert user_path("~/a") == Path.home() / "a"
    assert user_path("~nobody_of_that_name/a") == Path("~nobody_of_that_name/a")


def test_a_name_that_is_too_long_stops_only_itself(bands: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Video("ok.mp4").make(bands)
    data = Path("ok.mp4").read_bytes()
    fits, long = "n" * 240 + ".mp4", "日" * 83 + ".mp4"
    for name in (fits, long):
        Path(name).write_bytes(data)
    assert label(long, "ok.mp4", fits, save="overlay,areas,summary") == 3
    assert "its name is too long, since outputs need up to 262 bytes" in capsys.readouterr().err
    made = sorted(path.name for path in Path("out").iterdir() if not path.name.startswith("."))
    assert made == sorted(
        f"{stem}{end}" for stem in ("ok", "n" * 240) for end in (".mp4", "_areas.csv", "_summary.json")
    )


def test_a_name_that_the_system_refuses_stops_only_itself(bands: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "n" * 300
    (bands / "in").mkdir()
    Video("ok.mp4").make(bands / "in")
    assert label(f"{long}.mp4", "in/ok.mp4", f"in/{long}/*", f"{long}/a.mp4", save="areas") == 3
    assert Path("out/ok_areas.csv").is_file()
    assert watch(f"{long}.mp4") == 3
    for option in ("--record", "--json"):
        given = ["--source", "in/ok.mp4", "--no-window", option, f"{'n' * 250}.mp4" if option == "--record" else long]
        assert command(cam_app, *given) == 4
    told = capsys.readouterr().err
    assert "defect" not in told
    assert told.count("has 262 bytes and file systems take 255") == told.count("has 300 bytes") == 1


def test_class_names_with_commas_can_be_chosen() -> None:
    names = ("road", "road, route", "earth, ground", "car")
    labels = LabelSet("mine", names, ((0, 0, 0),) * 4)
    assert labels.split_names("road, route") == ("road, route",)
    assert labels.split_names("car,road, route,earth, ground") == ("car", "road, route", "earth, ground")
    assert labels.split_names("car, road") == ("car", "road")
    assert CAMVID11.split_names("car,tree, sky") == ("car", "tree", "sky")
    with pytest.raises(UsageError, match="rout"):
        labels.indices(labels.split_names("car, rout"))


def test_two_recordings_to_one_file_are_refused(tmp_path: Path) -> None:
    first = VideoSink(tmp_path / "a.mp4", (64, 96), 25)
    with pytest.raises(OutputError, match="another rtseg is recording to it"):
        VideoSink(tmp_path / "a.mp4", (64, 96), 25)
    with VideoSink(tmp_path / "b.mp4", (64, 96), 25):
        pass
    first.close()
    VideoSink(tmp_path / "a.mp4", (64, 96), 25).close()
    assert list(tmp_path.iterdir()) == []


def test_natural_order_and_folders_that_are_links(tmp_path: Path) -> None:
    names = ["a10.png", "a9.png", "a010.png", "b", "10", "9"]
    assert sorted(names, key=natural_key) == ["9", "10", "a9.png", "a010.png", "a10.png", "b"]
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "x.png").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "near").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "up").symlink_to(tmp_path)
    found = [str(folder.relative_to(tmp_path)) for folder, _, files in walk(tmp_path / "root") if "x.png" in files]
    assert found == ["root/near"]


class _Gone(io.StringIO):
    """A stream that fails like a pipe without a reader, and whose descriptor belongs to another file."""

    def __init__(self, number: int, descriptor: int) -> None:
        super().__init__()
        self._number, self._descriptor = number, descriptor

    def write(self, text: str) -> int:
        raise OSError(self._number, "gone")

    def fileno(self) -> int:
        return self._descriptor


def test_words_that_nobody_reads_are_no_defect(tmp_path: Path) -> None:
    import errno

    with (tmp_path / "a").open("w") as file:
        for number in (errno.EPIPE, errno.ENOSPC):
            assert Steady(_Gone(number, file.fileno())).write("hello") == 5
        with pytest.raises(OSError, match="gone"):
            Steady(_Gone(errno.EBADF, file.fileno())).write("hello")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_stdout_loses_no_output(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    video = make_video(tmp_path / "a.mp4", 3, (64, 96))
    arguments = ["--model", str(tiny_model), "--source", str(video), "--no-window"]
    with open("/dev/full", "w") as full, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as ended:
            run(cam_app, [*arguments, "--record", str(tmp_path / "b.mp4")])
    assert (ended.value.code, capsys.readouterr().err) == (0, "")
    assert (tmp_path / "b.mp4").stat().st_size > 0


@pytest.mark.skipif(os.name == "nt", reason="needs file descriptors of POSIX")
@pytest.mark.parametrize("number", [1, 2])
def test_a_stdout_or_stderr_that_is_closed_is_no_defect(tmp_path: Path, number: int) -> None:
    """As after a shell's `>&-`, or under a service manager: Python's stdout is None then."""
    said, environment = tmp_path / "said", {**os.environ, "PYTHONPATH": str(ROOT)}
    command = ["sh", "-c", f'exec "$@" {number}>&-', "sh", sys.executable, "-m", "rtseg.apps.main", "models"]
    with said.open("w") as file:
        done = subprocess.run(command, env=environment, stdout=file, stderr=file, timeout=120)
    assert done.returncode == 0
    assert ("icnet" in said.read_text()) == (number == 2)
    assert "Error" not in said.read_text()


def test_figures_start_anew_only_while_nobody_counts() -> None:
    stats = LoopStats()

    class Result:
        card, info, stages_s, rung, exit, held = object(), None, {}, "", "", False

        class frame:
            truth = None

    started = threading.Thread(target=stats.begin, args=(Result(),))
    with stats._lock:
        started.start()
        started.join(0.1)
        assert stats.card is None
    started.join(10)
    assert stats.card is Result.card
