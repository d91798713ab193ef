"""The comparison as a picture: utilization, waiting and fairness, one colour for each policy."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from headframe.base.errors import Invalid, NotFound
from headframe.base.quantities import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from headframe.sim.compare import Run
from headframe.sim.trace_report import curve

COLOURS = ("#1f6feb", "#d9480f", "#2b8a3e", "#862e9c", "#0b7285", "#b08800", "#c2255c", "#495057")
STYLES = ("solid", (0, (6, 2)), (0, (1, 1)), (0, (8, 2, 1, 2)))  # so that lines which lie on each other are all seen
INK, PALE = "#24292f", "#d0d7de"
KINDS = (".png", ".svg", ".pdf")
POINTS = 300
UNITS = ((DAY_US, "days"), (HOUR_US, "hours"), (MINUTE_US, "minutes"), (SECOND_US, "seconds"))


def check_file(file: Path) -> None:
    """Whether a picture can be written there: asked before the replays, which take their time.

    Raises `Invalid` and, without the folder or the extra `charts`, `NotFound`.
    """
    if file.suffix.lower() not in KINDS:
        raise Invalid(f"--out is {file.name!r}.", field="--out", value=str(file), allowed=f"a name that ends in "
                      f"{', '.join(KINDS)}", next_step=f"Give a name that ends in {', '.join(KINDS)}.")  # fmt: skip
    if not file.parent.is_dir():
        raise NotFound(f"There is no folder {file.parent}.", next_step="Make it, or name another with --out.")
    if find_spec("matplotlib") is None:
        raise NotFound("Pictures need matplotlib.", next_step="pip install 'headframe[charts]'")


def picture(runs: Sequence[Run], title: str, file: Path) -> None:
    """Write it; the file's ending says which kind. Raises as `check_file`."""
    check_file(file)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(9.6, 8.4), layout="constrained")
    FigureCanvasAgg(figure)
    used, waiting, took = figure.subplots(3, 1, height_ratios=(1, 1, 1.1))
    figure.suptitle(title, color=INK, fontsize=13, x=0.02, ha="left")
    first_us = min(one.outcome.first_us for one in runs)
    last_us = max(first_us + SECOND_US, *(one.outcome.last_us for one in runs))
    unit_us, unit = next(
        ((size, name) for size, name in UNITS if last_us - first_us >= 3 * size), (SECOND_US, "seconds")
    )
    for place, one in enumerate(runs):
        look: dict[str, Any] = {
            "color": COLOURS[place % len(COLOURS)], "linestyle": STYLES[place % len(STYLES)], "linewidth": 1.6,
        }  # fmt: skip
        each = curve(one.outcome, POINTS, last_us)
        moments = [(number + 0.5) * each.span_us / unit_us for number in range(POINTS)]
        used.plot(moments, [100 * part for part in each.used], label=one.policy, **look)
        waiting.plot(moments, each.waiting, **look)
        fairness = sorted(ended.fairness for ended in one.outcome.ended)
        ranks = [100 * (number + 1) / len(fairness) for number in range(len(fairness))]
        took.step(fairness, ranks, where="post", **look)
    used.set(ylabel="GPUs held, %", ylim=(0, 103), xlim=(0, (last_us - first_us) / unit_us))
    waiting.set(ylabel="jobs waiting", xlabel=unit, xlim=(0, (last_us - first_us) / unit_us))
    waiting.set_ylim(bottom=0)
    took.axvline(1.0, color=INK, linewidth=0.8, linestyle=":")
    took.set(xscale="log", ylabel="% of jobs", ylim=(0, 103),
             xlabel="fairness: time taken, as a multiple of that with an equal share (left of 1: better)")  # fmt: skip
    for axes in (used, waiting, took):
        axes.grid(color=PALE, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK, labelsize=9)
    low, high = took.get_xlim()
    took.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    took.xaxis.set_major_formatter("{x:g}")
    took.xaxis.set_minor_formatter(NullFormatter())
    figure.legend(loc="outside upper right", ncols=min(len(runs), 4), frameon=False, fontsize=10)
    figure.savefig(file, dpi=130, metadata={"Date": None} if file.suffix.lower() == ".svg" else None)
