"""The container example: its steps run here, without Docker, in folders that stand for those of the image."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from dockerfile_parse import DockerfileParser
from tests.helpers.ports import free_port
from tests.helpers.waiting import until

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((EXAMPLE / "compose.yaml").read_text("utf-8"))
INSTALLING = 600.0
"""Seconds for the installation of packages, which may have to come from far away."""
PORT = 8080


class Step(NamedTuple):
    """An instruction of the Dockerfile; its value has no line breaks."""

    name: str
    value: str


def steps() -> list[list[Step]]:
    """Return the instructions of each stage, without its FROM."""
    parser = DockerfileParser(path=str(EXAMPLE / "Dockerfile"))
    stages: list[list[Step]] = []
    for one in parser.structure:
        if one["instruction"] == "FROM":
            stages.append([])
        elif one["instruction"] not in ("COMMENT", "ARG"):
            stages[-1].append(Step(one["instruction"], one["value"]))
    return stages


def value_of(name: str) -> str:
    """Return the only value of an instruction in the last stage."""
    (value,) = [step.value for step in steps()[-1] if step.name == name]
    return value


class Image:
    """A folder that stands for the file system of the image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._work = "/"
        self._environment: dict[str, str] = {}

    def path(self, text: str) -> Path:
        """Return the place of a path of the image."""
        return self.folder / os.path.join(self._work, text).lstrip("/")

    def here(self, command: str) -> str:
        """Return a command with the places of this folder for the folders of the image."""
        return re.sub(r"(?<![\w.])/(opt|src)\b", rf"{self.folder}/\1", command)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the steps: the machine's way to packages, and what the image sets."""
        around = {name: value for name, value in os.environ.items() if not name.startswith(("LIMPET_", "PYTHON"))}
        around["PATH"] = f"{Path(sys.executable).parent}:{around['PATH']}"
        for name, value in self._environment.items():
            around[name] = self.here(value).replace("$PATH", around["PATH"])
        return around

    def do(self, step: Step) -> None:
        """Do what an instruction says."""
        if step.name == "WORKDIR":
            self._work = step.value
            self.path("").mkdir(parents=True, exist_ok=True)
        elif step.name == "COPY" and not step.value.startswith("--from"):
            *sources, target = step.value.split()
            for source in sources:
                place = self.path(target) / source if target.endswith("/") else self.path(target)
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / source, place)
        elif step.name == "RUN":
            done = subprocess.run(
                ["sh", "-ec", self.here(step.value)],
                cwd=self.path(""),
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=INSTALLING,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        elif step.name == "ENV":
            self._environment |= dict(assignment.split("=", 1) for assignment in step.value.split())
        else:
            assert step.name in ("COPY", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"), step


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image after all steps that build it."""
    image = Image(tmp_path_factory.mktemp("image"))
    for stage in steps():
        for step in stage:
            image.do(step)
    return image


@pytest.fixture
def port() -> int:
    """A free port, in place of that of the image, which something else may have."""
    return free_port()


def healthy(image: Image, port: int) -> bool:
    """Run the health check of the image, as Docker does: status 0 is good."""
    command = json.loads(value_of("HEALTHCHECK").partition("CMD ")[2])
    assert any(str(PORT) in argument for argument in command)
    program = shutil.which(command[0], path=image.environment["PATH"])
    assert program is not None
    arguments = [argument.replace(str(PORT), str(port)) for argument in command[1:]]
    done = subprocess.run([program, *arguments], capture_output=True, text=True, env=image.environment, timeout=60)
    return done.returncode == 0


@contextmanager
def container(image: Image, command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a command in the image; it is ended as Docker does it."""
    program = shutil.which(command[0], path=image.environment["PATH"])
    assert program is not None
    process = subprocess.Popen(
        [program, *command[1:]],
        cwd=image.folder,
        env=image.environment | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()


def served(port: int) -> list[str]:
    """Return the command of the service, at a port of its own."""
    command: list[str] = json.loads(value_of("ENTRYPOINT")) + json.loads(value_of("CMD"))
    return [*command, "--port", str(port)]


@pytest.mark.timeout(INSTALLING)
def test_the_example_runs_from_build_to_stop(image: Image, port: int, tmp_path: Path) -> None:
    key = tmp_path / "access-key"
    key.write_text(secrets.token_urlsafe(32) + "\n", "utf-8")
    with container(image, served(port), {"LIMPET_ACCESS_KEY_FILE": str(key)}) as service:
        until(lambda: service.poll() is not None or healthy(image, port))
        assert service.poll() is None, service.communicate()[0]
        application = COMPOSE["services"]["application"]
        environment = application["environment"] | {"LIMPET_ACCESS_KEY_FILE": str(key)}
        environment["LIMPET_ENDPOINT"] = f"http://localhost:{port}"  # the name of a service is one of Docker's network
        command = ["python", str(EXAMPLE / "clock.py")]
        with container(image, command, environment | {"PYTHONUNBUFFERED": "1"}) as clock:
            assert clock.stdout is not None
            line = clock.stdout.readline()
            assert re.fullmatch(r"it is 20\d\d-\d\d-\d\dT.*\n", line), line + clock.stdout.read()
        service.send_signal(signal.SIGTERM)
        output, _ = service.communicate(timeout=60)
        assert service.returncode == 0, output
    assert not healthy(image, port)


@pytest.mark.timeout(INSTALLING)
def test_without_a_key_the_service_says_that_it_needs_one(image: Image, port: int) -> None:
    with container(image, served(port), {}) as service:
        output, _ = service.communicate(timeout=60)
    assert service.returncode == 1
    assert "needs an access key of your own" in output


@pytest.mark.timeout(INSTALLING)
def test_the_image_has_limpet_without_what_installs_packages(image: Image) -> None:
    packages = {path.name for path in image.path("/opt/limpet/lib").glob("python3*/site-packages/*")}
    assert {"limpet", "limpet_core", "uvicorn"} <= packages
    assert not {"pip", "setuptools", "wheel"} & packages


def test_the_image_runs_as_no_root_and_says_its_port() -> None:
    user, _, group = value_of("USER").partition(":")
    assert int(user) >= 1000, "a number: Kubernetes must see that it is not root"
    assert int(group) >= 1000
    assert value_of("EXPOSE") == str(PORT)


def test_the_build_reads_what_its_ignore_file_lets_through() -> None:
    lines = (EXAMPLE / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {name for step in steps()[0] if step.name == "COPY" for name in step.value.split()[:-1]}
    assert allowed == copied


def test_the_compose_file_fits_the_dockerfile_and_itself() -> None:
    service, application = COMPOSE["services"]["limpet"], COMPOSE["services"]["application"]
    assert (EXAMPLE / service["build"]["context"]).resolve() == ROOT
    assert ROOT / service["build"]["dockerfile"] == EXAMPLE / "Dockerfile"
    assert application["image"] == service["image"]
    assert application["depends_on"] == {"limpet": {"condition": "service_healthy"}}
    assert service["ports"] == [f"127.0.0.1:{PORT}:{PORT}"]
    assert application["environment"]["LIMPET_ENDPOINT"] == f"http://limpet:{PORT}"
    (volume,) = application["volumes"]
    source, target, mode = volume.split(":")
    assert ((EXAMPLE / source).is_file(), mode) == (True, "ro")
    assert application["entrypoint"] == ["python", target]
    assert application["healthcheck"] == {"disable": True}, "that of the image asks a service, which is not in there"
    for one in (service, application):
        (secret,) = one["secrets"]
        assert one["environment"]["LIMPET_ACCESS_KEY_FILE"] == f"/run/secrets/{secret}"
        assert COMPOSE["secrets"][secret] == {"file": "./access-key"}
    assert "examples/docker/access-key" in (ROOT / ".gitignore").read_text("utf-8").splitlines()
