"""Viewers of `rtseg-cam --web` that read the number in each picture: from JPEGs, from the video, in a real browser."""

import http.client
import json
from collections.abc import Generator
from itertools import takewhile
from shutil import which
from time import perf_counter
from typing import Any

import av
import cv2
import numpy as np
from websockets.sync.client import connect

BITS, SIDE = 16, 24  # squares of the number, and their side in pixels
FORMS = {"mjpeg": ("", "#picture"), "video": ("#video", "#video")}  # end of the page's address, element that shows it

# reads in the page after every animation frame
READ_PAGE = """async ([element, bits, side, seconds]) => {
  const shown = document.querySelector(element);
  const pen = new OffscreenCanvas(bits, 1).getContext("2d", { willReadFrequently: true });
  let offset = 0, best = Infinity;
  for (let count = 0; count < 20; count++) {
    const before = performance.now();
    const { now } = await (await fetch("clock")).json();
    const took = performance.now() - before;
    if (took < best) { best = took; offset = now - (before + took / 2) / 1000; }
  }
  const seen = [], end = performance.now() + 1000 * seconds;
  let last = -1;
  while (performance.now() < end) {
    await new Promise(requestAnimationFrame);
    const height = shown.videoHeight ?? shown.height;
    pen.drawImage(shown, 0, height - side / 2, bits * side, 1, 0, 0, bits, 1);
    const row = pen.getImageData(0, 0, bits, 1).data;
    let number = 0;
    for (let bit = 0; bit < bits; bit++) number += (row[4 * bit + 1] > 127) << bit;
    if (number !== last) seen.push([number, performance.now() / 1000 + offset]);
    last = number;
  }
  return seen;
}"""


def write_number(picture: np.ndarray, number: int) -> None:
    """Draws black and white squares in the lower left corner of uint8 BGR (H, W, 3), lowest bit first."""
    for bit in range(BITS):
        picture[-SIDE:, bit * SIDE : (bit + 1) * SIDE] = 255 * (number >> bit & 1)


def read_number(picture: np.ndarray) -> int:
    """Reads the number of `write_number`; labels drawn on top at 0.3 keep black below and white above the middle."""
    row = picture[-SIDE // 2, SIDE // 2 : BITS * SIDE : SIDE, 1] > 127
    return int(sum(int(on) << bit for bit, on in enumerate(row)))


Seen = list[tuple[int, float]]
"""(number, time when it was read) of each picture."""


def follow(form: str, port: int, seconds: float) -> tuple[Seen, int]:
    """The pictures seen by a viewer in its own process, and their bytes."""
    received, seen, end = 0, [], perf_counter() + seconds
    pictures = mjpeg(port) if form == "mjpeg" else video(port)
    for picture, size in takewhile(lambda _: perf_counter() < end, pictures):
        seen.append((read_number(picture), perf_counter()))
        received += size
    pictures.close()
    return seen, received


def mjpeg(port: int) -> Generator[tuple[np.ndarray, int], None, None]:
    """Pictures of the JPEG stream, uint8 BGR (H, W, 3), and the bytes of each."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/stream.mjpg")
    answer = connection.getresponse()
    try:
        while True:
            head = http.client.parse_headers(_after_boundary(answer))
            jpeg = answer.read(int(head["Content-Length"]))
            yield np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)), len(jpeg)
    finally:
        connection.close()


def video(port: int) -> Generator[tuple[np.ndarray, int], None, None]:
    """The same for the video."""
    with connect(f"ws://127.0.0.1:{port}/video", compression=None) as socket:
        for message in socket:
            if isinstance(message, bytes):
                data = message
                continue
            about = json.loads(message)
            if "codec" in about:
                decoder = _decoder(bytes(socket.recv()))
                continue
            socket.send(str(about["number"]))
            packet = av.Packet(data[data.index(b"mdat") + 4 :])
            for frame in decoder.decode(packet):
                yield frame.to_ndarray(format="bgr24"), len(data)


def _decoder(head: bytes) -> Any:
    decoder: Any = av.CodecContext.create("h264", "r")
    place = head.index(b"avcC")
    decoder.extradata = head[place + 4 : place - 4 + int.from_bytes(head[place - 4 : place])]
    decoder.thread_count = 1  # several would delay pictures
    return decoder


def _after_boundary(answer: http.client.HTTPResponse) -> http.client.HTTPResponse:
    while not answer.readline().startswith(b"--"):
        pass
    return answer


def follow_in_browser(form: str, url: str, seconds: float) -> tuple[Seen, int]:
    """The same for the page in a real browser, which does not report bytes."""
    from playwright.sync_api import sync_playwright

    ending, element = FORMS[form]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(url + ending)
        page.wait_for_selector(f"{element}[data-frame]")
        seen = page.evaluate(READ_PAGE, [element, BITS, SIDE, seconds])
        still = page.locator("#form").input_value()
        browser.close()
    if still != {"mjpeg": "jpeg"}.get(form, form):
        raise SystemExit(f"the page fell back to {still}: no figures of {form}")
    return [(int(number), float(at)) for number, at in seen], 0


def browser_path() -> str | None:
    return which("chromium") or which("chromium-browser") or which("google-chrome")
