"""From what the agent of a machine measures to points that control knows: whose they are, and what is pretended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headframe.engines.agent_points import GPU
from headframe.engines.machine import Found
from headframe.fleet.records import Accelerator
from headframe.metrics.records import Measured, Point

# The most that devices draw, in watts, as the makers' data sheets give it; a quarter of it when they rest.
DATA_SHEET_W = {
    "A10": 150, "A100": 400, "A30": 165, "A40": 300, "A6000": 300, "B200": 1000, "B300": 1400, "GH200": 900,
    "H100": 700, "H200": 700, "H20": 400, "L4": 72, "L40": 300, "L40S": 350, "MI300X": 750, "RTX3090": 350,
    "RTX4090": 450, "RTX5090": 575, "T4": 70, "V100": 300,
}  # fmt: skip


def measured(machine: Found, plain: Sequence[Sequence[Any]]) -> Measured:
    """Points as the agent says them, with the ids of this machine; of pretended devices what a real one would tell."""
    cards = {str(each["cuda"]): card_id for card_id, each in machine.devices.items()}
    known = {card.id: card for card in machine.accelerators}
    points: list[Point] = []
    for subject, name, part, at_us, value, step, reported in plain:
        whose = cards.get(subject[len(GPU) :], "") if subject.startswith(GPU) else subject or machine.node.id
        card_id = cards.get(part[len(GPU) :], "") if part.startswith(GPU) and not reported else ""
        if not whose:
            continue
        points.append(Point(whose, name, card_id or part, at_us, value, step, bool(reported)))
        card = known.get(card_id or whose)
        if card is not None and card.fake and name == "gpu_busy_milli" and not reported:
            points += [Point(whose, more, card_id, at_us, told) for more, told in _pretended(card, int(value))]
    return Measured(tuple(points))


def _pretended(card: Accelerator, busy_milli: int) -> list[tuple[str, int]]:
    """What a device of this kind would draw, and how warm it would get, when it is so busy."""
    most_mw = DATA_SHEET_W.get(card.kind, 300) * 1000
    return [
        ("power_mw", most_mw // 4 + most_mw * 3 // 4 * busy_milli // 1000),
        ("temperature_c", 32 + 40 * busy_milli // 1000),
    ]
