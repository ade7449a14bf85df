"""Draw docs/states.md from the transition table of the core: ``python docs/make_diagram.py``.

With ``--check`` nothing is written, and the exit status says whether the file is up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from holdfast_core._states import TRANSITIONS, State

TARGET = Path(__file__).parent / "states.md"


def diagram() -> str:
    """The whole of docs/states.md."""
    lines = [
        "# The states of a session",
        "",
        "Drawn by `docs/make_diagram.py` from the table in `core/holdfast_core/_states.py`, which the code obeys.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> STOPPED",
    ]
    lines += [f"    {source.name} --> {target.name}: {why}" for (source, target), why in TRANSITIONS.items()]
    lines += ["```", "", "| state | meaning |", "|---|---|"]
    meanings = _meanings()
    lines += [f"| `{state.name}` | {meanings[state.name]} |" for state in State]
    return "\n".join(lines) + "\n"


def _meanings() -> dict[str, str]:
    """The string below each member of State, from its source: Python does not keep it."""
    import ast
    import inspect
    import textwrap

    (cls,) = ast.parse(textwrap.dedent(inspect.getsource(State))).body
    assert isinstance(cls, ast.ClassDef)
    found: dict[str, str] = {}
    for member, doc in zip(cls.body, cls.body[1:], strict=False):
        if isinstance(member, ast.Assign) and isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant):
            target = member.targets[0]
            assert isinstance(target, ast.Name)
            found[target.id] = str(doc.value.value)
    return found


def main() -> None:
    """Write or check the file."""
    if "--check" in sys.argv[1:]:
        sys.exit(0 if TARGET.read_text() == diagram() else "docs/states.md is out of date: run docs/make_diagram.py")
    TARGET.write_text(diagram())


if __name__ == "__main__":
    main()
