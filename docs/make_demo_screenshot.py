"""Take docs/images/demo.png: ``make demo`` on a terminal, under way and at its end. Run this file after ``make demo``.

Needs chromium, a system with pseudo-terminals, and Playwright for Python from the dependency group "test".
"""

from __future__ import annotations

import io
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.text import Text

TARGET = Path(__file__).parent / "images" / "demo.png"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
COLUMNS = 80
FRAME = re.compile(r"(?:\r|\x1b\[1A|\x1b\[2K)+")
"""What the live table writes to draw its next frame over the last one."""


def played(seconds: int) -> str:
    """Run the demo on a terminal of its own; return what it writes."""
    terminal, inside = pty.openpty()
    environment = os.environ | {"COLUMNS": str(COLUMNS), "LINES": "40", "TERM": "xterm-256color"}
    command = [str(Path(sys.executable).parent / "limpet"), "demo", "--seconds", str(seconds), "--seed", "7"]
    process = subprocess.Popen(command, stdin=inside, stdout=inside, stderr=inside, env=environment)
    os.close(inside)
    written = b""
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        written += chunk
    os.close(terminal)
    if process.wait():
        sys.exit("the demo has failed")
    return re.sub(r"\x1b\[\?25[hl]", "", written.decode().replace("\r\n", "\n"))  # the cursor comes and goes


def shown(text: str) -> str:
    """Return HTML of a text with the colours of a terminal."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(text))
    return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def main() -> None:
    """Take the frame in the middle of the demo and its end, and put them side by side."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("chromium is needed to take a screenshot; install it and try again")
    parts = FRAME.split(played(8))
    running = [part for part in parts if "Running" in part]
    middle, last = running[len(running) // 2], parts[-1]
    page_of = "".join(f"<section>{shown(part)}</section>" for part in (middle, last))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1240, "height": 330})
        page.set_content(
            "<style>body { margin: 12px; display: inline-flex; gap: 12px; background: #fff } pre { margin: 0;"
            "font: 13px/1.25 'DejaVu Sans Mono', monospace } section { padding: 12px; border-radius: 6px;"
            "box-shadow: 0 1px 6px #0006 }</style>" + page_of
        )
        page.locator("body").screenshot(path=TARGET)
        browser.close()


if __name__ == "__main__":
    main()
