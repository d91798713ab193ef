"""How busy tasks are: the agent looks at them now and then, and keeps sums that stay small (`engine_words.SAMPLED`).

NVML tells how busy accelerators are. It is asked on a thread, because a sick driver may not answer; what it cannot tell
(pretended devices, no driver) is taken from the use of CPU. No bill is made of any of this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headframe.engines.agent_state import Record, now_us

if TYPE_CHECKING:
    from headframe.engines.agent_held import Held

LOOK_SECONDS = 10.0
LOOK_US = int(LOOK_SECONDS * 1_000_000)
IDLE_MILLI = 50  # less than this is idle: thousandths of one core, or of a whole accelerator
SAVE_LOOKS = 6  # the sums are written down after so many looks, and at the end

# What NVML tells of a device: how busy in thousandths, memory in use in MiB.
Reading = tuple[int, int]


def read_devices(names: Sequence[str]) -> dict[str, Reading]:
    """How busy NVIDIA devices are, by their uuid or number; without those that do not tell."""
    found: dict[str, Reading] = {}
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # not installed, no driver, or one that fails in ways of its own
        return found
    try:
        for name in names:
            with contextlib.suppress(pynvml.NVMLError):
                handle = (
                    pynvml.nvmlDeviceGetHandleByIndex(int(name))
                    if name.isdecimal()
                    else pynvml.nvmlDeviceGetHandleByUUID(name)
                )
                busy = int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu) * 10
                used = int(pynvml.nvmlDeviceGetMemoryInfo(handle).used) >> 20
                found[name] = (min(max(busy, 0), 1000), used)
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return found


class Looks:
    """The looks at all that one agent holds. Belongs to the loop's thread; NVML is asked on another."""

    def __init__(
        self,
        held: Callable[[], list[Held]],
        in_thread: Callable[[Callable[[], None]], None],
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._held, self._in_thread, self._post = held, in_thread, post
        self._asking = False
        self._count = 0

    def look(self) -> None:
        """Look at everything that runs."""
        running = [one for one in self._held() if one.active and not one.preparing and one.record.running_us]
        names = sorted({name for one in running for name in _real(one.record)})
        if not names:
            self._take(running, {})
        elif self._asking:  # a driver that hangs is not asked twice
            self._take([one for one in running if not _real(one.record)], {})
        else:
            self._asking = True
            self._in_thread(lambda: self._ask(running, names))

    def _ask(self, running: list[Held], names: list[str]) -> None:
        readings: dict[str, Reading] = {}
        try:
            readings = read_devices(names)
        finally:
            self._post(lambda: self._answered(running, readings))

    def _answered(self, running: list[Held], readings: dict[str, Reading]) -> None:
        self._asking = False
        self._take(running, readings)

    def _take(self, running: list[Held], readings: dict[str, Reading]) -> None:
        self._count += 1
        for one in running:
            if one.active:
                one.look(readings)
                if self._count % SAVE_LOOKS == 0 and one.record.sampled:
                    with contextlib.suppress(OSError):
                        one.record.save(one.host.folders.state)


class Watch:
    """What was seen of one allocation at the last look."""

    def __init__(self) -> None:
        self._at_us: int | None = None
        self._cpu_us = 0

    def look(self, record: Record, cpu_us: int, readings: dict[str, Reading] | None) -> None:
        """Add the time since the last look to the record's sums. `cpu_us` is what all tasks used since they began.

        `readings` None: the end, at which no driver is asked. The first look at what an earlier agent started only
        tells where to count from; what ends before its first look has no sums.
        """
        at_us, before_us = now_us(), self._at_us
        if before_us is None:
            if record.sampled or at_us - record.running_us > 2 * LOOK_US:  # adopted: use before it is in the sums
                before_us = at_us
            elif readings is None:
                return
            else:
                before_us = record.running_us
        span_us, used_us = at_us - before_us, cpu_us - self._cpu_us
        self._at_us, self._cpu_us = at_us, cpu_us
        if span_us <= 0 or used_us < 0:  # the clock was set back
            return
        cores_milli = used_us * 1000 // span_us
        sums = record.sampled
        _add(sums, "sampled_us", span_us)
        _add(sums, "cpu_idle_us", span_us if cores_milli < IDLE_MILLI * len(record.ranks) else 0)
        if span_us * 2 >= LOOK_US:  # a shorter stretch would tell of a spike
            sums["cpu_peak_milli"] = max(sums.get("cpu_peak_milli", 0), cores_milli)
        for name, milli, fake in record.gpus:
            self._device(record, str(name), int(milli) * span_us // 1000, bool(fake), cores_milli, readings)
        if record.gpus:
            sums["gpus_used"] = len(record.busy)

    @staticmethod
    def _device(
        record: Record, name: str, span_us: int, fake: bool, cores_milli: int, readings: dict[str, Reading] | None
    ) -> None:
        """One accelerator's part, weighed by how much of it is held."""
        sums = record.sampled
        reading = None if readings is None else readings.get(name)
        if reading is not None and not fake:
            busy_milli, memory_mib = reading
            sums["gpu_peak_mib"] = max(sums.get("gpu_peak_mib", 0), memory_mib)
        elif fake or readings is not None:
            busy_milli = min(cores_milli, 1000)
            _add(sums, "gpu_guessed_us", span_us)
        else:
            return  # the last stretch: nobody was asked
        _add(sums, "gpu_us", span_us)
        _add(sums, "gpu_busy_us", span_us * busy_milli // 1000)
        _add(sums, "gpu_idle_us", span_us if busy_milli < IDLE_MILLI else 0)
        if busy_milli >= IDLE_MILLI and name not in record.busy:
            record.busy.append(name)


def _real(record: Record) -> list[str]:
    """The accelerators that a driver can tell of."""
    return [str(name) for name, _milli, fake in record.gpus if not fake]


def _add(sums: dict[str, Any], name: str, amount: int) -> None:
    sums[name] = sums.get(name, 0) + amount
