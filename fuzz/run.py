"""Hand the targets to atheris: ``python -m fuzz.run --seconds 60`` for all, ``--target frames_into_link`` for one.

New inputs that lead to new code are kept in ``.fuzz/`` for the next time; one that breaks a property is written into
``fuzz/corpus/TARGET/``, which the test suite runs from then on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def fuzz(name: str, seconds: int) -> None:
    """Fuzz one target in this process; does not return."""
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["limpet_core"]):
        from fuzz.targets import TARGETS

    found, corpus = HERE.parent / ".fuzz" / name, HERE / "corpus" / name
    found.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2000"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={corpus}/", str(found), str(corpus)], TARGETS[name])
    atheris.Fuzz()


def main() -> int:
    """Fuzz each target in a process of its own; return 1 if one broke a property."""
    from fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(prog="python -m fuzz.run", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--target", choices=list(TARGETS), action="append")
    options = parser.parse_args()
    broken = []
    for name in options.target or TARGETS:
        print(f"{name}: {options.seconds} s", flush=True)
        code = f"from fuzz.run import fuzz; fuzz({name!r}, {options.seconds})"
        if subprocess.run([sys.executable, "-c", code], check=False).returncode:
            broken.append(name)
    if broken:
        print(f"broken: {', '.join(broken)}; the inputs are in fuzz/corpus", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
