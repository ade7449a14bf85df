"""The fixtures of the pytest plugin for a service that several tests share, in test runs of their own."""

from __future__ import annotations

import pytest
from tests.testing.test_plugin import CONFTEST, outcomes

pytest_plugins = ["pytester"]


def test_tests_of_a_module_share_one_service_and_those_of_a_run_another(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        CONFTEST
        + """
import pytest

@pytest.fixture(scope="session")
def seen():
    return {"module": set(), "session": set()}
"""
    )
    module = """
        import pytest

        @pytest.mark.parametrize("turn", range(2))
        def test_shared(limpet_module_service, limpet_session_service, seen, turn):
            seen["module"].add(limpet_module_service)
            seen["session"].add(limpet_session_service)
    """
    last = """
        def test_at_last(seen):
            assert [len(seen["module"]), len(seen["session"])] == [2, 1]
            assert not seen["module"] & seen["session"]
    """
    pytester.makepyfile(test_1=module, test_2=module, test_3=last)
    assert outcomes(pytester)[0] == {"passed": 5}


@pytest.mark.parametrize("scope", ["module", "session"])
def test_a_test_leaves_no_fault_and_no_event_to_the_next(pytester: pytest.Pytester, scope: str) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        f"""
        import pytest
        from limpet.sync import Client
        from limpet.testing import trace

        @pytest.fixture(scope={scope!r})
        def client(limpet_{scope}_service):
            with Client(limpet_{scope}_service.url("ann", groups=["g"])) as client:
                yield client

        @pytest.mark.parametrize("turn", range(3))
        def test_talk(limpet_{scope}_service, client, turn):
            service = limpet_{scope}_service
            assert len(service.log.of(trace.ConnectionOpened)) == (1 if turn == 0 else 0), "the fixtures' events, once"
            service.publish("g", [turn])
            assert next(iter(client)).data == turn
            (published,) = service.log.of(trace.Published)
            service.refuse()
            service.stall()
            service.lose_ack()
            service.slow_down(3600)
        """
    )
    assert outcomes(pytester)[0] == {"passed": 3}


def test_a_test_leaves_no_answer_to_the_next_but_a_fixture_of_the_module_does(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        import pytest
        from limpet import InvocationError
        from limpet.sync import Client

        @pytest.fixture(scope="module")
        def client(limpet_module_service):
            limpet_module_service.answer("all", lambda call: "module")
            with Client(limpet_module_service.url("ann")) as client:
                yield client

        @pytest.mark.parametrize("turn", range(2))
        def test_answers(limpet_module_service, client, turn):
            assert client.invoke("all").data == "module"
            with pytest.raises(InvocationError, match="no event handler"):
                client.invoke("mine")
            limpet_module_service.answer("mine", lambda call: "mine")
            limpet_module_service.answer("All", lambda call: "test")
            assert [client.invoke("mine").data, client.invoke("all").data] == ["mine", "test"]
        """
    )
    assert outcomes(pytester)[0] == {"passed": 2}


def test_the_fixtures_of_a_test_end_before_the_service_is_healed(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        import pytest
        from limpet.sync import Client

        @pytest.fixture
        def late(limpet_module_service):
            yield
            with Client(limpet_module_service.url("late")):
                pass
            limpet_module_service.refuse()

        def test_first(late):
            pass

        def test_second(limpet_module_service):
            assert len(limpet_module_service.log) == 0
            with Client(limpet_module_service.url("ann")):
                pass
        """
    )
    assert outcomes(pytester)[0] == {"passed": 2}


def test_options_are_those_of_the_scope(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        import pytest
        from limpet.service import ServiceOptions

        @pytest.fixture(scope="module")
        def limpet_module_options():
            return ServiceOptions(recovery_window=7.0)

        @pytest.fixture(scope="session")
        def limpet_session_options():
            return ServiceOptions(recovery_window=9.0)

        def window(service):
            return service.call(lambda service, _: service.core.limits.recovery_window)

        def test_windows(limpet_service, limpet_module_service, limpet_session_service):
            services = (limpet_service, limpet_module_service, limpet_session_service)
            assert [window(service) for service in services] == [30.0, 7.0, 9.0]
        """
    )
    assert outcomes(pytester)[0] == {"passed": 1}


def test_a_failure_shows_what_the_shared_service_saw_in_that_test(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        from limpet.sync import Client

        def join(service, group):
            with Client(service.url("ann")) as client:
                client.join_group(group)

        def test_passes(limpet_session_service):
            join(limpet_session_service, "elsewhere")

        def test_fails(limpet_session_service):
            join(limpet_session_service, "somewhere")
            assert False
        """
    )
    found, output = outcomes(pytester)
    assert found == {"passed": 1, "failed": 1}
    seen = output.partition("Limpet's service saw")[2]
    assert "somewhere" in seen
    assert "elsewhere" not in seen
