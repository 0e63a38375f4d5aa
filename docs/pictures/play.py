"""Takes play.png, the page of `run.py play` with the demo's merged file.

python install.py demo
.venv/bin/python -m docs.pictures.play outputs/demo/merged.safetensors
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.conftest import BROWSERS

FOLDER = Path(__file__).parent
RUN = FOLDER.parents[1] / "trainer" / "run.py"
WEIGHTS = {"twemoji": "0", "high-contrast": "0.5", "openmoji": "0.5"}


def main(merged: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, RUN, "play", merged, "--no-browser", "--pictures", folder]
        server = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        try:
            lines = iter(server.stdout.readline, "")
            address = next(found[0] for line in lines if (found := re.search(r"http://\S+", line)))
            photograph(address)
        finally:
            server.terminate()
            server.wait()


def photograph(address: str) -> None:
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, BROWSERS)))
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        page.goto(address)
        page.get_by_label("Prompt").first.fill("fox")
        for style, weight in WEIGHTS.items():
            page.get_by_label(f"number input for {style}").fill(weight)
        page.get_by_label("Seed").first.fill("0")
        page.get_by_role("button", name="More").click()
        page.get_by_label("number input for Guidance").fill("2")
        page.get_by_role("button", name="More").click()
        page.get_by_role("button", name="Paint", exact=True).first.click()
        page.wait_for_selector(".dmm-picture img", timeout=120_000)
        time.sleep(2)  # the picture fades in
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=FOLDER / "play.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
