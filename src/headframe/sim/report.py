"""What is said of simulated worlds: for people, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from headframe.base.quantities import HOUR_US, counted, format_span
from headframe.sim.run import Outcome


def told(outcome: Outcome) -> str:
    """One world in a few lines; the digest stands last, for comparing."""
    jobs = ", ".join(f"{count} {state}" for state, count in outcome.jobs.items()) or "none"
    lines = [
        f"seed {outcome.seed}, scenario {outcome.scenario}: {format_span(outcome.virtual_us)} of virtual time",
        f"  {counted(outcome.ticks, 'tick')}, {counted(outcome.commits, 'commit')}, "
        f"{counted(outcome.deaths, 'death')} of the program",
        f"  jobs: {jobs}",
    ]
    if outcome.refused:
        lines.append("  refused: " + ", ".join(f"{count} {code}" for code, count in outcome.refused.items()))
    if outcome.audit is not None:
        found = outcome.audit
        lines.append(
            f"  audit: {counted(found.allocations, 'allocation')}, {counted(found.charges, 'charge')}, "
            f"{counted(found.invoices, 'invoice')}, "
            + ("no difference" if found.clean else counted(len(found.differences), "difference"))
        )
    lines.append(f"  PROBLEM  {outcome.problem}" if outcome.problem else "  everything held")
    lines.append(f"  digest {outcome.digest}")
    return "\n".join(lines)


def as_json(outcome: Outcome) -> dict[str, Any]:
    """One world as plain values."""
    document = asdict(outcome)
    document["command"] = outcome.command
    if outcome.audit is not None:
        document["audit"]["differences"] = [str(each) for each in outcome.audit.differences]
    return document


def swarm_told(outcomes: Sequence[Outcome], wall_s: float) -> str:
    """Many worlds in a few lines; each failure with the command that replays it."""
    failed = [each for each in outcomes if each.problem]
    hours = sum(each.virtual_us for each in outcomes) / HOUR_US
    lines = [f"  {each.command}\n    {each.problem}" for each in failed]
    lines.append(
        f"{len(outcomes)} seeds, {len(failed)} failed; {len(outcomes) / wall_s:.1f} seeds and {hours / wall_s:.0f} "
        "virtual hours per second"
    )
    return "\n".join(lines)
