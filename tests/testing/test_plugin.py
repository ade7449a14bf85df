"""The pytest plugin, in test runs of its own."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from tests.helpers import forked

from limpet.testing import plugin

pytest_plugins = ["pytester"]

CONFTEST = 'pytest_plugins = ["limpet.testing.plugin"]'
DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = Path(__file__).parents[2] / "examples"


def outcomes(
    pytester: pytest.Pytester, *arguments: str, plugins: tuple[str, ...] = (), forks: bool = True
) -> tuple[dict[str, int], str]:
    """Run the tests in a process of their own, where every warning is an error.

    Of pytest-asyncio ("asyncio") and pytest-trio ("trio"), only those in ``plugins`` are there. The process is forked
    from one that has run pytest (see tests/helpers/forked.py), unless ``forks`` is false.
    """
    without = [option for name in ("asyncio", "trio") if name not in plugins for option in ("-p", f"no:{name}")]
    options = ["-p", "no:cacheprovider", "-W", "error", *without, *arguments]
    if not forks:
        result = pytester.runpytest_subprocess(*options)
        return result.parseoutcomes(), result.stdout.str() + result.stderr.str()
    done = forked.run([sys.executable, "-m", "pytest", *options], cwd=pytester.path, text=True)
    return pytest.RunResult.parse_summary_nouns(done.stdout.splitlines()), done.stdout + done.stderr


def test_each_test_has_a_service_of_its_own(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        import pytest
        from limpet.sync import Client
        from limpet.testing import trace

        @pytest.mark.parametrize("turn", range(3))
        def test_talk(limpet_service, turn):
            with Client(limpet_service.url("ann", groups=["g"])) as client:
                limpet_service.publish("g", [turn])
                assert next(iter(client)).data == turn
                (opened,) = limpet_service.log.of(trace.ConnectionOpened)
                assert opened.user_id == "ann"
        """
    )
    assert outcomes(pytester)[0] == {"passed": 3}


def test_options_are_overridden_for_a_module_and_for_a_test(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        test_module="""
        import pytest
        from limpet.service import ServiceOptions

        @pytest.fixture
        def limpet_options():
            return ServiceOptions(recovery_window=7.0)

        def window(service):
            return service.call(lambda service, _: service.core.limits.recovery_window)

        def test_of_the_module(limpet_service):
            assert window(limpet_service) == 7.0

        @pytest.mark.parametrize("limpet_options", [ServiceOptions(recovery_window=9.0)])
        def test_of_its_own(limpet_service):
            assert window(limpet_service) == 9.0
        """,
        test_default="""
        def test_default(limpet_service):
            assert limpet_service.call(lambda service, _: service.core.limits.recovery_window) == 30.0
        """,
    )
    assert outcomes(pytester)[0] == {"passed": 3}


def test_a_failure_shows_what_the_service_saw(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        from limpet.sync import Client

        def test_fails(limpet_service):
            with Client(limpet_service.url("ann")) as client:
                client.join_group("somewhere")
            assert False

        def test_passes(limpet_service):
            with Client(limpet_service.url("ann")) as client:
                client.join_group("elsewhere")
        """
    )
    found, output = outcomes(pytester)
    assert found == {"passed": 1, "failed": 1}
    assert "Limpet's service saw" in output
    assert "Joined(hub='chat'" in output
    assert "somewhere" in output
    assert "elsewhere" not in output.partition("Limpet's service saw")[2]


def test_a_service_that_fails_is_an_error_and_shows_what_it_saw(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        from limpet.service import Service
        from limpet.sync import Client

        def test_passes(limpet_service):
            async def fails(service):
                await stop(service)
                raise ZeroDivisionError

            stop = Service.stop
            limpet_service.call(lambda service, _: setattr(service, "stop", lambda: fails(service)))
            with Client(limpet_service.url("ann")) as client:
                client.join_group("somewhere")
        """
    )
    found, output = outcomes(pytester)
    assert found == {"passed": 1, "errors": 1}
    assert "the service has failed: ZeroDivisionError" in output
    assert "somewhere" in output.partition("Limpet's service saw")[2]


def test_a_service_in_memory(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        def test_virtual(limpet_virtual):
            client = limpet_virtual.client("ann")
            client.start()
            limpet_virtual.cut()
            limpet_virtual.advance(3600)
            assert client.connection_id == "c1"
        """
    )
    assert outcomes(pytester)[0] == {"passed": 1}


def test_the_fixtures_are_described_and_there_only_for_who_wants_them(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_nothing(): pass")
    names = plugin.__all__
    output = outcomes(pytester, "--fixtures")[1]
    assert not [name for name in names if re.search(rf"^{name}\b", output, re.MULTILINE)], output
    pytester.makeconftest(CONFTEST)
    output = outcomes(pytester, "--fixtures")[1]
    for name in names:
        assert re.search(rf"^{name}\b.*\n +\w", output, re.MULTILINE), output


# What an installation without the extra has: Limpet, msgspec and wsproto.
WITHOUT_SERVICE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("starlette", "uvicorn", "websockets", "jwt", "httpx"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""


def test_without_the_extra_nobody_sees_an_error_who_did_not_ask_for_the_plugin(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(WITHOUT_SERVICE)
    pytester.makepyfile(
        """
        import limpet.asyncio, pytest

        def test_the_client_is_there():
            with pytest.raises(ModuleNotFoundError):
                import limpet.testing
        """
    )
    assert outcomes(pytester, forks=False)[0] == {"passed": 1}


def test_without_the_extra_the_plugin_says_what_to_install(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(WITHOUT_SERVICE + CONFTEST)
    pytester.makepyfile("def test_nothing(): pass")
    result = pytester.runpytest_subprocess()
    assert result.ret != 0
    assert "pip install 'limpet[service]'" in result.stderr.str()


def test_the_example_passes(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    source = (EXAMPLES / "test_chat.py").read_text("utf-8")
    pytester.makepyfile(test_chat=source)
    assert outcomes(pytester)[0] == {"passed": source.count("\ndef test_") + 1}, "one of them runs twice"


def test_the_how_to_is_true(pytester: pytest.Pytester) -> None:
    text = (DOCS / "howto" / "test-your-application.md").read_text("utf-8")
    conftest, *tests = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    pytester.makeconftest(conftest)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile(**{f"test_{number}": code for number, code in enumerate(tests)})
    passed = len(re.findall(r"^(?:async )?def test_", text, re.MULTILINE))
    assert outcomes(pytester, plugins=("asyncio", "trio"))[0] == {"passed": passed}
