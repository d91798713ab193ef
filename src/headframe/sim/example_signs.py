"""What machines and jobs of the example measure and say: made of their names and the moment, so that it can be made
for any moment, past or now, without keeping anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from hashlib import sha256

from headframe.base.quantities import SECOND_US
from headframe.control.ports import LogPiece
from headframe.fleet.engine_words import Launch
from headframe.fleet.records import Accelerator, Allocation
from headframe.jobs.records import Job
from headframe.metrics.records import Measured, Point

LINE_US = 4 * SECOND_US  # a job of the example says something so often
LINE_BYTES = 128  # that offsets count for each line, so that they can be worked out
MOST_LINES = 250_000
IDLERS = 90  # of a thousand jobs: they leave what they hold idle


def character(name: str) -> int:
    """A number from 0 to 999 that belongs to a name."""
    return int.from_bytes(sha256(name.encode()).digest()[:4], "big") % 1000


def wave(name: str, at_us: int, period_s: int) -> float:
    """From -1 to 1, slowly, and other than that of another name."""
    turn = at_us / SECOND_US / period_s + character(name) / 1000
    return math.sin(2 * math.pi * turn) * 0.7 + math.sin(2 * math.pi * turn * 3.7) * 0.3


def signs(
    held: Sequence[Allocation], devices: Sequence[Accelerator], job_of: Callable[[str], Job | None], at_us: int
) -> Measured:
    """Use, memory, power and temperature of every accelerator, and how far each training is."""
    by_device = {share.accelerator_id: one for one in held for part in one.slices for share in part.shares}
    points: list[Point] = []
    for device in devices:
        holder = by_device.get(device.id)
        busy = 0.0
        if holder is not None and holder.running_us is not None:
            lazy = character(holder.job_id) < IDLERS
            # Slow waves: the past is measured every few minutes only, and shall look like the present.
            busy = (30 if lazy else 905) + (20 if lazy else 60) * wave(device.id, at_us, 2100)
        memory = int(device.memory_mib * (0.55 + character(holder.job_id) / 2500)) if holder is not None else 600
        points += [
            Point(device.id, "gpu_busy_milli", "", at_us, max(0.0, min(1000.0, busy))),
            Point(device.id, "gpu_memory_mib", "", at_us, memory),
            Point(device.id, "power_mw", "", at_us, round(70_000 + 600 * busy + 9000 * wave(device.id, at_us, 25))),
            Point(device.id, "temperature_c", "", at_us, round(34 + busy / 28 + 3 * wave(device.id, at_us, 120))),
            Point(device.id, "memory_errors", "", at_us, 0 if device.healthy else 3),
        ]
    for one in held:
        job = job_of(one.job_id)
        if job is not None and one.running_us is not None:
            points += training(job, one, at_us)
    return Measured(tuple(points))


def use_of(launch: Launch, ran_us: int) -> dict[str, int]:
    """How busy a launch was that has run for so long, as its machines would have looked at it."""
    gpus = sum(share.milli for part in launch.slices for share in part.shares) // 1000
    cores, memory = (sum(getattr(part, name) for part in launch.slices) for name in ("cpu_milli", "memory_mib"))
    mood, held_us = character(launch.job_id), gpus * ran_us
    idle_percent = 92 if mood < IDLERS else 3 + mood % 9  # some jobs leave what they hold idle
    busy_us = held_us * (100 - idle_percent) // 100 * (900 + mood % 70) // 1000
    return {
        "cpu_us": cores * ran_us // 3000, "memory_peak_mib": memory * 4 // 9, "sampled_us": ran_us,
        "cpu_idle_us": ran_us * idle_percent // 100, "cpu_peak_milli": cores * 3 // 8, "gpu_us": held_us,
        "gpu_idle_us": held_us * idle_percent // 100, "gpu_busy_us": busy_us, "gpus_used": gpus,
        "gpu_peak_mib": 30_000 + 40 * mood,
    }  # fmt: skip


def training(job: Job, held: Allocation, at_us: int) -> list[Point]:
    """What a training tells of itself."""
    assert held.running_us is not None
    step = (at_us - held.running_us) // LINE_US
    gpus = sum(share.milli for part in held.slices for share in part.shares) / 1000
    tokens = (9000 + 4 * character(job.id)) * gpus * (1 + 0.03 * wave(job.id, at_us, 1900))
    told = {"loss": loss(job.id, step, at_us), "tokens_per_second": tokens, "learning_rate": rate(step)}
    points = [Point(job.id, name, "0", at_us, value, step, reported=True) for name, value in told.items()]
    cores = sum(part.cpu_milli for part in held.slices)
    points.append(Point(job.id, "cpu_milli", "0", at_us, cores * (0.3 + 0.08 * wave(job.id + "c", at_us, 2600))))
    memory = sum(part.memory_mib for part in held.slices)
    points.append(Point(job.id, "memory_mib", "0", at_us, memory * (0.4 + 0.05 * wave(job.id + "m", at_us, 3100))))
    busy = (30 if character(job.id) < IDLERS else 905) + 25 * wave(job.id, at_us, 2100)
    points.append(Point(job.id, "gpu_busy_milli", "0", at_us, max(0.0, min(1000.0, busy))))
    return points


def loss(job_id: str, step: int, at_us: int) -> float:
    rough = character(f"{job_id} {step // 20}") / 1000 - 0.5
    return 1.3 + 7.5 / math.pow(1 + step / 90, 0.34) + 0.09 * rough + 0.02 * wave(job_id, at_us, 1700)


def rate(step: int) -> float:
    return 3e-4 * min(1.0, (step + 1) / 200)


class SpokenLogs:
    """Logs of the example: every running job says a line each few seconds."""

    def __init__(self, job_of: Callable[[str], Job | None], now_us: Callable[[], int]) -> None:
        self._job_of, self._now_us = job_of, now_us

    def _lines(self, job_id: str) -> tuple[int, int]:
        """(when the first line was said, how many there are)."""
        job = self._job_of(job_id)
        if job is None or job.started_us is None or job.parent:
            return 0, 0
        end_us = job.ended_us or self._now_us()
        return job.started_us, min(max(0, (end_us - job.started_us) // LINE_US), MOST_LINES)

    def read(self, job_id: str, offset: int, limit: int) -> tuple[list[LogPiece], int]:
        begin_us, count = self._lines(job_id)
        first = -(-offset // LINE_BYTES)
        last = min(count, first + max(1, limit // LINE_BYTES))
        pieces = [
            LogPiece(number * LINE_BYTES, (number + 1) * LINE_BYTES, begin_us + number * LINE_US, 1, 0,
                     "stderr" if number % 97 == 13 else "stdout", line(job_id, number, begin_us + number * LINE_US))
            for number in range(first, last)
        ]  # fmt: skip
        return pieces, max(offset, last * LINE_BYTES) if pieces else min(offset, count * LINE_BYTES)

    def end(self, job_id: str) -> int:
        return self._lines(job_id)[1] * LINE_BYTES

    def tail(self, job_id: str, lines: int) -> int:
        return max(0, self._lines(job_id)[1] - lines) * LINE_BYTES

    def follow(self, job_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        """The example has no thread for this: whoever follows looks again by itself."""
        return lambda: None


def line(job_id: str, number: int, at_us: int) -> str:
    """What a training says; offsets count `LINE_BYTES` for each line, however short it is."""
    if number == 0:
        text = "\x1b[1mloading checkpoint\x1b[0m /checkpoints/last.safetensors, 14 shards"
    elif number % 97 == 13:
        text = f"\x1b[33mWARNING\x1b[0m step {number}: gradient norm {2 + number % 7 / 3:.3f} was clipped to 1.0"
    elif number % 250 == 0:
        text = f"\x1b[32msaved\x1b[0m checkpoint-{number} in 3.{number % 9}s"
    else:
        text = (
            f"step {number:>7} \x1b[36mloss\x1b[0m {loss(job_id, number, at_us):.4f} lr {rate(number):.2e} "
            f"grad_norm {0.7 + character(job_id) / 2000:.3f} tok/s {9000 + character(job_id) * 4:,}"
        )
    return text[: LINE_BYTES - 1] + "\n"
