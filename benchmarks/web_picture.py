"""The picture of the page of `rtseg-cam --web` for its documentation.

    python benchmarks/web_picture.py docs/web.png --form jpeg

Runs `rtseg-cam` on the procedural street for a minute, on a machine that does nothing else, and takes the picture in
Chromium (Debian's `chromium`, and `pip install playwright`).
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from web_latency import browser_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--form", choices=("jpeg", "video"), default="jpeg")
    parser.add_argument("--model", default="icnet")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--seconds", type=float, default=45.0, help="that the curves show")
    parser.add_argument("--fps", type=float, default=30.0, help="of the street")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-u", "-m", "rtseg.apps.cam", "--no-window", "--web", "--source", "synthetic"]
    command += ["--camera-size", "480x640", "--camera-fps", str(options.fps), "--model", options.model]
    command += ["--engine", options.engine, "--precision", options.precision]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started, sync_playwright() as playwright:
        try:
            address = next(found[0] for line in started.stdout or () if (found := re.search(r"http://\S+", line)))
            browser = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1180, "height": 760})
            page.goto(address + ("#video" if options.form == "video" else ""))
            page.locator("[data-age-ms]").wait_for()
            page.wait_for_timeout(1000 * options.seconds)
            page.screenshot(path=options.picture)
            browser.close()
        finally:
            started.terminate()


if __name__ == "__main__":
    main()
