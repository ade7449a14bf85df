"""Take docs/images/site.png, the site in two sizes and two lights: ``make docs``, then run this file.

Needs chromium, and Playwright for Python from the dependency group "test".
"""

from __future__ import annotations

import base64
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parent
SITE = DOCS / "_build" / "html"
TARGET = DOCS / "images" / "site.png"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
VIEWS = [("index", 1180, "light"), ("reference/errors", 1180, "dark"), ("howto/index", 390, "light")]
HEIGHT = 860


def main() -> None:
    """Take the three views, and put them side by side."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("chromium is needed to take a screenshot; install it and try again")
    if not SITE.is_dir():
        sys.exit("there is no site to take a picture of: run make docs first")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        pictures = []
        for name, width, scheme in VIEWS:
            page = browser.new_page(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme)  # type: ignore[arg-type]
            page.goto((SITE / f"{name}.html").as_uri())
            pictures.append(base64.b64encode(page.screenshot()).decode())
            page.close()
        row = "".join(f'<img src="data:image/png;base64,{picture}">' for picture in pictures)
        page = browser.new_page(viewport={"width": 1296, "height": 414})
        page.set_content(
            "<style>html { background: #dee2e6 } body { margin: 12px; display: flex; gap: 12px }"
            "img { height: 390px; border-radius: 6px; box-shadow: 0 1px 6px #0006 }</style>" + row
        )
        page.screenshot(path=TARGET)
        browser.close()


if __name__ == "__main__":
    main()
