"""The cells of the page on Jupyter run in a real kernel; `test_code.py` runs them as a program, with what it checks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.docs.blocks import blocks

from limpet.testing import BackgroundService, trace

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "jupyter.md"

RUN_CELLS = """
import json, sys
from jupyter_client.manager import start_new_kernel

manager, client = start_new_kernel(kernel_name="python3", startup_timeout=120)
try:
    # After an error a kernel aborts for a moment what is asked of it next, unless told otherwise.
    forever = "import asyncio\\nprint('begun')\\nwhile True: await asyncio.sleep(0.1)"
    client.execute(forever, stop_on_error=False)
    while client.get_iopub_msg(timeout=120)["content"].get("text") != "begun\\n":
        pass
    manager.interrupt_kernel()
    while "status" not in (reply := client.get_shell_msg(timeout=120)["content"]) or reply["status"] == "ok":
        pass
    print("ok", reply["ename"])
    for cell in json.load(sys.stdin):
        shown = []

        def hear(message):
            content = message["content"]
            result = content.get("data", {}).get("text/plain")
            shown.append(content.get("text") or result or content.get("evalue") or "")

        reply = client.execute_interactive(cell, timeout=120, output_hook=hear)
        print(reply["content"]["status"], "".join(shown).strip())
finally:
    client.stop_channels()
    manager.shutdown_kernel()
"""


def test_every_cell_runs_in_a_kernel() -> None:
    cells = [block.code for block in blocks(PAGE.read_text("utf-8")) if block.language == "python" and not block.hidden]
    assert len(cells) >= 6
    with BackgroundService() as service:
        given = [
            f"url = {service.url('ann')!r}",
            *cells,
            "len(seen) <= 1, with_limit[-1], client.state.name",
            "blocking.stop()",
        ]
        done = subprocess.run(
            [sys.executable, "-c", RUN_CELLS],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert [line for line in lines if not line.startswith("ok")] == []
        assert lines[0] in ("ok KeyboardInterrupt", "ok CancelledError")
        assert lines[-2] == "ok (True, 'the last word', 'STOPPED')"
        service.log.wait(trace.ConnectionClosed)
        assert {event.code for event in service.log.of(trace.ConnectionClosed)} == {1000}
