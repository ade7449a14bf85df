"""Peers that say what the service does not: close codes both ways, frames that break the rules, silence."""

from __future__ import annotations

from limpet import ConnectError, Disconnected, GroupMessage, Recovering, Stopped
from limpet.testing.conformance.bench import Bench, prompt, soon
from limpet.testing.conformance.check import check
from limpet.testing.conformance.peer import Conversation, Peer

_MESSAGE = '{"type":"message","from":"group","group":"g","dataType":"text","data":"%s","sequenceId":%d}'


@check()
def the_close_code_and_reason_of_the_peer_are_kept(bench: Bench) -> None:
    for code in (1001, 1011, 1012, 3000, 4999):

        def script(conversation: Conversation, code: int = code) -> None:
            conversation.close(code, f"reason {code}")

        with Peer(script) as peer:
            driver = bench.driver(peer.url)
            driver.connect()
            lost = driver.wait(Recovering)
            driver.close()
        assert (lost.code, lost.reason) == (code, f"reason {code}")


@check()
def after_1008_nothing_is_recovered(bench: Bench) -> None:
    with Peer(lambda conversation: conversation.close(1008, "no")) as peer:
        driver = bench.driver(peer.url, auto_reconnect=False)
        driver.connect()
        assert driver.wait(Disconnected).code == 1008
        assert isinstance(driver.wait(Stopped).error, ConnectError)
    assert driver.life == ["Connected", "Disconnected", "Stopped"]


@check()
def messages_right_before_a_close_are_delivered(bench: Bench) -> None:
    """A driver passes on what it has read before it reports the end."""

    def script(conversation: Conversation) -> None:
        for number in range(1, 101):
            conversation.text(_MESSAGE % (f"m{number}", number))
        conversation.close(1008, "over")

    with Peer(script) as peer:
        driver = bench.driver(peer.url, auto_reconnect=False)
        driver.start()
        driver.wait(Stopped)
    assert driver.data == [f"m{number}" for number in range(1, 101)]


@check()
def a_peer_that_does_not_answer_the_close_holds_up_the_close_timeout_alone(bench: Bench) -> None:
    with Peer(Conversation.listen) as peer:
        driver = bench.driver(peer.url, close_timeout=0.3)
        driver.connect()
        with prompt():
            assert driver.end() == Stopped(None)
        driver.close()
        soon(lambda: peer.closes, "the close frame")
        assert peer.closes == [1000]


@check()
def a_transport_that_is_given_up_is_not_closed_with_1000(bench: Bench) -> None:
    """The service forgets a connection that is closed so. Many a WebSocket library does that by default."""

    def script(conversation: Conversation) -> None:
        conversation.binary(b"\x00\x01")
        conversation.listen()

    with Peer(script) as peer:
        driver = bench.driver(peer.url)
        driver.start()
        driver.wait(Recovering)
        soon(lambda: peer.closes, "the close frame")
        driver.close()
    assert peer.closes[0] != 1000


@check("close codes")
def a_binary_message_is_answered_with_1003(bench: Bench) -> None:
    def script(conversation: Conversation) -> None:
        conversation.binary(b"\x00\x01")
        conversation.listen()

    with Peer(script) as peer:
        driver = bench.driver(peer.url)
        driver.start()
        driver.wait(Recovering)
        soon(lambda: peer.closes, "the close frame")
        driver.close()
    assert peer.closes[0] == 1003


@check()
def a_message_that_is_no_json_ends_the_transport_and_not_the_driver(bench: Bench) -> None:
    first = True

    def script(conversation: Conversation) -> None:
        nonlocal first
        if first:
            first = False
            conversation.text("{")
        else:
            conversation.text(_MESSAGE % ("after", 1))
        conversation.listen()

    with Peer(script) as peer:
        driver = bench.driver(peer.url)
        driver.connect()
        driver.wait(Recovering)
        driver.upto("after")
        driver.close()


@check()
def frames_that_break_the_rules_end_the_transport_and_not_the_driver(bench: Bench) -> None:
    """A reserved opcode, a masked frame, a text that is no UTF-8."""
    for frame in (b"\x83\x01x", b"\x81\x81\x01\x02\x03\x04x", b"\x81\x02\xff\xfe"):

        def script(conversation: Conversation, frame: bytes = frame) -> None:
            conversation.raw(frame)
            conversation.end()

        with Peer(script) as peer:
            driver = bench.driver(peer.url)
            driver.connect()
            driver.wait(Recovering)
            driver.close()
        assert len(driver.of(GroupMessage)) == 0


@check("size limit", "close codes")
def a_message_that_is_too_large_is_answered_with_1009(bench: Bench) -> None:
    def script(conversation: Conversation) -> None:
        conversation.text("x" * 5_000)
        conversation.listen()

    with Peer(script) as peer:
        driver = bench.driver(peer.url, max_message_size=4_000)
        driver.connect()
        driver.wait(Recovering)
        soon(lambda: peer.closes, "the close frame")
        driver.close()
    assert peer.closes[0] == 1009
