"""Options from TOML files and from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from limpet.cli.commands import cli
from limpet.service import EventHandler, HubOptions, ServiceOptions, load_options
from limpet.service.config import parse_event_handler, with_hubs

A = EventHandler(url="http://a.example/")
B = EventHandler(url="http://b.example/")


def file(directory: Path, text: str) -> Path:
    path = directory / "service.toml"
    path.write_text(text, "utf-8")
    return path


def test_a_file_has_everything_under_the_names_of_the_options(tmp_path: Path) -> None:
    text = """
        access_key = "0123456789abcdef0123456789abcdef"
        recovery_window = 60
        request_timeout = 5

        [hubs.chat]
        anonymous = true

        [[hubs.chat.event_handlers]]
        url = "http://localhost:3000/{hub}/{event}?code=1"
        user_events = ["order", "pay"]
        system_events = []
        timeout = 5
        retry_delays = [0.5]

        [[hubs.chat.event_handlers]]
        url = "https://example.com/"

        [hubs.News]
    """
    first = EventHandler(
        url="http://localhost:3000/{hub}/{event}?code=1",
        user_events=("order", "pay"),
        system_events=(),
        timeout=5,
        retry_delays=(0.5,),
    )
    second = EventHandler(url="https://example.com/")
    assert load_options(file(tmp_path, text)) == ServiceOptions(
        access_key="0123456789abcdef0123456789abcdef",
        recovery_window=60.0,
        request_timeout=5.0,
        hubs={"chat": HubOptions(anonymous=True, event_handlers=(first, second)), "News": HubOptions()},
    )
    assert load_options(file(tmp_path, "")) == ServiceOptions()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a =", "line 1|end of document"),
        ("recovery = 1", "no option 'recovery'; there are .*recovery_window"),
        ('recovery_window = "a"', "recovery_window"),
        ("recovery_window = -1", "recovery_window"),
        ("request_timeout = 0", "request_timeout"),
        ('access_key = "short"', "access_key must have"),
        ('access_key = "a-key-of-thirty-two-bytes-or-more\\u0085-"', "control characters"),
        ('[hubs."1"]', "'1'"),
        ("[hubs.a]\n[hubs.A]", "twice"),
        ("[hubs]\na = 1", "hubs"),
        ("hubs = 1", "hubs"),
        ("[hubs.a]\nanonym = true", "'anonym' of hub 'a'"),
        ("[[hubs.a.event_handlers]]", "url"),
        ('[[hubs.a.event_handlers]]\nurl = "x"', "not the URL"),
        ('[[hubs.a.event_handlers]]\nurl = "http://a/"\nuser_events = "*"', "user_events"),
        ('[[hubs.a.event_handlers]]\nurl = "http://a/"\nmore = 1', "no option 'more' in the event_handlers of hub 'a'"),
        ('[[hubs.a.event_handlers]]\nUrlTemplate = "http://a/"', "there are url, user_events"),
        ('[[hubs.a.event_listeners]]\nEventHubName = "x"', "'EventHubName' in the event_listeners .* event_hub, "),
        ("[hubs.a]\nevent_handlers = [1]", "event_handlers"),
        ("[hubs.a]\nevent_listeners = 1", "event_listeners"),
        (' {"WebPubSub": {"Hubs": {}}}', "this is JSON, and options are TOML"),
        ('[[hubs.a.event_handlers]]\nurl = "http://a/"\nretries = true', "retries"),
        ('[[hubs.a.event_handlers]]\nurl = "http://a/"\nresend = "never"', "resend"),
        ('[[hubs.a.event_handlers]]\nurl = "http://a/"\nsystem_events = ["closed"]', "closed"),
        ("\udcff", "utf-8"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line_with_its_name(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "service.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=complaint) as caught:
        load_options(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert "0123" not in str(caught.value)


def test_a_mark_at_the_beginning_of_a_file_is_fine(tmp_path: Path) -> None:
    # Editors of Windows, and its shell, write one.
    path = tmp_path / "limpet.toml"
    path.write_text("\ufeffmax_connections = 7", "utf-8")
    assert load_options(path).max_connections == 7


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_options(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "hub", "handler"),
    [
        ("chat=http://h/{event}?a=b", "chat", EventHandler(url="http://h/{event}?a=b")),
        ("a=http://h/;user-events=x, y", "a", EventHandler(url="http://h/", user_events=("x", "y"))),
        (
            "a=http://h/;user-events=;system-events=connect;timeout=2.5",
            "a",
            EventHandler(url="http://h/", user_events=(), system_events=("connect",), timeout=2.5),
        ),
        ("a=http://h/;retries=0", "a", EventHandler(url="http://h/", retries=0)),
        (
            "a=http://h/;retries=4;retry-delays=0.5, 1;resend=safe",
            "a",
            EventHandler(url="http://h/", retries=4, retry_delays=(0.5, 1.0), resend="safe"),
        ),
        ("a=http://h/;retry-delays=", "a", EventHandler(url="http://h/", retry_delays=())),
    ],
)
def test_an_event_handler_in_a_short_text(text: str, hub: str, handler: EventHandler) -> None:
    assert parse_event_handler(text) == (hub, HubOptions(event_handlers=(handler,)))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "HUB=URL"),
        ("chat", "HUB=URL"),
        ("=http://h/", "HUB=URL"),
        ("chat=", "HUB=URL"),
        ("chat=localhost:3000", "not the URL"),
        ("chat=http://h/;events=a", "'events' is not a setting"),
        ("chat=http://h/;timeout", "'timeout' of an event handler needs a value"),
        ("chat=http://h/;timeout=soon", "'soon'"),
        ("chat=http://h/;timeout=-1", "timeout"),
        ("chat=http://h/;system-events=closed", "'closed'"),
        ("chat=http://h/;retries=1.5", "retries is a whole number, not '1.5'"),
        ("chat=http://h/;retries=-1", "retries is a number"),
        ("chat=http://h/;retries=1;retry-delays=", "retries need retry_delays"),
        ("chat=http://h/;retry-delays=a,1", "retry-delays is a number of seconds, not 'a,1'"),
        ("chat=http://h/;retry-delays=-1", "retry_delays"),
        ("chat=http://h/;resend=never", "resend is 'safe' or 'always', not 'never'"),
    ],
)
def test_a_short_text_that_cannot_be_used_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_event_handler(text)


def test_more_about_a_hub_comes_before_what_there_is() -> None:
    options = ServiceOptions(hubs={"Chat": HubOptions(anonymous=True, event_handlers=(B,))})
    more = [("chat", HubOptions(event_handlers=(A,))), ("news", HubOptions(anonymous=True))]
    assert with_hubs(options, more).hubs == {
        "Chat": HubOptions(anonymous=True, event_handlers=(A, B)),
        "news": HubOptions(anonymous=True),
    }
    with pytest.raises(ValueError, match="hub name"):
        with_hubs(options, [("1", HubOptions())])


def serve(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[ServiceOptions]]:
    served: list[ServiceOptions] = []
    monkeypatch.setattr("limpet.cli.serve.run_service", lambda options, *_, **__: served.append(options))
    # It would change the loggers of the process.
    monkeypatch.setattr("limpet.cli.serve.log_to_stderr", lambda verbose: None)
    result = CliRunner().invoke(cli, ["serve", *arguments])
    return result.output, served


def test_the_command_line_adds_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "0123456789abcdef0123456789abcdef"
    path = file(tmp_path, f'access_key = "{key}"\n[[hubs.chat.event_handlers]]\nurl = "http://c.example/"')
    _, (options,) = serve(
        *("--config", str(path)),
        *("--event-handler", "Chat=http://a.example/"),
        *("--event-handler", "chat=http://b.example/"),
        *("--anonymous", "chat"),
        monkeypatch=monkeypatch,
    )
    assert options.access_key == key
    handlers = (A, B, EventHandler(url="http://c.example/"))
    assert options.hubs == {"chat": HubOptions(anonymous=True, event_handlers=handlers)}


@pytest.mark.parametrize("arguments", [("--event-handler", "chat"), ("--config", "FILE")])
def test_mistakes_on_the_command_line_are_one_clear_line(
    arguments: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = str(file(tmp_path, "x = 1"))
    output, served = serve(*(broken if part == "FILE" else part for part in arguments), monkeypatch=monkeypatch)
    assert served == []
    assert output.startswith("Error: ")
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        "https://user:hidden@h/x",
        "chat=https://user:hidden@h/x y",
        "chat=https://user:hi?dden@h/x y",
        "chat=ftp://h/?code=hidden",
        "chat=https://h/#hidden",
        "chat=https://h:0/?code=hidden&to=a@b",
        "chat=https://h/?code={hidden}",
        "chat=https://h/?a=1;hidden",
        "chat=https://h/?a=1;hidden=",
        "chat=https://h/?a=1;code-hidden1=x",
    ],
)
def test_no_secret_of_a_url_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="event handler") as refused:
        parse_event_handler(text.replace(";hidden=", ";code=hidden"))
    assert "hidden" not in str(refused.value)
    assert "dden" not in str(refused.value)
