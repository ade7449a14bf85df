"""The clients among the fixtures of the pytest plugin, in test runs of their own, with the plugins for event loops."""

from __future__ import annotations

import pytest
from tests.testing.test_plugin import CONFTEST, outcomes

pytest_plugins = ["pytester"]


def scenario(mark: str, fixture: str, more: str = "") -> str:
    return f"""
        import pytest

        {mark}
        async def test_nothing_is_lost(limpet_service, {fixture}{more}):
            client = {fixture}
            await client.join_group("room")
            limpet_service.cut()
            limpet_service.publish("room", ["hello"])
            async for message in client:
                assert message.data == "hello"
                break
    """


def test_blocking_code_needs_no_plugin(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        def test_nothing_is_lost(limpet_service, limpet_sync_client):
            limpet_sync_client.join_group("room")
            limpet_service.cut()
            limpet_service.publish("room", ["hello"])
            assert next(iter(limpet_sync_client)).data == "hello"
        """
    )
    assert outcomes(pytester)[0] == {"passed": 1}


@pytest.mark.parametrize(("mode", "mark"), [("strict", "@pytest.mark.asyncio"), ("auto", "")])
def test_asyncio_with_pytest_asyncio(pytester: pytest.Pytester, mode: str, mark: str) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makeini(f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile(scenario(mark, "limpet_asyncio_client"))
    assert outcomes(pytester, plugins=("asyncio",))[0] == {"passed": 1}


@pytest.mark.parametrize(("mode", "mark"), [("false", "@pytest.mark.trio"), ("true", "")])
def test_trio_with_pytest_trio(pytester: pytest.Pytester, mode: str, mark: str) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makeini(f"[pytest]\ntrio_mode = {mode}")
    pytester.makepyfile(scenario(mark, "limpet_trio_client"))
    assert outcomes(pytester, plugins=("trio",))[0] == {"passed": 1}


def test_anyio_with_its_own_plugin(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(scenario("@pytest.mark.anyio", "limpet_anyio_client", ", anyio_backend"))
    assert outcomes(pytester)[0] == {"passed": 2}, "on asyncio and on trio"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio_runs_the_tests_of_its_backends(pytester: pytest.Pytester, backend: str) -> None:
    pytester.makeconftest(f"{CONFTEST}\nimport pytest\n@pytest.fixture\ndef anyio_backend():\n    return {backend!r}\n")
    pytester.makepyfile(scenario("@pytest.mark.anyio", f"limpet_{backend}_client"))
    assert outcomes(pytester)[0] == {"passed": 1}


def test_the_plugins_live_side_by_side(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile(
        test_asyncio=scenario("@pytest.mark.asyncio", "limpet_asyncio_client"),
        test_trio=scenario("@pytest.mark.trio", "limpet_trio_client"),
        test_anyio=scenario("@pytest.mark.anyio", "limpet_anyio_client", ", anyio_backend"),
    )
    assert outcomes(pytester, plugins=("asyncio", "trio"))[0] == {"passed": 4}


def test_url_and_options_of_the_clients_are_overridden(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        import pytest
        from limpet import Options
        from limpet.testing import trace

        @pytest.fixture
        def limpet_client_url(limpet_session_service):
            return limpet_session_service.url("bob", groups=["room"])

        @pytest.mark.parametrize("limpet_client_options", [Options(protocol="json.webpubsub.azure.v1")])
        def test_bob(limpet_session_service, limpet_sync_client):
            (opened,) = limpet_session_service.log.of(trace.ConnectionOpened)
            assert (opened.user_id, opened.groups) == ("bob", ("room",))
            assert opened.subprotocol == "json.webpubsub.azure.v1"
        """
    )
    assert outcomes(pytester)[0] == {"passed": 1}


def test_without_a_plugin_pytest_says_that_one_is_needed(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile("def test_it(limpet_asyncio_client): pass")
    found, output = outcomes(pytester, "-p", "no:anyio")
    assert found == {"errors": 1}
    assert "async fixture 'limpet_asyncio_client'" in output
