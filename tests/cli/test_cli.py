"""The command line as people use it: in processes of its own, over real sockets."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import jwt
import pytest
from tests.helpers.command_line import TIMEOUT, joined, limpet, messages, running
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from limpet.cli.demo import Score
from limpet.testing import BackgroundService
from limpet.testing.contract.checks.event_handlers import Answer, Call, EventServer


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
@pytest.mark.parametrize("key", ["", "k" * 32])
def test_serve_says_whose_urls_it_prints_and_how_long_they_are_good(key: str) -> None:
    with running("serve", "--port", "0", "--hub", "room", *(["--key", key] if key else [])) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip()]
        while sum("ws://" in line for line in lines) < 2:
            lines.append(process.stdout.readline().strip())
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    at = lines.index("Client URLs for the hub 'room'. They may join and send to every group; connect within an hour.")
    for whose, user, url in zip(lines[at + 1 :: 2], ("alice", "bob"), lines[at + 2 :: 2], strict=True):
        assert whose == f"As user {user}:"
        claims = jwt.decode(url.partition("access_token=")[2], options={"verify_signature": False})
        assert (claims["sub"], claims["exp"] - claims["iat"]) == (user, 3600)
        assert url.partition("?")[0].endswith("/client/hubs/room")
    assert ("--key or LIMPET_ACCESS_KEY" in rest) == (not key)


def interrupt(process: subprocess.Popen[str]) -> tuple[str, str]:
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=TIMEOUT)


def test_what_is_published_arrives_in_order(service: dict[str, str]) -> None:
    with running("sub", "--url", service["url"], "room", "--count", "3") as subscriber:
        assert subscriber.stderr is not None
        assert "connected as" in subscriber.stderr.readline()
        published = limpet("pub", "--url", service["url"], "room", "one", "two", "three")
        assert published.returncode == 0, published.stderr
        assert "3 messages sent and acknowledged" in published.stderr
        out, _ = subscriber.communicate(timeout=TIMEOUT)
    assert out.splitlines() == ["room alice: one", "room alice: two", "room alice: three"]
    assert subscriber.returncode == 0


def test_lines_of_standard_input_are_published_as_json(service: dict[str, str]) -> None:
    with running(
        "sub", "-c", service["connection_string"], "--user", "eve", "room", "--count", "2", "--json"
    ) as subscriber:
        joined(subscriber)
        published = limpet("pub", "--url", service["url"], "room", "--json", stdin='{"a":1}\n[2]\n')
        assert published.returncode == 0, published.stderr
        out, _ = subscriber.communicate(timeout=TIMEOUT)
    assert [message["data"] for message in messages(out)] == [{"a": 1}, [2]]


def test_metadata_and_a_time_to_live_are_sent_along(service: dict[str, str]) -> None:
    with running("sub", "--url", service["url"], "room", "--count", "2", "--json") as subscriber:
        joined(subscriber)
        more = ["--metadata", "trace-id=a=b", "--metadata", "empty=", "--ttl", "0.5"]
        published = limpet("pub", "--url", service["url"], "room", "one", *more)
        assert published.returncode == 0, published.stderr
        published = limpet("pub", "--url", service["url"], "room", "two")
        assert published.returncode == 0, published.stderr
        out, _ = subscriber.communicate(timeout=TIMEOUT)
    first, second = messages(out)
    assert first["metadata"] == {"trace-id": "a=b", "empty": ""}
    assert second["metadata"] is None


def _answer(call: Call) -> Answer:
    replies: dict[str, Answer] = {
        "text": (200, "text/plain", b"a\nb" + call.data),
        "json": (200, "application/json", b'{"you":' + call.data + b"}"),
        "binary": (200, "application/octet-stream", b"\x00"),
        "refused": (400, "text/plain", b"no"),
    }
    return replies.get(call.event, (204, "", b""))


def test_an_invocation_prints_the_data_of_the_reply() -> None:
    server = EventServer(_answer)
    with server.running(), BackgroundService(server.options()) as handled:
        url = handled.direct_url("ann")
        cases: dict[tuple[str, ...], tuple[str, str]] = {
            ("text", "x"): ("a\\nbx\n", ""),
            ("json", "--json", '[1,"x"]'): ('{"you":[1,"x"]}\n', ""),
            ("binary", "x", "--metadata", "a=b"): ("base64:AA==\n", ""),
            ("nothing",): ("", "-- the reply has no data\n"),
        }
        for arguments, (out, told) in cases.items():
            result = limpet("invoke", "--url", url, *arguments)
            assert (result.returncode, result.stdout, result.stderr) == (0, out, told)
        refused = limpet("invoke", "--url", url, "refused")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "BadRequest" in refused.stderr
        assert "the service did not execute it" in refused.stderr


def test_what_json_allows_is_shown_as_json(service: dict[str, str]) -> None:
    """A number beyond floats is received as inf, for which an encoder would write null."""
    shown = ['[1e999,{"a":-1e999},null,"\ufffd"]', "1e999", "[0.5]"]
    with (
        running("sub", "-c", service["connection_string"], "any", "--count", "3") as plain,
        running("sub", "-c", service["connection_string"], "any", "--count", "3", "--json") as as_json,
    ):
        assert plain.stderr is not None
        assert "connected as" in plain.stderr.readline()
        joined(as_json)
        with connect(service["url"], subprotocols=[Subprotocol("json.webpubsub.azure.v1")], proxy=None) as websocket:
            for data in (r'[1e999,{"a":-1E+999},null,"\ud83d"]', "9e999", "[0.5]"):
                websocket.send('{"type":"sendToGroup","group":"any","dataType":"json","data":%s}' % data)  # noqa: UP031
            (text, _), (lines, _) = (subscriber.communicate(timeout=TIMEOUT) for subscriber in (plain, as_json))
    assert text.splitlines() == [f"any alice: {data}" for data in shown]
    found = re.findall('"data":(.*),"dataType"', lines.replace(" ", ""))
    assert found == shown


def test_sub_without_a_group_says_that_it_joined_none(service: dict[str, str]) -> None:
    with running("sub", "--url", service["url"]) as subscriber:
        assert subscriber.stderr is not None
        assert "connected as" in subscriber.stderr.readline()
        assert "no GROUP was given" in subscriber.stderr.readline()


EVIL = "\x1b[2J\x9b31m\x07\x7f\r\nroom alice: forged\u202egnp.exe\u2028\u200b\u3164\U000e0041"
ESCAPED = r"\u001b[2J\u009b31m\u0007\u007f\r\nroom alice: forged\u202egnp.exe\u2028\u200b\u3164\udb40\udc41"


def test_what_others_send_cannot_control_the_terminal(service: dict[str, str]) -> None:
    group = f"room {EVIL}"
    with (
        running("sub", "-c", service["connection_string"], group, "--count", "2", "--verbose") as plain,
        running("sub", "-c", service["connection_string"], group, "--count", "2", "--json") as as_json,
    ):
        assert plain.stderr is not None
        while "connected as" not in plain.stderr.readline():
            pass
        joined(as_json)
        published = limpet(
            "pub",
            "-c",
            service["connection_string"],
            "--user",
            EVIL,
            group,
            "--json",
            json.dumps(EVIL),
            '{"é":"👨\u200d👩"}',
        )
        assert published.returncode == 0, published.stderr
        (text, log), (lines, _) = (subscriber.communicate(timeout=TIMEOUT) for subscriber in (plain, as_json))
    first, second = text.split("\n")[:-1]
    assert first.startswith(f'"room {ESCAPED}" "{ESCAPED}": ')
    assert second.endswith(': {"é":"👨\u200d👩"}')
    assert [message["data"] for message in messages(lines)] == [EVIL, {"é": "👨\u200d👩"}]
    for output in (text, lines, log):
        assert not set(output) & set(EVIL.replace("room alice: forged", "").replace("gnp.exe", "")) - set("\n[2J31m")


def test_a_name_cannot_imitate_another_line(service: dict[str, str]) -> None:
    """A name that could be taken for more than a name is a JSON string, and a group called server is not the server."""
    with running("sub", "-c", service["connection_string"], "room", "server", "--count", "4") as subscriber:
        assert subscriber.stderr is not None
        assert "connected as" in subscriber.stderr.readline()
        for user, group in (("bob: hi", "room"), ("ro\u200bom", "room"), ("zoë.1@x", "room"), ("", "server")):
            url = limpet(
                "url",
                "-c",
                service["connection_string"],
                *(("--user", user) if user else ()),
                "--role",
                "webpubsub.sendToGroup",
            )
            published = limpet("pub", "--url", url.stdout.strip(), group, "text")
            assert published.returncode == 0, published.stderr
        out, _ = subscriber.communicate(timeout=TIMEOUT)
    assert out.splitlines() == [
        'room "bob: hi": text',
        r'room "ro\u200bom": text',
        "room zoë.1@x: text",
        '"server": text',
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="a program on Windows is not started without standard input")
def test_pub_without_standard_input_says_so_and_does_not_wait(service: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "limpet", "pub", "--url", service["url"], "room"],
        preexec_fn=lambda: os.close(0),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: standard input is closed: give DATA on the command line")
    assert done.stderr.count("\n") == 1


def test_an_error_of_the_service_cannot_control_the_terminal(service: dict[str, str]) -> None:
    url = limpet("url", "-c", service["connection_string"], "--role", "none").stdout.strip()
    refused = limpet("pub", "--url", url, f"room {EVIL}", "x")
    assert refused.stderr.strip().count("\n") == 0
    assert f"'room {ESCAPED}'" in refused.stderr


def test_verbose_shows_messages_without_tokens(service: dict[str, str]) -> None:
    result = limpet("pub", "--url", service["url"], "room", "hello", "--verbose")
    assert '"data":"hello"' in result.stderr
    assert '"reconnectionToken":"***"' in result.stderr
    assert service["url"].rsplit("=", 1)[1] not in result.stderr


def test_url_and_token_are_made_for_the_service(service: dict[str, str]) -> None:
    url = limpet("url", "--user", "bob", LIMPET_CONNECTION_STRING=service["connection_string"])
    token = limpet("token", "-c", service["connection_string"], "--role", "webpubsub.sendToGroup.room")
    assert url.stdout.startswith("ws://127.0.0.1:")
    assert token.stdout.count(".") == 2
    assert limpet("pub", "room", "hi", LIMPET_URL=url.stdout.strip()).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["pub", "--url", "http://x/", "g", "x"], "url must start with wss:// or ws://"),
        (["pub", "--url", "ws://127.0.0.1:1/client/hubs/x", "g", "x"], "127.0.0.1 port 1"),
        (["pub", "--url", "URLx", "g", "x"], "HTTP status 401"),
        (["pub", "--url", "URL", " ", "x"], "group must not be empty or blank"),
        (["pub", "--url", "URL", "--event", "bad name", "x"], "event must start with a letter"),
        (["pub", "--url", "URL", "--event", "nobody-listens", "x"], "NotFound"),
        (["pub", "--url", "URL", "--json", "g", "{"], "DATA is not JSON"),
        (["pub", "--url", "URL", "--json", "g", '{"price": NaN}'], "DATA is not JSON"),
        (["pub", "--url", "URL", "--json", "g", "[Infinity]"], "DATA is not JSON"),
        (["pub", "--url", "URL", "--json", "g", "1e999"], "DATA is not JSON"),
        (["pub", "--url", "URL", "--json", "g", r'"\ud83d"'], "DATA is not JSON"),
        (["pub", "--url", "URL", "--json", "g", "\udcff"], "DATA is not JSON"),
        # Nested too deeply; or not JSON, from Python 3.14 on.
        (["pub", "--url", "URL", "--json", "g", "[" * 5000], "DATA is n"),
        (["pub", "--url", "URL", "--json", "g", "[" * 300 + "]" * 300], "BadRequest"),
        (["pub", "--url", "URL", "g", "x", "--metadata", "a"], "--metadata needs KEY=VALUE, not 'a'"),
        (["pub", "--url", "URL", "g", "x", "--metadata", "a=1", "--metadata", "a=2"], "has the key 'a' twice"),
        (["pub", "--url", "URL", "g", "x", "--metadata", "a b=1"], "metadata must have keys"),
        (["pub", "--url", "URL", "g", "x", "--ttl", "301"], "ttl must be from 0 to 300, not 301"),
        (["pub", "--url", "URL", "--event", "e", "x", "--ttl", "3"], "--ttl is for messages to a group"),
        (["invoke", "--url", "URL", "nobody-listens"], "NotFound"),
        (["invoke", "--url", "URL", "bad name"], "event must start with a letter"),
        (["invoke", "--url", "URL", "e", "{", "--json"], "DATA is not JSON"),
        (["invoke", "--url", "URL", "e", "--timeout", "-1"], "-1.0 is not in the range x>0"),
        (["invoke", "--url", "URL", "e", "--timeout", "0"], "0.0 is not in the range x>0"),
        (["sub", "g"], "Where to?"),
        (["sub", "-c", "nonsense", "g"], "connection string"),
        (["sub", "-c", "URL", "g"], "that is a URL; a connection string looks like Endpoint="),
        (["url", "-c", "Endpoint=http://x"], "AccessKey"),
        (["serve", "--host", "0.0.0.0"], "--key"),
        (["serve", "--access-key", "short"], "access_key must have at least 32 bytes"),
    ],
)
def test_an_error_is_one_clear_line(service: dict[str, str], arguments: list[str], complaint: str) -> None:
    result = limpet(*(argument.replace("URL", service["url"]) for argument in arguments))
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert complaint in last
    assert "Traceback" not in result.stderr


def test_a_port_in_use_is_told(service: dict[str, str]) -> None:
    port = service["url"].split(":")[2].split("/")[0]
    result = limpet("serve", "--port", port)
    assert result.returncode == 1
    assert f"port {port} of 127.0.0.1 is in use" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_stops_serve_and_sub_cleanly() -> None:
    with running("serve", "--port", "0") as server:
        assert server.stdout is not None
        url = next(line.strip() for line in server.stdout if "ws://" in line)
        server.stdout.readline()  # the second URL
        with running("sub", "--url", url, "room") as subscriber:
            assert subscriber.stderr is not None
            subscriber.stderr.readline()
            _, told = interrupt(subscriber)
            assert subscriber.returncode == 130
            assert "Traceback" not in told
        out, told = interrupt(server)
    assert server.returncode == 0
    assert out.endswith("Stopped.\n")
    assert told == ""


def test_the_demo_loses_nothing() -> None:
    result = limpet("demo", "--seconds", "2", "--subscribers", "2", "--seed", "7")
    assert result.returncode == 0, result.stdout + result.stderr
    rows = dict(
        [cell.strip() for cell in line.strip("│").split("│")] for line in result.stdout.splitlines() if "│" in line
    )
    published = int(rows["published"].replace(",", ""))
    assert published > 0
    assert int(rows["delivered to 2 subscribers"].replace(",", "")) == 2 * published
    assert (rows["lost"], rows["duplicated"], rows["out of order"]) == ("0", "0", "0")
    assert int(rows["connections cut"]) > 0
    assert rows["connections lost for good"] == "0"
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("recoveries", "told"), [(3, False), (2, True)])
def test_the_demo_explains_why_there_are_fewer_recoveries_than_cuts(recoveries: int, told: bool) -> None:
    table = Score([], cuts=3, recoveries=recoveries).table("Result", final=True)
    assert ("cut again before its recovery" in str(table.caption)) == told


def test_the_version_is_told() -> None:
    import limpet as package

    assert package.__version__ in limpet("--version").stdout


# ---- States


def test_states_are_set_and_printed(service: dict[str, str]) -> None:
    alice = (
        "state",
        "-c",
        service["connection_string"],
        "--user",
        "alice",
        "lounge",
        "status=typing",
        "note=a=b",
        "--count",
        "1",
    )
    with running("state", "-c", service["connection_string"], "--user", "bob", "lounge", "--json") as bob:
        assert bob.stdout is not None
        assert json.loads(bob.stdout.readline())["type"] == "connected"
        assert json.loads(bob.stdout.readline())["changed"] == []
        printed = limpet(*alice)
        assert printed.returncode == 0, printed.stderr
        state = {"status": "typing", "note": "a=b"}
        assert re.fullmatch(rf"\S+ alice: {re.escape(json.dumps(state, separators=(',', ':')))}\n", printed.stdout)
        change = json.loads(bob.stdout.readline())
        assert [(each["userId"], each["state"]) for each in change["changed"]] == [("alice", state)]
        gone = json.loads(bob.stdout.readline())
        assert gone["removed"] == [change["changed"][0]["connectionId"]]


def test_states_of_others_that_go(service: dict[str, str]) -> None:
    with running("state", "-c", service["connection_string"], "--user", "bob", "hall", "a=1") as bob:
        assert bob.stdout is not None
        assert "bob" in bob.stdout.readline()
        assert (
            limpet(
                "state", "-c", service["connection_string"], "--user", "alice", "hall", "b=2", "--count", "1"
            ).returncode
            == 0
        )
        assert " alice: " in bob.stdout.readline()
        assert bob.stdout.readline().endswith(": gone\n")


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        (("typing",), "needs KEY=VALUE, not 'typing'"),
        (("=x",), "needs KEY=VALUE, not '=x'"),
        (("a=1", "a=2"), "has the key 'a' twice"),
    ],
)
def test_a_state_that_cannot_be_read(pairs: tuple[str, ...], text: str) -> None:
    failed = limpet("state", "--url", "ws://127.0.0.1:1/client/hubs/chat", "g", *pairs)
    assert failed.returncode == 2
    assert text in failed.stderr


def test_states_of_a_group_that_is_forbidden(service: dict[str, str]) -> None:
    url = limpet("url", "-c", service["connection_string"], "--role", "webpubsub.sendToGroup")
    failed = limpet("state", "--url", url.stdout.strip(), "g")
    assert failed.returncode == 1
    assert "Forbidden" in failed.stderr


def test_a_stream_of_lines_is_printed_by_another(service: dict[str, str]) -> None:
    url = limpet("url", "--connection-string", service["connection_string"], "--hub", "chat").stdout.strip()
    with running("sub", "--url", url, "--streams", "--count", "2", "tokens") as reader:
        assert reader.stderr is not None
        assert "connected as" in reader.stderr.readline()
        written = limpet("pub", "--url", url, "--stream", "tokens", stdin="one\ntwo\n")
        assert written.returncode == 0
        assert "2 fragments written and acknowledged" in written.stderr
        assert limpet("pub", "--url", url, "--stream", "--json", "tokens", '{"three": 3}').returncode == 0
        printed, told = reader.communicate(timeout=TIMEOUT)
    assert [line.partition(": ")[2] for line in printed.splitlines()] == ["one", "two", '{"three":3}']
    assert told.count(" ended") == 2
    assert reader.returncode == 0


def test_a_stream_in_json(service: dict[str, str]) -> None:
    url = limpet("url", "--connection-string", service["connection_string"], "--hub", "chat").stdout.strip()
    with running("sub", "--url", url, "--streams", "--json", "--count", "1", "tokens") as reader:
        joined(reader)
        assert limpet("pub", "--url", url, "--stream", "tokens", "a\u202eb").returncode == 0
        printed, _ = reader.communicate(timeout=TIMEOUT)
    fragment, ended = map(json.loads, printed.splitlines())
    assert (fragment["type"], ended["type"], ended["error"]) == ("fragment", "streamEnded", None)
    assert (fragment["group"], fragment["streamSequenceId"], fragment["data"]) == ("tokens", 1, "a\u202eb")
    assert "\u202e" not in printed


def test_a_reader_of_streams_whose_output_is_closed_ends(service: dict[str, str]) -> None:
    url = limpet("url", "--connection-string", service["connection_string"], "--hub", "chat").stdout.strip()
    with running("sub", "--url", url, "--streams", "tokens") as reader:
        assert reader.stderr is not None
        assert reader.stdout is not None
        assert "connected as" in reader.stderr.readline()
        reader.stdout.close()
        assert limpet("pub", "--url", url, "--stream", "tokens", "one", "two").returncode == 0
        assert reader.wait(TIMEOUT) == 141
        told = reader.stderr.read()
        reader.stdout = None
    assert "Traceback" not in told
    assert "never retrieved" not in told


def test_a_stream_takes_no_options_of_messages(service: dict[str, str]) -> None:
    refused = limpet("pub", "--url", service["url"], "--stream", "--ttl", "5", "tokens", "x")
    assert (refused.returncode, "--stream goes with none of" in refused.stderr) == (2, True)


def test_a_stream_is_not_begun_if_an_argument_is_no_json(service: dict[str, str]) -> None:
    refused = limpet("pub", "--url", service["url"], "--stream", "--json", "tokens", "1", "x")
    assert (refused.returncode, "DATA is not JSON" in refused.stderr, "-- stream" in refused.stderr) == (1, True, False)


def test_the_end_of_a_stream_is_no_message(service: dict[str, str]) -> None:
    url = limpet("url", "--connection-string", service["connection_string"], "--hub", "chat").stdout.strip()
    with running("sub", "--url", url, "--count", "2", "tokens") as reader:
        assert reader.stderr is not None
        assert "connected as" in reader.stderr.readline()
        for text in ("one", "two"):
            assert limpet("pub", "--url", url, "--stream", "tokens", text).returncode == 0
        printed, told = reader.communicate(timeout=TIMEOUT)
    assert [line.partition(": ")[2] for line in printed.splitlines()] == ["one", "two"]
    assert told.count(" ended") == 1  # the second end comes behind the last message that was asked for
