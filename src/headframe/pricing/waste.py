"""What was paid for and stood idle, in money, and what would have been enough.

From what was held and charged, and from looks at how busy it was (`Measured`). Looks are samples: good for advice,
never for a bill. What was not looked at is told apart, not guessed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from headframe.base.quantities import MINUTE_US

LEAST_LOOK_US = MINUTE_US  # advice needs to have seen so much
CPU_SPARE_PERCENT, MEMORY_SPARE_PERCENT = 20, 25  # what is left above the most that was used
MIB_OF_GIB = 1024
OFTEN_IDLE_PERCENT = 30


@dataclass(frozen=True, slots=True)
class Measured:
    """How busy one allocation was, summed over its looks (times in microseconds).

    `gpu_us` is looked-at time of accelerators (each by itself, a half one half), `gpu_idle_us` the part under 5 % busy,
    `gpu_busy_us` time x how busy, `gpu_guessed_us` the part taken from the use of CPU because no driver told.
    `gpus_used` counts accelerators that were ever busy. `memory_peak_mib` is the most of any task.
    """

    sampled_us: int = 0
    cpu_idle_us: int = 0
    cpu_peak_milli: int = 0
    gpu_us: int = 0
    gpu_idle_us: int = 0
    gpu_busy_us: int = 0
    gpu_guessed_us: int = 0
    gpus_used: int = 0
    gpu_peak_mib: int = 0
    memory_peak_mib: int = 0


@dataclass(frozen=True, slots=True)
class Holding:
    """What one allocation held and what that was worth.

    `gpu_milli` is in all, `gpus` counts the devices, `cpu_milli` and `memory_mib` are of each of its `tasks`.
    `gpu_nano` is what its accelerators cost, `gpu_milli_us` for how much of them (thousandths x microseconds);
    `cpu_nano` and `memory_nano` the rest.
    """

    gpu_milli: int
    gpus: int
    cpu_milli: int
    memory_mib: int
    tasks: int
    gpu_milli_us: int
    gpu_nano: int
    cpu_nano: int
    memory_nano: int


@dataclass(frozen=True, slots=True)
class Waste:
    """What was held and stood idle. Adds up over allocations.

    `gpu_milli_us` was held (thousandths x microseconds) for `gpu_nano`; of `looked_nano` (accelerators, or CPU for work
    without any) it is known how busy it was: `wasted_nano` of it went to idle time. `unlooked_nano` is the rest.
    `unused_nano` is what was promised by contract, paid, and held by nobody.
    """

    gpu_milli_us: int = 0
    gpu_nano: int = 0
    gpu_us: int = 0
    gpu_idle_us: int = 0
    gpu_busy_us: int = 0
    gpu_guessed_us: int = 0
    looked_nano: int = 0
    wasted_nano: int = 0
    unlooked_nano: int = 0
    unused_nano: int = 0

    def __add__(self, other: Waste) -> Waste:
        names = self.__dataclass_fields__
        return Waste(**{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def idle_percent(self) -> int | None:
        """Of the looked-at time of accelerators, the part that they were idle."""
        return 100 * self.gpu_idle_us // self.gpu_us if self.gpu_us else None

    @property
    def busy_percent(self) -> int | None:
        """How busy accelerators were in the mean."""
        return 100 * self.gpu_busy_us // self.gpu_us if self.gpu_us else None


@dataclass(frozen=True, slots=True)
class Advice:
    """Ask for less of `what` ("gpu", "cpu" in thousandths, "memory" in MiB; of each task): `enough` rather than `held`.

    `saves_nano` is what that would have saved of what was charged.
    """

    what: str
    held: int
    enough: int
    saves_nano: int
    text: str


def waste_of(held: Holding, seen: Measured) -> Waste:
    """The waste of one allocation: the cost of its accelerators by their idle time; without any, that of its CPU."""
    if not held.gpu_milli:
        idle = held.cpu_nano * seen.cpu_idle_us // seen.sampled_us if seen.sampled_us else 0
        looked = held.cpu_nano if seen.sampled_us else 0
        return Waste(looked_nano=looked, wasted_nano=idle, unlooked_nano=held.cpu_nano - looked)
    looked = held.gpu_nano if seen.gpu_us else 0
    return Waste(
        gpu_milli_us=held.gpu_milli_us,
        gpu_nano=held.gpu_nano,
        gpu_us=seen.gpu_us,
        gpu_idle_us=seen.gpu_idle_us,
        gpu_busy_us=seen.gpu_busy_us,
        gpu_guessed_us=seen.gpu_guessed_us,
        looked_nano=looked,
        wasted_nano=looked * seen.gpu_idle_us // seen.gpu_us if seen.gpu_us else 0,
        unlooked_nano=held.gpu_nano - looked,
    )


def advise(parts: Iterable[tuple[Holding, Measured]]) -> tuple[Advice, ...]:
    """What would have been enough for all of these allocations (of one job), the dearest first.

    Nothing is said of what was looked at for less than a minute.
    """
    seen = [(held, measured) for held, measured in parts if measured.sampled_us >= LEAST_LOOK_US]
    if not seen:
        return ()
    found = [*_gpus(seen), *_cpu(seen), *_memory(seen)]
    return tuple(sorted(found, key=lambda one: (-one.saves_nano, one.what)))


Seen = list[tuple[Holding, Measured]]


def _gpus(seen: Seen) -> list[Advice]:
    looked = [(held, measured) for held, measured in seen if measured.gpu_us >= LEAST_LOOK_US]
    if not looked:
        return []
    gpus, used = max(held.gpus for held, _ in looked), max(measured.gpus_used for _, measured in looked)
    cost = sum(held.gpu_nano for held, _ in looked)
    guessed = all(measured.gpu_guessed_us == measured.gpu_us for _, measured in looked)
    judged = " (judged by its use of CPU, as no driver told)" if guessed else ""
    if not used:
        text = f"No accelerator was ever busy{judged}: it may need none."
        return [Advice("gpu", gpus, 0, cost, text)]
    if used < gpus:
        text = f"Ask for {used} accelerators rather than {gpus} in all: the others were never busy{judged}."
        return [Advice("gpu", gpus, used, cost * (gpus - used) // gpus, text)]
    idle = 100 * sum(measured.gpu_idle_us for _, measured in looked) // sum(measured.gpu_us for _, measured in looked)
    if idle >= OFTEN_IDLE_PERCENT:
        text = f"Its accelerators stood idle {idle} % of the time{judged}: look at what they wait for, or share one."
        return [Advice("gpu", gpus, gpus, 0, text)]
    return []


def _cpu(seen: Seen) -> list[Advice]:
    tasks = max(one.tasks for one, _ in seen)
    held_milli = max(one.cpu_milli for one, _ in seen)
    peak_milli = -(-max(measured.cpu_peak_milli for _, measured in seen) // tasks)
    if not peak_milli:
        return []
    enough = max(1000, -(-peak_milli * (100 + CPU_SPARE_PERCENT) // 100_000) * 1000)
    if enough >= held_milli:
        return []
    cost = sum(one.cpu_nano for one, _ in seen)
    held, peak = _thousandths(held_milli), _thousandths(peak_milli)
    text = f"Ask for {enough // 1000} cores rather than {held}: at most {peak} were used."
    return [Advice("cpu", held_milli, enough, cost * (held_milli - enough) // held_milli, text)]


def _memory(seen: Seen) -> list[Advice]:
    held_mib = max(one.memory_mib for one, _ in seen)
    peak_mib = max(measured.memory_peak_mib for _, measured in seen)
    if not peak_mib:
        return []
    enough = -(-peak_mib * (100 + MEMORY_SPARE_PERCENT) // (100 * MIB_OF_GIB)) * MIB_OF_GIB
    if enough >= held_mib:
        return []
    cost = sum(one.memory_nano for one, _ in seen)
    held = _thousandths(held_mib * 1000 // MIB_OF_GIB)
    text = f"Ask for {enough // MIB_OF_GIB} GiB rather than {held}: at most {peak_mib} MiB were used."
    return [Advice("memory", held_mib, enough, cost * (held_mib - enough) // held_mib, text)]


def _thousandths(number: int) -> str:
    """`1.5` of 1500."""
    whole, rest = divmod(number, 1000)
    return f"{whole}.{rest:03d}".rstrip("0") if rest else str(whole)
