# python scripts/drawings.py [--check]
"""Draw docs/scheduling-orders.svg: the same six jobs on eight GPUs under several policies, replayed by the real code.

`--check` writes nothing and exits 1 when the drawing differs from what the code does.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from headframe.base.quantities import MINUTE_US
from headframe.scheduling.packing import packing_named
from headframe.sim.trace_jobs import TraceJob, parse_fleet
from headframe.sim.trace_policies import POLICIES
from headframe.sim.trace_replay import Active, Floor, Policy, Replay, Slices

FILE = Path(__file__).parent.parent / "docs" / "scheduling-orders.svg"
FLEET = parse_fleet("1xH100:8")
# (letter, minute of submission, minutes alone, GPUs)
JOBS = (("A", 0, 60, 4), ("B", 0, 40, 8), ("C", 5, 110, 1), ("D", 10, 10, 2), ("E", 15, 50, 4), ("F", 20, 10, 8))
SHOWN = ("fifo", "fair", "srtf", "las", "no-straggler")
COLOURS = ("#1f6feb", "#d9480f", "#2b8a3e", "#862e9c", "#b08800", "#0b7285")
INK, GREY, PALE, PAPER = "#24292f", "#57606a", "#eaeef2", "#ffffff"
LEFT, TOP, MINUTE, LANE, PANEL = 180, 30, 2.6, 9, 96
FONT = "font-family='ui-sans-serif, system-ui, sans-serif'"


@dataclass
class Recorder:
    """A policy that remembers who held what from when to when: (job, GPU, from, to) in microseconds."""

    inner: Policy
    bars: list[tuple[str, int, int, int]] = field(default_factory=list)
    _open: dict[str, tuple[Slices, int]] = field(default_factory=dict)
    _now_us: int = 0

    def __post_init__(self) -> None:
        self.every_us, self.quantum_us, self.moves = self.inner.every_us, self.inner.quantum_us, self.inner.moves

    def arrive(self, floor: Floor, one: Active) -> bool:
        return self.inner.arrive(floor, one)

    def end(self, floor: Floor, one: Active) -> None:
        assert one.finish_us is not None
        self._close(one.job.id, one.finish_us)
        self.inner.end(floor, one)

    def decide(self, floor: Floor, now_us: int) -> Mapping[str, Slices] | None:
        holds = self.inner.decide(floor, now_us)
        if holds is not None:
            gone = [name for name, (slices, _) in self._open.items() if self.moves and holds.get(name) != slices]
            for name in gone:
                self._close(name, now_us)
            for name, slices in holds.items():
                self._open.setdefault(name, (slices, now_us))
        return holds

    def _close(self, name: str, until_us: int) -> None:
        slices, since_us = self._open.pop(name)
        self.bars += [(name, share.index, since_us, until_us) for part in slices for share in part.shares]


def panel(policy: str, top: float, width: float) -> list[str]:
    """One policy's lanes: a row a GPU, time to the right."""
    jobs = [TraceJob(name, at * MINUTE_US, gpus, span * MINUTE_US) for name, at, span, gpus in JOBS]
    recorder = Recorder(POLICIES[policy].make(None))
    outcome = Replay(jobs, FLEET, recorder, FLEET.capacity(packing_named("first"))).run()
    mean = sum(one.took_us for one in outcome.ended) / len(outcome.ended) / MINUTE_US
    lines = [f"<rect x='{LEFT}' y='{top}' width='{width}' height='{8 * LANE}' fill='{PALE}'/>"]
    lines += [
        f"<text x='12' y='{top + 22}' {FONT} font-size='14' font-weight='600' fill='{INK}'>{escape(policy)}</text>",
        f"<text x='12' y='{top + 42}' {FONT} font-size='11' fill='{GREY}'>took {mean:.0f} min on average</text>",
        f"<text x='12' y='{top + 58}' {FONT} font-size='11' fill='{GREY}'>"
        f"all done after {outcome.last_us / MINUTE_US:.0f} min</text>",
    ]
    seen: dict[tuple[str, int], list[float]] = {}
    for name, lane, since_us, until_us in sorted(recorder.bars):
        x, y = LEFT + since_us / MINUTE_US * MINUTE, top + lane * LANE
        colour = COLOURS["ABCDEF".index(name)]
        lines.append(f"<rect x='{x:.1f}' y='{y:.1f}' width='{(until_us - since_us) / MINUTE_US * MINUTE:.1f}' "
                     f"height='{LANE}' fill='{colour}'/>")  # fmt: skip
        seen.setdefault((name, since_us), []).append(y)
        seen[name, since_us].append((until_us - since_us) / MINUTE_US * MINUTE)
    for (name, since_us), places in seen.items():
        rows, span = places[::2], places[1]
        x = LEFT + since_us / MINUTE_US * MINUTE + span / 2
        y = (min(rows) + max(rows) + LANE) / 2 + 4
        if span >= 9:
            lines.append(f"<text x='{x:.1f}' y='{y:.1f}' {FONT} font-size='11' font-weight='600' fill='{PAPER}' "
                         f"text-anchor='middle'>{name}</text>")  # fmt: skip
    return lines


def drawing() -> str:
    last = 222
    width, height = last * MINUTE, TOP + len(SHOWN) * PANEL + 24
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {LEFT + width + 20:.0f} {height}' role='img'>",
        "<title>The same six jobs on eight GPUs under five policies</title>",
        f"<rect width='100%' height='100%' fill='{PAPER}'/>",
    ]
    for place, policy in enumerate(SHOWN):
        lines += panel(policy, TOP + place * PANEL, width)
    for minute in range(0, last + 1, 30):
        x = LEFT + minute * MINUTE
        lines.append(f"<text x='{x:.1f}' y='{TOP - 10}' {FONT} font-size='11' fill='{GREY}' "
                     f"text-anchor='middle'>{minute} min</text>")  # fmt: skip
        for place in range(len(SHOWN)):
            top = TOP + place * PANEL
            lines.append(f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{top}' y2='{top + 8 * LANE}' stroke='{PAPER}' "
                         f"stroke-width='0.7'/>")  # fmt: skip
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> int:
    text = drawing()
    if "--check" in sys.argv[1:]:
        return 0 if FILE.is_file() and FILE.read_text("utf-8") == text else 1
    FILE.write_text(text, "utf-8")
    print(f"wrote {FILE.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
