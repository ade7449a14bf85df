"""Every Python block of the README and of docs/ runs, in the order of its page, against the local service.

For authors. A page is one program: its blocks share their names, and `await` may stand outside of functions. A block
that calls `asyncio.run`, `trio.run` or `anyio.run` is run in a thread. Every block has these names already:

    url             of a client "alice" of the hub "chat" with all roles; `Client(url)` connects to the local service
    service         that service, a `limpet.testing.BackgroundService`: service.url("bob"), service.answer(...),
                    service.cut(), service.connection_string, ...

What readers need not see goes into a hidden block: an HTML comment, which the site leaves out. It prepares what the
next block needs, or checks what the last one did:

    <!-- run
    shown = []
    -->

    <!-- run
    await until(lambda: shown == ["hello"])
    -->

Hidden blocks can call these, too:

    await until(function)              until the function returns something true
    run("python app.py", input="")     run a command to its end, and return what it printed; status=1: which fails
    start("uvicorn app:app", ready="") start a command that runs until the page ends, and wait until it prints `ready`;
                                       returns a function that returns all that it printed
    free_port()                        a port to listen on
    replace("localhost:9000", value)   in all later blocks that readers see: for addresses that are not free here

A mark in the line before a block says something else about it:

    <!-- file: app.py -->          the block, of any language, becomes a file in the page's folder. It can be imported;
                                   a hidden block below must run it, so it must name it: run("pytest -q test_app.py")
    <!-- prints: hello -->         the block is a program of its own, which may go on for ever: it is started, and must
                                   print this text; `replace` gives it the addresses of the service
    <!-- not run: the reason -->   for what cannot be had here, such as another framework; few blocks have it

Try one page with: .venv/bin/python -m pytest -q -n 0 tests/docs/test_code.py -k streams
`test_commands.py` checks the commands of shell blocks.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.blocks import blocks, play
from tests.docs.pages import PAGES, ROOT

ELSEWHERE = {
    "docs/howto/logging.md": "tests/docs/test_logging_howto.py",
    "docs/howto/metrics.md": "tests/docs/test_metrics.py",
    "docs/howto/several-machines.md": "tests/docs/test_several_machines.py",
    "docs/howto/test-an-adapter.md": "tests/adapters/test_howto.py",
    "docs/howto/test-your-application.md": "tests/testing/test_plugin.py",
    "docs/howto/typed-messages.md": "tests/adapters/test_typed_messages_howto.py",
    "docs/howto/write-an-adapter.md": "tests/examples/test_examples.py",
    "docs/tutorial/2-application-server.md": "tests/docs/test_tutorial.py",
    "docs/tutorial/3-worker.md": "tests/docs/test_tutorial.py",
    "docs/tutorial/4-page.md": "tests/docs/test_tutorial.py",
    "docs/tutorial/6-test.md": "tests/docs/test_tutorial.py",
}
"""Pages whose blocks are programs or tests of their own, and the tests that run them."""

MOST_NOT_RUN = 12
"""How many blocks of all pages may be left out."""

NAMES = {str(page.relative_to(ROOT)): page for page in PAGES}
WITH_CODE = [name for name, page in NAMES.items() if any(b.language == "python" for b in blocks(page.read_text()))]


@pytest.mark.parametrize("name", [name for name in WITH_CODE if name not in ELSEWHERE])
def test_the_code_of_a_page_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(NAMES[name], tmp_path, monkeypatch)


@pytest.mark.parametrize(("name", "test"), ELSEWHERE.items())
def test_the_code_of_the_other_pages_has_a_test(name: str, test: str) -> None:
    assert name in WITH_CODE
    assert Path(name).name in (ROOT / test).read_text("utf-8")


def test_few_blocks_are_left_out_and_each_says_why() -> None:
    reasons = [block.not_run for page in PAGES for block in blocks(page.read_text("utf-8")) if block.not_run]
    assert len(reasons) <= MOST_NOT_RUN
    assert all(len(reason) > 20 for reason in reasons)


@pytest.mark.parametrize("name", NAMES)
def test_no_block_escapes(name: str) -> None:
    """Python is called python, and a file that a page shows is run by that page."""
    found = blocks(NAMES[name].read_text("utf-8"))
    assert not [block for block in found if block.language in ("py", "python3", "pycon", "{code-block} python", "")]
    for number, block in enumerate(found):
        if block.file and block.file.endswith(".py"):
            later = "".join(other.code for other in found[number:] if other.hidden)
            assert Path(block.file).stem in later, f"nothing runs {block.file}"


PAGE = """
```python
import asyncio
from limpet.sync import Client
heard = [] if __name__ == "__main__" else None
with Client(url) as client:
    client.join_group("g")
```

<!-- file: apart.py -->
```python
WORD = "apart"
```

<!-- run
import apart
heard.append(apart.WORD)
replace("ADDRESS", "127.0.0.1")
await until(lambda: heard)
-->

```python
async def main():
    heard.append("ADDRESS")
asyncio.run(main())
```

<!-- run
replace("WORD", "for ever")
-->

<!-- prints: hello for ever -->
```python
import time
print("hello WORD")
time.sleep(1000)
```

<!-- not run: there is no such thing here -->
```python
raise RuntimeError
```

<!-- run
await asyncio.sleep(0)
assert heard == ["apart", "127.0.0.1"]
assert run("python -c 'print(1)'") == "1\\n"
heard.append(start("python -uc 'import time; print(2); time.sleep(100)'", ready="2")())
assert heard[2] == "2\\n"
-->
"""


def test_a_page_is_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    play(page, tmp_path, monkeypatch)


def test_a_block_that_fails_is_found_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```python\nfirst = 1\n```\n\n<!-- run\nassert first == 2\n-->\n")
    with pytest.raises(AssertionError) as caught:
        play(page, tmp_path, monkeypatch)
    last = caught.traceback[-1]
    assert (Path(last.path).name, last.lineno + 1) == ("page.md", 8)
