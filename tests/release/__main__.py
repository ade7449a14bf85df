"""Build a release, check it, and print what to upload: ``make release`` runs this. Nothing is uploaded.

    make release           # version, changelog and version control must be ready
    make release DRAFT=1   # the same at any time: without a date in the changelog, and with changes not yet committed

The files are in ``dist/``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.release import built
from tests.release.extras import NONE, declared, problem


def main(arguments: Sequence[str] | None = None) -> int:
    """Make and check the release; return the status of the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.release", description="Build and check a release.")
    parser.add_argument("--draft", action="store_true", help="at any time: changelog and commits need not be ready")
    parser.add_argument("--extras", default=None, help="names of the extras to try, with commas; by default all")
    chosen = parser.parse_args(arguments)
    extras = [NONE, *declared()] if chosen.extras is None else chosen.extras.split(",")
    target = built.ROOT / "dist"
    try:
        built.check_changelog((built.ROOT / "CHANGELOG.md").read_text("utf-8"), built.version(), draft=chosen.draft)
        if not chosen.draft:
            built.check_committed()
        shutil.rmtree(target, ignore_errors=True)
        print(f"building {built.version()} ...", flush=True)
        sdist, wheel = built.build(target)
        built.check(sdist, wheel)
        for extra in extras:
            print(f"installing the wheel with {extra or 'no extra'} ...", flush=True)
            with tempfile.TemporaryDirectory() as folder:
                wrong = problem(wheel, extra, Path(folder))
            if wrong:
                raise built.ReleaseError(f"the wheel with {extra or 'no extra'} does not work:\n{wrong}")
    except built.ReleaseError as error:
        print(f"no release: {error}", file=sys.stderr)
        return 1
    print(built.to_upload(sdist, wheel) if not chosen.draft else f"A draft, for no upload: {sdist.name}, {wheel.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
