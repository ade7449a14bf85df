"""Change the heart of the core a little, some six thousand times, and see that a test notices each time.

``make mutants`` runs this. mutmut makes the changes and runs the tests (see ``[tool.mutmut]`` in pyproject.toml); here
it is given a place to work, its results are counted per module, and what no test noticed is held against
``explained.toml``. It changes functions and methods, but no properties, constants and defaults of Structs. The tests of
hypothesis take no part: they are slow, and what they find shall be stated in a plain test as well.

Results are kept in ``.mutants/``: a run that was interrupted goes on where it was, and after an edit only the functions
that have changed are tried again, and what survived the tests of before.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tomllib
from collections import Counter
from contextlib import chdir
from pathlib import Path

from mutmut.mutation.diff_apply import get_diff_for_mutant

ROOT = Path(__file__).parents[2]
PLACE = ROOT / ".mutants"
SOURCES = PLACE / "mutants" / "src" / "limpet_core"
MEMORY = 3 << 30
"""A change may make a loop endless."""
WANTED = 90.0
"""Per cent of the mutants of each module that a test must notice."""

Change = tuple[str, str, str]
"""The function, what was taken out and what was put in."""


def prepare() -> None:
    """Lay the project out as mutmut wants it: it takes modules for what they are called below src/."""
    (PLACE / "src").mkdir(parents=True, exist_ok=True)
    for link, target in (
        ("src/limpet_core", "../../core/limpet_core"),
        ("tests", "../tests"),
        ("simulation", "../simulation"),
        ("pyproject.toml", "../pyproject.toml"),
    ):
        if not (PLACE / link).is_symlink():
            (PLACE / link).symlink_to(target)


def forget_survivors() -> None:
    """Try again what survived and is not explained, if tests or core are not those of the run before.

    mutmut asks which functions a test calls only when the test is new. An old one may call another function by now, and
    would never be tried on it; so all are asked again.
    """
    state = hashlib.sha256()
    for path in sorted([*(ROOT / "tests").rglob("*.py"), *(ROOT / "core").rglob("*.py")]):
        state.update(path.read_bytes())
    seen = PLACE / "seen.sha256"
    if seen.exists() and seen.read_text() == state.hexdigest():
        return
    (PLACE / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    known = explained()
    for path in SOURCES.rglob("*.meta"):
        meta = json.loads(path.read_text())
        results = meta["exit_code_by_key"]
        alive = [name for name, code in results.items() if code is not None and not is_killed(code)]
        for name, change in zip(alive, changes(path, alive), strict=True):
            if not known[change]:
                results[name] = None
        path.write_text(json.dumps(meta))
    seen.write_text(state.hexdigest())


def is_killed(code: int | None) -> bool:
    """Whether a test has failed, or could not even begin. A mutant that took too long may just have had a busy machine;
    an endless loop is ended by the time limit of a test, and memory by ours."""
    return code in (1, 3)


def run(jobs: int, names: list[str]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.RLIM_INFINITY))
    command = [str(Path(sys.executable).parent / "mutmut"), "run", "--max-children", str(jobs), *names]
    # mutmut runs pytest again and again in one process: with conftest.py's options for programs that tests start, the
    # marks of hypothesis would be missing from the second time on.
    environment = {**os.environ, "PYTEST_ADDOPTS": ""}
    if sys.stdout.isatty():
        subprocess.run(command, cwd=PLACE, env=environment, check=True)
        return
    with (PLACE / "log").open("w") as log:  # a line for every tenth of a second
        if subprocess.run(command, cwd=PLACE, env=environment, stdout=log, stderr=log).returncode:
            sys.exit("mutmut failed:\n" + (PLACE / "log").read_text().replace("\r", "\n")[-2000:])


def changes(meta: Path, names: list[str]) -> list[Change]:
    """What these mutants of a module are, which is known by the file of its results."""
    module = module_of(meta)
    found: list[Change] = []
    for name in names:
        with chdir(PLACE):
            source = Path("src/limpet_core") / meta.relative_to(SOURCES).with_suffix("")
            lines = get_diff_for_mutant(name, path=source).splitlines()[2:]
        out, put = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
        function = name.partition("__mutmut_")[0].rpartition(".")[2]
        found.append((module + "." + function.removeprefix("x_").removeprefix("xǁ").replace("ǁ", "."), out, put))
    return found


def module_of(meta: Path) -> str:
    return meta.name.removesuffix(".py.meta")


def explained() -> Counter[Change]:
    groups = tomllib.loads((Path(__file__).parent / "explained.toml").read_text())["group"]
    return Counter(tuple(change) for group in groups for change in group["mutants"])


def report() -> int:
    """Print the score; return 1 where it is too low or a survivor is not explained."""
    known, unexplained = explained(), []
    bad = False
    totals = [0] * 5
    print(f"{'module':<14}{'mutants':>9}{'killed':>8}{'explained':>11}{'survived':>10}{'untried':>9}{'score':>9}")
    for path in sorted(SOURCES.rglob("*.meta")):
        results: dict[str, int | None] = json.loads(path.read_text())["exit_code_by_key"]
        if not results:
            continue
        killed = sum(map(is_killed, results.values()))
        untried = sum(code is None for code in results.values())
        alive = changes(path, [name for name, code in results.items() if code is not None and not is_killed(code)])
        left: list[Change] = []
        for change in alive:
            if known[change]:
                known[change] -= 1
            else:
                left.append(change)
        unexplained += left
        counts = [len(results), killed, len(alive) - len(left), len(left), untried]
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        bad |= row(module_of(path), counts)
    bad |= row("all", totals)
    for function, out, put in unexplained:
        print(f"\n{function}\n  - {out}\n  + {put}")
    for function, out, put in +known if not totals[-1] else ():
        print(f"\n{function}: explained, but not among the survivors\n  - {out}\n  + {put}")
    return int(bad or bool(unexplained))


def row(name: str, counts: list[int]) -> bool:
    mutants, killed, excused, survived, untried = counts
    # An explained change changes nothing that a test could notice.
    score = 100 * killed / (mutants - untried - excused or 1)
    print(f"{name:<14}{mutants:>9}{killed:>8}{excused:>11}{survived:>10}{untried:>9}{score:>8.1f}%")
    return score < WANTED or untried > 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="See that tests notice changes.")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many at a time")
    parser.add_argument("--report", action="store_true", help="only show the results there are")
    parser.add_argument("names", nargs="*", help="only these, as limpet_core.client.link.*; tried again in any case")
    arguments = parser.parse_args()
    prepare()
    if not arguments.report:
        forget_survivors()
        run(arguments.jobs, arguments.names)
    return report()


if __name__ == "__main__":
    sys.exit(main())
