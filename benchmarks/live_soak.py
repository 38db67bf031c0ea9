"""`rtseg-cam` on a camera over HTTP that fails again and again: memory, threads, open files, and how soon it is back.

    python benchmarks/live_soak.py --minutes 30 --faults 30 --json benchmarks/results/live_soak.json

The camera sends MJPEG of street scenes on this machine. At seeded times it closes the line, is gone for some seconds,
falls silent, sends garbage, or comes back with another size. Back is who has been sent a picture again; that is counted
from when the camera works again. The network's input is small, since this is not about labels.
"""

import random
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

import av
import cv2
import numpy as np
import psutil
from cyclopts import App

from rtseg.apps._console import run
from rtseg.core.files import write_json
from rtseg.live.environment import environment
from rtseg.sources.open import open_source

app = App(help=__doc__)
FPS = 15
FAULTS = ("closes", "is gone", "is silent", "garbage", "other size")
SILENT_S = 12.0  # longer than the read timeout
EVERY_S = 1.0


@dataclass
class Camera:
    """The camera's current state and its history.

    Attributes:
        fault: the current fault, or ''.
        back_s: seconds from the end of a fault to the next sent picture, by fault.
    """

    pictures: dict[str, list[bytes]]
    fault: str = ""
    size: str = "usual"
    works_since: float | None = None
    back_s: dict[str, list[float]] = field(default_factory=dict)
    last_fault: str = ""
    line: threading.Event = field(default_factory=threading.Event)  # set: open connections are closed
    sent: int = 0

    def begin(self, fault: str) -> None:
        self.last_fault, self.works_since = fault, None
        if fault == "other size":
            self.size = "other" if self.size == "usual" else "usual"
        self.fault = fault
        self.line.set()

    def end(self) -> None:
        self.fault, self.works_since = "", perf_counter()

    def note_sent(self) -> None:
        self.sent += 1
        if self.works_since is not None and not self.fault:
            self.back_s.setdefault(self.last_fault, []).append(perf_counter() - self.works_since)
            self.works_since = None


def handler_of(camera: Camera) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            camera.line.clear()
            if camera.fault in ("is gone", "closes"):
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace;boundary=frame")
            self.end_headers()
            with suppress(OSError):
                self.stream()

        def stream(self) -> None:
            number = 0
            while True:
                if camera.fault == "is silent":
                    sleep(0.05)
                    continue
                if camera.line.is_set() and camera.fault != "garbage":
                    return
                data = camera.pictures[camera.size][number % 30]
                if camera.fault == "garbage":
                    data = np.random.default_rng(number).bytes(2000)
                head = b"\r\n--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
                self.wfile.write(head + data)
                if not camera.fault:
                    camera.note_sent()
                number += 1
                sleep(1 / FPS)

        def log_message(self, *args: object) -> None:
            pass

    return Handler


def make_pictures() -> dict[str, list[bytes]]:
    made = {}
    for name, size_hw in (("usual", (240, 320)), ("other", (180, 320))):
        with open_source("synthetic", size_hw=size_hw) as source:
            made[name] = [cv2.imencode(".jpg", next(source).image)[1].tobytes() for _ in range(30)]
    return made


def inject(camera: Camera, minutes: float, faults: int, seed: int, stopped: threading.Event) -> None:
    """Injects faults at seeded times, none in the last minute."""
    draw = random.Random(seed)
    times = sorted(draw.uniform(5, max(10.0, 60 * minutes - 60)) for _ in range(faults))
    start, free_at = perf_counter(), 0.0
    for number, at_s in enumerate(times):
        at_s = max(at_s, free_at)
        if stopped.wait(max(0.0, start + at_s - perf_counter())):
            return
        fault = FAULTS[number % len(FAULTS)]
        camera.begin(fault)
        lasts_s = {"is gone": draw.uniform(1, 8), "is silent": SILENT_S, "garbage": 2.0}.get(fault, 0.2)
        if stopped.wait(lasts_s):
            return
        camera.end()
        free_at = at_s + lasts_s + 8


def watched(process: subprocess.Popen[bytes]) -> list[tuple[float, int, int, int]]:
    """(seconds, bytes, threads, files) of a process, once a second until it ends."""
    samples, start = [], perf_counter()
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            seen = psutil.Process(process.pid)
            counted = seen.memory_info().rss, seen.num_threads(), seen.num_fds()
            samples.append((perf_counter() - start, *counted))
        sleep(EVERY_S)
    return samples


def early_and_late(samples: list[tuple[float, int, int, int]], early_s: float) -> dict[str, dict[str, float]]:
    """Medians of the last twenty samples of the first `early_s` seconds and of the whole run."""
    early = [sample for sample in samples if sample[0] <= early_s][-20:]

    def medians(place: int, unit: float = 1.0) -> dict[str, float]:
        found = {"early": early, "late": samples[-20:]}
        return {name: round(float(np.median([row[place] for row in rows])) / unit, 1) for name, rows in found.items()}

    return {"memory_mib": medians(1, 2**20), "threads": medians(2), "files": medians(3)}


@app.default
def main(
    *,
    minutes: float = 30.0,
    faults: int = 30,
    seed: int = 0,
    model: str = "enet",
    size: str = "32x64",
    json: Path | None = None,
) -> None:
    """Runs the camera and the command.

    Args:
        minutes: How long.
        faults: How many.
        seed: Of the faults.
        model: A network.
        size: The network's input.
        json: Write the figures to this file.
    """
    camera, stopped = Camera(make_pictures()), threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(camera))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with TemporaryDirectory() as name:
        recording = Path(name) / "run.mp4"
        command = [sys.executable, "-m", "rtseg.apps.cam", "--source", f"http://127.0.0.1:{server.server_port}/camera",
                   "--model", model, "--size", size, "--engine", "onnxruntime", "--no-window",
                   "--record", str(recording), "--duration", str(60 * minutes)]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        threading.Thread(target=inject, args=(camera, minutes, faults, seed, stopped), daemon=True).start()
        samples = watched(process)
        stopped.set()
        with av.open(str(recording)) as container:
            recorded = sum(1 for _ in container.decode(video=0))
    waits = [wait for found in camera.back_s.values() for wait in found]
    result = {
        "minutes": minutes,
        "faults": sum(map(len, camera.back_s.values())),
        "exit_code": process.returncode,
        **early_and_late(samples, min(300.0, 15 * minutes)),
        "back_s": {fault: {"n": len(found), "max": round(max(found), 2)} for fault, found in camera.back_s.items()},
        "back_s_max": round(max(waits), 2) if waits else None,
        "pictures_sent": camera.sent,
        "pictures_recorded": recorded,
    }
    print(result)
    if json is not None:
        write_json(json, {"environment": environment(), "seed": seed, "result": result})


if __name__ == "__main__":
    run(app)
