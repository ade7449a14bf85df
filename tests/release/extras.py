"""The wheel on a clean machine: an environment with one extra and nothing else, and a use of what it brings."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
INSTALLING = 600.0
"""Seconds for the installation of packages, which may have to come from far away."""
NONE = ""
"""In place of the name of an extra: Limpet alone."""

_SERVED = """
from limpet.sync import Client
from limpet.testing import BackgroundService
with BackgroundService() as service, Client(service.url("ann", groups=["g"])) as client:
    service.publish("g", ["hello"])
    assert next(iter(client)).data == "hello"
"""
_COMMAND = """
import subprocess, sys
done = subprocess.run([sys.executable, "-m", "limpet", "--version"], capture_output=True, text=True)
assert (done.returncode, done.stdout) == (0, f"limpet, version {limpet.__version__}\\n"), done
"""

USES = {
    NONE: """
import subprocess, sys
from limpet.asyncio import Client
from limpet.sync import Client as SyncClient
SyncClient("ws://127.0.0.1:1/client/hubs/chat?access_token=x")
for module, extra in (("trio", "trio"), ("anyio", "anyio"), ("service", "service"), ("testing", "service")):
    try:
        __import__(f"limpet.{module}")
    except ImportError as error:
        assert f"pip install 'limpet[{extra}]'" in str(error), error
    else:
        raise AssertionError(f"limpet.{module} needs no extra")
done = subprocess.run([sys.executable, "-m", "limpet"], capture_output=True, text=True)
assert (done.returncode, "pip install 'limpet[cli]'" in done.stderr) == (1, True), done
""",
    "trio": "import limpet.trio; limpet.trio.Client('ws://127.0.0.1:1/client/hubs/chat?access_token=x')",
    "anyio": "import limpet.anyio; limpet.anyio.Client('ws://127.0.0.1:1/client/hubs/chat?access_token=x')",
    "service": _SERVED,
    "https": _SERVED
    + """
import tempfile
from limpet.service import LocalCertificate
with tempfile.TemporaryDirectory() as folder:
    assert LocalCertificate.of_folder(folder).ssl_context()
""",
    "cli": _SERVED + _COMMAND,
    "speedups": "from limpet_core.client.masking import APPLY_MASK; assert APPLY_MASK is not None",
    "websockets": "from limpet.connect.websockets import connector; connector()",
    "aiohttp": "from limpet.connect.aiohttp import connector; connector()",
    "picows": "from limpet.connect.picows import connector; connector()",
    "socks": """
from limpet.sync import Client
Client("ws://127.0.0.1:1/client/hubs/chat?access_token=x", proxy="socks5://127.0.0.1:1")
""",
    "protobuf": """
from limpet.sync import Client
url = "ws://127.0.0.1:1/client/hubs/chat?access_token=x"
Client(url, limpet.Options(protocol=limpet.RELIABLE_PROTOBUF))
""",
    "opentelemetry": "import limpet.opentelemetry",
    "cluster": _SERVED + "from limpet.service.cluster.redis import RedisLog",
    "eventhubs": _SERVED + "import limpet.service._event_hubs",
    "all": _SERVED + _COMMAND + "\nimport limpet.anyio, limpet.trio, limpet.connect.picows, limpet.connect.aiohttp"
    "\nimport limpet.service.cluster.redis",
}
"""What each extra is for, as a program."""


def declared() -> list[str]:
    """Return the extras that pyproject.toml declares."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return sorted(project["project"]["optional-dependencies"])


def problem(wheel: Path, extra: str, folder: Path) -> str:
    """Install the wheel with one extra into a new environment, and use it; return what went wrong, or nothing."""
    place = folder / (extra or "alone")
    venv.create(place, with_pip=False)
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    target = f"{wheel}[{extra}]" if extra else str(wheel)
    # Most modules of most packages are never imported: to compile them all takes as long as the rest.
    options = ["--quiet", "--disable-pip-version-check", "--no-compile"]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", *options, target]
    use = [str(python), "-I", "-X", "dev", "-c", f"import limpet\n{USES[extra]}"]
    for command in (pip, use):
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALLING, cwd=folder)
        if done.returncode:
            return done.stdout + done.stderr
    return ""
