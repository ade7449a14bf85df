"""``limpet serve --config``: the file counts while the service runs."""

from __future__ import annotations

from pathlib import Path

from tests.cli.test_cli import running

KEY = "a key of thirty-two bytes, or more"
HANDLER = '[[hubs.chat.event_handlers]]\nurl = "http://a.example/"\n'


def test_a_change_is_told_and_so_is_a_mistake(tmp_path: Path) -> None:
    config = tmp_path / "limpet.toml"
    config.write_text("", "utf-8")
    with running("serve", "--port", "0", "--key", KEY, "--config", str(config)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while "As user bob" not in process.stdout.readline():
            assert process.poll() is None
        config.write_text(HANDLER, "utf-8")
        while "has changed" not in (line := process.stdout.readline()):
            assert line
        assert line == f"{config} has changed, and was read again.\n"
        # The key on the command line counts, and the one in the file is no change.
        config.write_text(f'access_key = "{KEY * 2}"\n[[hubs.chat.event_handlers]]\nurl = "a"', "utf-8")
        told = process.stderr.readline()
        assert f"goes on as before: {config}: not the URL of an event handler" in told
        assert KEY not in told
