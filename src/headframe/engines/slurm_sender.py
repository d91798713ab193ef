"""How a launch becomes a batch job of Slurm, or is handed to the leader of one that runs already."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from headframe.base.errors import ClusterDown, ClusterRefused
from headframe.base.progress import Progress
from headframe.engines.slurm_calls import Submission
from headframe.engines.slurm_held import Held, slice_sums
from headframe.engines.slurm_prepare import Prepared, Site, batch_script, explain, prepare
from headframe.engines.slurm_relay import Seat
from headframe.engines.slurm_words import gres_option
from headframe.fleet.engine_words import Launch

if TYPE_CHECKING:
    from headframe.engines.slurm import SlurmEngine

MINUTE_US = 60_000_000
SPARE_US = 5 * MINUTE_US  # more time in Slurm than max_duration: it is ours to end the job


class Sender:
    """Its calls run on threads of the engine's workers."""

    def __init__(self, engine: SlurmEngine) -> None:
        self.engine = engine

    def begin(self, held: Held, launch: Launch) -> None:
        """Make it ready and submit it."""
        engine = self.engine

        def say(text: str | Progress) -> None:
            stream = "progress" if isinstance(text, Progress) else "system"
            with contextlib.suppress(OSError):
                engine.output.log_of(held.job_id).say(str(text), held.generation, stream)
                engine.output.wake_followers(held.job_id)

        try:
            ready = prepare(engine.machine, launch, self._site(launch), say)
        except Exception as problem:
            why, fault = explain(problem)
            with contextlib.suppress(OSError):
                say(why)
            engine.loop.post(lambda: engine.care.fail(held, why, fault))
            return
        held.prepared = ready
        held.story += ready.story
        held.resumed_from = ready.resumed_from
        if ready.claimed:  # by a batch job that an earlier server submitted
            held.sent = True
            engine.loop.post(lambda: engine.care.unclear(held, ""))
            return
        self.send(held)

    def _site(self, launch: Launch) -> Site:
        engine = self.engine
        owner = engine.users.owner(launch)
        if not engine.settings.pinned:
            return Site(fake=engine.settings.pretended, owner=owner)
        return Site(engine.fleet.names, engine.fleet.addresses, engine.settings.pretended, owner)

    def send(self, held: Held) -> None:
        """Submit it, or hand it over. Once `sent` is on disk that may have been done."""
        engine = self.engine
        if held.cancelled or not held.active or held.launch is None:
            return
        try:
            wanted = self._submission(held, held.launch, held.prepared)
            held.sent = held.submitting = True
            engine.save(held)
            looks, seat = self._seat(held, wanted)
            if seat is not None:
                engine.loop.post(partial(engine.care.handed, held, seat))
                return
            number = engine.calls.submit(replace(wanted, script=self._script(held, looks)))
        except ClusterDown as problem:
            engine.loop.post(partial(engine.care.unclear, held, problem.message))
        except ClusterRefused as problem:
            engine.loop.post(partial(engine.care.fail, held, str(problem), "engine"))
        except Exception as problem:
            why, fault = explain(problem)
            engine.loop.post(lambda: engine.care.fail(held, why, fault))
        else:
            engine.loop.post(lambda: engine.care.sent(held, number))

    def _seat(self, held: Held, wanted: Submission) -> tuple[int, Seat | None]:
        """How often its leader is to look for more, and the leader that has it now, if there is one. Not handed over
        are secrets, half of which is to travel through Slurm, what has a time limit of its own to be counted by Slurm,
        what was handed over before and not begun, and anything on a node that takes no work. Where jobs run as Unix
        users, their notes cannot say whose batch job they are in: nothing is handed over."""
        engine = self.engine
        settings, rows = engine.settings, engine.fleet.rows
        possible = settings.relay and settings.pinned and held.sandboxed and not settings.users
        if not possible or wanted.count > 1 or wanted.minutes:
            return 0, None
        held.shape = (held.organization_id, *_shape(wanted))
        looks = engine.relay.looks(held.shape)
        held.rests = looks > 0
        closed = any(row is None or row.shut or row.down for row in map(rows.get, held.asked))
        if closed or held.prepared.seal or held.batch or held.handed_since is not None:
            return looks, None
        return looks, engine.relay.take(held.shape, held.allocation_id, looks, held.prepared.folder)

    def _script(self, held: Held, looks: int) -> str:
        engine = self.engine
        return batch_script(engine.leader, held.prepared, engine.ear_words(held), engine.settings.watch_s, looks)

    def _submission(self, held: Held, launch: Launch, ready: Prepared) -> Submission:
        """What Slurm is asked for, but for the script."""
        engine = self.engine
        settings, sums, rows = engine.settings, slice_sums(launch), engine.fleet.rows
        unknown = [node for node in sums if node not in rows]
        if settings.pinned and unknown:
            raise ClusterRefused(f"Slurm knows no node {unknown[0]}.", next_step="See `headframe nodes`.")
        gres = {
            gres_option(engine.fleet.gres(node, (share.kind for share in one.shares))) for node, one in sums.items()
        }
        longest, owner = launch.work.get("max_duration_us"), engine.users.owner(launch)
        spare_us = int(launch.work.get("warn_before_stop_us") or 0) + SPARE_US
        return Submission(
            held.name, f"headframe allocation={held.allocation_id} generation={held.generation} job={held.job_id}",
            "", len(sums), max(one[0] for one in held.asked.values()), max(one[1] for one in held.asked.values()),
            gres=max(sorted(gres), key=len), minutes=-(-(longest + spare_us) // MINUTE_US) if longest else 0,
            least_minutes=-(-longest // MINUTE_US) if longest else 0,
            nodes=tuple(rows[node].name for node in sums) if settings.pinned else (),
            together=not settings.pinned and launch.work.get("topology") in ("rack", "block") and len(sums) > 1,
            output=str(ready.folder / "slurm.out"), user=engine.users.name(held.organization_id),
            group=str(owner[1]) if owner is not None else "",
            partition=settings.partition, account=settings.account, qos=settings.qos, more=settings.sbatch,
        )  # fmt: skip


def _shape(wanted: Submission) -> tuple[object, ...]:
    """All that one leader can do for the next; the rest is the same for all batch jobs of the cluster."""
    return wanted.nodes, wanted.cpus, wanted.memory_mib, wanted.gres, wanted.user
