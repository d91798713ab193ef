"""How busy tasks are: the agent looks at them now and then, and keeps sums that stay small (`engine_words.SAMPLED`).

NVML tells how busy accelerators are. It is asked on a thread, because a sick driver may not answer; what it cannot tell
(pretended devices, no driver) is taken from the use of CPU. No bill is made of any of this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from headframe.engines.agent_roles import Holding
from headframe.engines.agent_state import Record, now_us

PULSE_SECONDS = 2.0  # how often points are taken
LOOK_SECONDS = 10.0  # how often the sums are
MANY = 50  # allocations: of more, points are taken as rarely as the sums
LOOK_US = int(LOOK_SECONDS * 1_000_000)
IDLE_MILLI = 50  # less than this is idle: thousandths of one core, or of a whole accelerator
SAVE_LOOKS = 6  # the sums are written down after so many looks, and at the end


class Reading(NamedTuple):
    """What NVML tells of a device: how busy in thousandths, memory in use in MiB; and where the device knows, power in
    thousandths of a watt, degrees Celsius, and memory errors that could not be mended."""

    busy_milli: int
    memory_mib: int
    power_mw: int | None = None
    temperature_c: int | None = None
    errors: int | None = None

    def figures(self) -> list[tuple[str, int]]:
        """By the names of `metrics.names`."""
        told = (
            ("gpu_busy_milli", self.busy_milli), ("gpu_memory_mib", self.memory_mib), ("power_mw", self.power_mw),
            ("temperature_c", self.temperature_c), ("memory_errors", self.errors),
        )  # fmt: skip
        return [(name, value) for name, value in told if value is not None]


def read_devices(names: Sequence[str] | None = None) -> dict[str, Reading]:
    """How busy NVIDIA devices are, by their uuid or number (None: all, by uuid); without those that do not tell."""
    found: dict[str, Reading] = {}
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # not installed, no driver, or one that fails in ways of its own
        return found
    try:
        for name in names if names is not None else map(str, range(pynvml.nvmlDeviceGetCount())):
            with contextlib.suppress(pynvml.NVMLError):
                handle = (
                    pynvml.nvmlDeviceGetHandleByIndex(int(name))
                    if name.isdecimal()
                    else pynvml.nvmlDeviceGetHandleByUUID(name)
                )
                uuid = name if names is not None else pynvml.nvmlDeviceGetUUID(handle)
                found[(uuid if isinstance(uuid, str) else uuid.decode()) or name] = _read(pynvml, handle)
    except pynvml.NVMLError:
        pass  # the driver went away while we asked
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return found


def _read(nvml: Any, handle: Any) -> Reading:
    busy = int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu) * 10
    used = int(nvml.nvmlDeviceGetMemoryInfo(handle).used) >> 20
    more: list[int | None] = []
    questions: tuple[Callable[[], Any], ...] = (
        lambda: nvml.nvmlDeviceGetPowerUsage(handle),
        lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
        lambda: nvml.nvmlDeviceGetTotalEccErrors(
            handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        ),
    )
    for ask in questions:
        try:
            more.append(int(ask()))
        except nvml.NVMLError:  # not every device knows
            more.append(None)
    return Reading(min(max(busy, 0), 1000), used, *more)


class Looks:
    """The looks at all that one agent holds. Belongs to the loop's thread; NVML is asked on another."""

    def __init__(
        self,
        held: Callable[[], list[Holding]],
        in_thread: Callable[[Callable[[], None]], None],
        post: Callable[[Callable[[], None]], None],
        measure: Callable[[list[Holding], dict[str, Reading]], None] = lambda held, readings: None,
    ) -> None:
        self._held, self._in_thread, self._post, self._measure = held, in_thread, post, measure
        self._asking = False
        self._has_driver = True
        self._pulses = self._count = 0

    def pulse(self) -> bool:
        """Take points of everything that runs; every so many times a look for the sums, and then True."""
        self._pulses += 1
        sums = self._pulses * PULSE_SECONDS % LOOK_SECONDS == 0
        self.look(sums)
        return sums

    def look(self, sums: bool = True) -> None:
        """Look at everything that runs, and at the machine."""
        running = [one for one in self._held() if one.active and not one.preparing and one.record.running_us]
        if not sums and len(running) > MANY:
            return
        names = sorted({name for one in running for name in _real(one.record)})
        if not names and not self._has_driver:
            self._take(running, {}, sums)
        elif self._asking:  # a driver that hangs is not asked twice
            self._take([one for one in running if not _real(one.record)], {}, sums)
        else:
            self._asking = True
            self._in_thread(lambda: self._ask(running, sums))

    def _ask(self, running: list[Holding], sums: bool) -> None:
        readings: dict[str, Reading] = {}
        try:
            readings = read_devices()
        finally:
            self._post(lambda: self._answered(running, readings, sums))

    def _answered(self, running: list[Holding], readings: dict[str, Reading], sums: bool) -> None:
        self._asking, self._has_driver = False, bool(readings)
        self._take(running, readings, sums)

    def _take(self, running: list[Holding], readings: dict[str, Reading], sums: bool) -> None:
        self._measure(running, readings)
        if not sums:
            return
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

    def look(self, record: Record, cpu_us: int, readings: Mapping[str, Reading] | None) -> None:
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
        record: Record, name: str, span_us: int, fake: bool, cores_milli: int, readings: Mapping[str, Reading] | None
    ) -> None:
        """One accelerator's part, weighed by how much of it is held."""
        sums = record.sampled
        reading = None if readings is None else readings.get(name)
        if reading is not None and not fake:
            busy_milli, memory_mib = reading[:2]
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
