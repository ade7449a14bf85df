"""The chart of docs/explanation/performance.md: what it costs to receive a message, client by client."""

from __future__ import annotations

import statistics
from pathlib import Path

import _harness as harness
import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.patches import Patch
from matplotlib.ticker import StrMethodFormatter

OURS, OTHERS, BY_HAND = "#0b7285", "#e8590c", "#ced4da"
KINDS = {OURS: "Limpet", OTHERS: "official clients", BY_HAND: "by hand: receives, and does nothing else"}
STYLE = {
    "svg.hashsalt": "limpet",  # the same figures make the same file
    "svg.fonttype": "none",  # text stays text: a tenth of the size, and it can be searched
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}
ORDER = ["picows", "ours", "ours-uvloop", "ours-trio", "ours-anyio", "ours-sync", "js", "wsproto", "aio", "sync"]


def draw(parts: dict[str, harness.Results], path: Path) -> None:
    """One panel for each part; horizontal bars of CPU for each message, on a logarithmic scale."""
    with mpl.rc_context(STYLE):
        rows = (len(parts) + 1) // 2
        figure, panels = plt.subplots(rows, 2, figsize=(10, 0.9 + 2.7 * rows), layout="constrained", squeeze=False)
        for panel, (title, results) in zip(panels.flat, parts.items(), strict=False):
            _panel(panel, title, results)
        for panel in panels.flat[len(parts) :]:
            panel.set_visible(False)
        figure.suptitle(
            "CPU time to receive one message: shorter is better; the scale is logarithmic", fontsize=12, weight="bold"
        )
        patches = [Patch(color=color, label=kind) for color, kind in KINDS.items()]
        figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)


def _panel(panel: plt.Axes, title: str, results: harness.Results) -> None:
    good = {name: [run for run in results.get(name, []) if harness.good(run)] for name in ORDER}
    costs = {name: statistics.median(map(harness.cpu, runs)) for name, runs in good.items() if runs}
    names = list(costs)
    colors = [
        OURS if name.startswith("ours") else BY_HAND if name in ("picows", "wsproto") else OTHERS for name in names
    ]
    bars = panel.barh([harness.label(name) for name in names], list(costs.values()), color=colors, height=0.72)
    base = costs.get("ours")
    texts = [
        f"{cost:.3g} us" + (f"  ({cost / base:.3g} x)" if base and not name.startswith("ours") else "")
        for name, cost in costs.items()
    ]
    panel.bar_label(bars, texts, padding=4, fontsize=8)
    panel.invert_yaxis()
    panel.set_xscale("log")
    panel.set_xlim(0.5, 5000)  # the same in all panels: lengths can be compared
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g} us"))
    panel.minorticks_off()
    panel.set_title(title, loc="left", fontsize=10, weight="bold")
    panel.tick_params(left=False)
    for tick, name in zip(panel.get_yticklabels(), names, strict=True):
        if name.startswith("ours"):
            tick.set_color(OURS)
            tick.set_weight("bold")
