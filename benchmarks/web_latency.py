"""How old a picture is when a viewer of `rtseg-cam --web` has it, and what viewers cost the loop.

    python benchmarks/web_latency.py --json benchmarks/results/web_latency.json

The source is live and writes its frame's number into the picture, as black and white squares. Viewers are processes of
their own that follow the JPEG pictures or the video, decode each picture and read the number; where Chromium and
playwright are installed, one is a real browser whose canvas or video element is read after each animation frame. Age is
the time between the capture of that number, as the source noted it, and the moment it was read. All clocks are one:
CLOCK_MONOTONIC (the browser's is compared with it through the page's own `/clock`).
"""

import os
import statistics
import sys
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from time import perf_counter, sleep
from typing import Any, Literal

import numpy as np
from cyclopts import App, Parameter
from web_viewers import BITS, browser_path, follow, follow_in_browser, write_number

from rtseg.apps._console import run
from rtseg.core.files import write_json
from rtseg.core.frame import Frame
from rtseg.core.runspec import RunSpec
from rtseg.core.sizes import Size, parse_size
from rtseg.live.environment import environment
from rtseg.live.loop import Loop
from rtseg.live.painter import Painter
from rtseg.live.policies import Newest
from rtseg.live.segmenter import Segmenter
from rtseg.live.views.browser.address import Address
from rtseg.live.views.browser.outlet import BrowserOutlet
from rtseg.live.views.desk import Desk
from rtseg.live.views.view import DeskView
from rtseg.pictures.resize import limit_threads
from rtseg.scenes import StreetScene
from rtseg.sources.base import Source

app = App(help=__doc__, default_parameter=Parameter(consume_multiple=True, negative=""))
WARM_UP_S = 3.0


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options:
    """What is measured.

    Attributes:
        model: A network.
        engine: Its engine.
        precision: Its precision.
        input: The network's input, HEIGHTxWIDTH; by default it follows from the frames.
        size: The frames.
        fps: Of the source.
        seconds: Each viewer watches so long, the first three not counted.
        viewers: How many at the same time, in one run each.
        form: How the picture is sent.
        json: Write the figures to this file.
    """

    model: str = "icnet"
    engine: str = "auto"
    precision: str = "auto"
    input: str | None = None
    size: str = "720x1280"
    fps: float = 30.0
    seconds: float = 20.0
    viewers: tuple[int, ...] = (0, 1, 4)
    form: tuple[Literal["mjpeg", "video"], ...] = ("mjpeg", "video")
    json: Path | None = None


class CodedSource(Source):
    """A live street whose pictures show their number; `captured` records when each was taken."""

    kind = "synthetic"

    def __init__(self, size_hw: Size, fps: float) -> None:
        super().__init__("coded")
        self.size_hw, self.fps, self.live = size_hw, fps, True
        self.captured: dict[int, float] = {}
        scene = StreetScene(size_hw, seed=1, fps=fps)
        self._images = [scene.render(index)[0].copy() for index in range(30)]
        self._start()

    def _frames(self) -> Generator[Frame, None, None]:
        start = perf_counter()
        while True:
            number = int((perf_counter() - start) * self.fps) + 1
            sleep(max(0.0, start + number / self.fps - perf_counter()))
            image = self._images[number % len(self._images)].copy()
            write_number(image, number % (1 << BITS))
            self.captured[number] = perf_counter()
            yield Frame(image, number, number / self.fps, self.captured[number])


def ages_ms(seen: Sequence[tuple[int, float]], captured: dict[int, float]) -> dict[str, float | int]:
    """Percentiles of the age of the pictures read, without the warm-up."""
    start = seen[0][1] + WARM_UP_S if seen else 0.0
    ages = [1e3 * (at - captured[number]) for number, at in seen if number in captured and at > start]
    if not ages:
        raise SystemExit("no picture was read after the warm-up: give --seconds more than 6")
    p50, p95, p99 = (round(float(value), 1) for value in np.percentile(ages, (50, 95, 99)))
    span = seen[-1][1] - start
    return {"p50": p50, "p95": p95, "p99": p99, "pictures": len(ages), "fps": round(len(ages) / span, 1)}


def measure(options: Options, form: str, kind: str, viewers: int) -> dict[str, Any]:
    """One run of the loop with the given viewers, of kind 'client' or 'browser'."""
    size_hw = parse_size(options.size)
    spec = RunSpec(
        options.model, options.engine, options.precision, parse_size(options.input) if options.input else None
    )
    with Segmenter(spec) as segmenter, ProcessPoolExecutor(max(1, viewers), get_context("spawn")) as pool:
        limit_threads(segmenter.budget.opencv)
        segmenter.prepare(size_hw)
        painter = Painter(opacity=0.3, legend=False, hud=False)
        painter.prepare(segmenter.labels)
        outlet = BrowserOutlet(Address())
        port = int(outlet.url.rsplit(":", 1)[1].strip("/"))
        work = partial(follow, form, port) if kind == "client" else partial(follow_in_browser, form, outlet.url)
        source = CodedSource(size_hw, options.fps)
        desk = Desk(painter, _no_recording, [spec.model], _no_change, spec)
        view = DeskView(desk, [outlet])
        loop = Loop(source, segmenter, draw=painter, view=view, policy=Newest())
        followed = [pool.submit(work, options.seconds) for _ in range(viewers)]

        def stop() -> None:
            sleep(options.seconds) if not followed else [one.exception() for one in followed]
            loop.stop()

        Thread(target=stop, daemon=True).start()
        try:
            report = loop.run()
        finally:
            view.close()
        found = [one.result() for one in followed]
    ages = [ages_ms(seen, source.captured) for seen, _ in found]
    row: dict[str, Any] = {"form": form, "kind": kind, "viewers": viewers, "loop_fps": round(report.fps, 1)}
    if kind == "client" and found:
        row["mbit_s"] = round(8e-6 * statistics.fmean(size for _, size in found) / options.seconds, 1)
    row |= {"loop_latency_ms": report.latency_ms, "engine": report.to_json()["engine"], "age_ms": ages}
    return row


def _no_recording(path: Path) -> Any:
    raise NotImplementedError


def _no_change(spec: RunSpec, frame_hw: Size) -> Any:
    raise NotImplementedError


def told(row: dict[str, Any]) -> str:
    text = f"{row['viewers']} x {row['form']} {row['kind']}: "
    text += f"loop {row['loop_fps']} fps, p50 {row['loop_latency_ms']['p50']:.0f} ms"
    if row["age_ms"]:
        p50, p95 = (statistics.median(one[name] for one in row["age_ms"]) for name in ("p50", "p95"))
        text += f"; capture to viewer p50 {p50:.0f} ms, p95 {p95:.0f} ms, {row['age_ms'][0]['fps']} fps"
    return text + (f", {row['mbit_s']} Mbit/s each" if "mbit_s" in row else "")


def runs(options: Options) -> Iterator[tuple[str, str, int]]:
    """(form, kind, viewers) of each run; the run without viewers has no form."""
    has_browser = browser_path() and find_spec("playwright")
    if not has_browser:
        print("no browser: install chromium and playwright to measure in one", file=sys.stderr)
    for number, form in enumerate(options.form):
        yield from ((form, "client", count) for count in options.viewers if count or not number)
        if has_browser:
            yield form, "browser", 1


@app.default
def main(options: Options | None = None) -> None:
    options = options or Options()
    rows = []
    for one in runs(options):
        rows.append(measure(options, *one))
        print(told(rows[-1]))
    if options.json:
        about = {"size": list(parse_size(options.size)), "fps": options.fps, "load": os.getloadavg()}
        write_json(options.json, {"environment": environment(), **about, "results": rows})


if __name__ == "__main__":
    run(app)
