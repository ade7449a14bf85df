"""Draw docs/reference/states.md from the transition table of the core: ``python docs/make_diagram.py``.

``--check`` writes nothing; the exit status is 0 if the file is up to date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from limpet_core.client.states import TRANSITIONS, State

TARGET = Path(__file__).parent / "reference" / "states.md"


def diagram() -> str:
    """Return the text of docs/reference/states.md."""
    lines = [
        "# The states of a session",
        "",
        "`docs/make_diagram.py` draws this page from the table in `core/limpet_core/client/states.py`. A session makes",
        "no other transition.",
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
    """Return the meaning of each state, from the docstring of State."""
    lines = re.findall(r"^ +([A-Z]+): (.+)$", State.__doc__ or "", re.MULTILINE)
    return {name: meaning[0].upper() + meaning[1:].replace("``", "`") for name, meaning in lines}


def main() -> None:
    """Write or check the file."""
    if "--check" in sys.argv[1:]:
        sys.exit(0 if TARGET.read_text() == diagram() else f"{TARGET.name} is out of date: run docs/make_diagram.py")
    TARGET.write_text(diagram())


if __name__ == "__main__":
    main()
