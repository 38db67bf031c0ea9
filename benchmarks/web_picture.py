"""The picture of the page of `rtseg-cam --web` for its documentation.

    python benchmarks/web_picture.py docs/web.png --form jpeg

Runs `rtseg-cam` on the procedural street for a minute, on a machine that does nothing else, and takes the picture in
Chromium (Debian's `chromium`, and `pip install playwright`).
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Literal

from cyclopts import App
from web_viewers import browser_path

from rtseg.apps._console import run

app = App(help=__doc__)


@app.default
def main(
    picture: Path,
    *,
    form: Literal["jpeg", "video"] = "jpeg",
    model: str = "icnet",
    engine: str = "auto",
    precision: str = "auto",
    seconds: float = 45.0,
    fps: float = 30.0,
) -> None:
    """Takes the picture.

    Args:
        picture: The file to write.
        form: How the page gets its pictures.
        model: A network.
        engine: Its engine.
        precision: Its precision.
        seconds: That the curves show.
        fps: Of the street.
    """
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-u", "-m", "rtseg.apps.cam", "--no-window", "--web", "--source", "synthetic"]
    command += ["--camera-size", "480x640", "--camera-fps", str(fps), "--model", model]
    command += ["--engine", engine, "--precision", precision]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started, sync_playwright() as playwright:
        try:
            address = next(found[0] for line in started.stdout or () if (found := re.search(r"http://\S+", line)))
            browser = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1180, "height": 760})
            page.goto(address + ("#video" if form == "video" else ""))
            page.locator("[data-age-ms]").wait_for()
            page.wait_for_timeout(1000 * seconds)
            page.screenshot(path=picture)
            browser.close()
        finally:
            started.terminate()


if __name__ == "__main__":
    run(app)
