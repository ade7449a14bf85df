"""Hand one target to atheris: ``python -m fuzz.run frames_into_link fuzz/corpus/frames_into_link [options]``.

atheris is not among the dependencies of the tests: ``pip install atheris`` first. Options are those of libFuzzer.
"""

from __future__ import annotations

import sys


def main() -> None:
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["holdfast_core"]):
        from fuzz.targets import TARGETS

    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m fuzz.run TARGET [CORPUS] [OPTIONS]; a target is one of {', '.join(TARGETS)}")
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
