"""The loop: hear, advance, admit, place, write, tell; then meter, rate, book. One thread, one order, no polling.

Commands and observations wait in an inbox. A tick takes them all, decides in memory, writes everything in one
transaction and only then answers callers and tells engines; so a burst costs one commit, and nobody is told what is
not on record. Whatever goes wrong, the next tick starts from what the store says.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from headframe.base.changes import Changes, Event, gather, revised
from headframe.base.errors import CallerError, HeadframeError, OurError, StoreFailed, TooBusy
from headframe.base.ports import Ids
from headframe.base.quantities import DAY_US, HOUR_US
from headframe.control import clusters
from headframe.control.advance import due, end_for_money, ended, next_timer_us, start
from headframe.control.context import Context
from headframe.control.dispatch import Dispatch
from headframe.control.fair_use import fair_use
from headframe.control.gauges import Gauges
from headframe.control.limits import limit_spending
from headframe.control.observe import hardware, heard, missing
from headframe.control.ports import Blobs, Engine, Store, Vault
from headframe.control.rearrange import next_rearrangement_us
from headframe.control.repair import under_repair
from headframe.control.reservations import keep_reservations, next_reservation_us
from headframe.control.spending import Spending, first_of
from headframe.control.stage_invoices import invoice_due
from headframe.control.stage_money import contracts_due, expire_credit, meter_rate_post
from headframe.control.stage_usage import count_events, levels_due
from headframe.control.timetable import recall
from headframe.control.world import World
from headframe.fleet.engine_words import Observation, Report, Unreachable
from headframe.fleet.records import Cluster
from headframe.jobs.records import ENDED, Job
from headframe.ledger.chain import link
from headframe.metering.records import UsageEvent
from headframe.scheduling.order import RULES, Rules

INBOX_LIMIT = 20_000
RETRY_US = 1_000_000
MONEY_US = 100_000  # while more is to be done, money is counted so often: for many jobs at once
REPORT_US = 60_000_000  # engines are compared with what is on record at least this often
Word = Observation | Report | Unreachable  # what an engine says


@dataclass(slots=True)
class Asked:
    """A command (`writes`) or a question that waits for its turn, and the caller who waits for the answer."""

    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    writes: bool
    answer: Future[Any] = field(default_factory=Future)


class Loop:
    """Owns the world. `tick` is called by one thread; `ask`, `run` and `deliver` may be called by any."""

    def __init__(
        self,
        store: Store,
        engines: Mapping[str, Engine],
        ids: Ids,
        vault: Vault,
        blobs: Blobs,
        now_us: int,
        isolation: str = "preferred",
        rules: Rules = RULES,
        grace_us: int = 0,
    ) -> None:
        self._store, self._engines, self._ids, self._vault, self._blobs = store, engines, ids, vault, blobs
        self._rules = rules
        self._asked: deque[Asked] = deque()
        self._heard: deque[tuple[str, Word]] = deque()
        self._heard_us: dict[str, int] = {}
        self._inquired_us: dict[str, int] = {}
        self._silent: Counter[str] = Counter()  # reports asked for since a cluster last said anything
        self._word_us: dict[str, int] = {}  # when that was
        self._pending: list[Changes] = []
        self._ended: list[Job] = []
        self._open_ends: Counter[str] = Counter()  # of those, by parent
        self._written = Changes()
        self._dispatch = Dispatch(engines, store, vault, isolation)
        self._retry_us: int | None = None
        self.ticks = 0
        self.gauges = Gauges()
        self.nudge: Callable[[], None] = lambda: None
        self.announce: Callable[[Sequence[Event]], None] = lambda events: None
        self.complain: Callable[[BaseException], None] = lambda error: None
        self._grace_us, self._now_us = grace_us, now_us
        self._told_of_use, self._more_use = True, False  # events of use came in; more of them wait to be counted
        self._money_us = 0  # when money was last counted
        self._day_us = 0  # the day (UTC) over which what is kept has been carried on
        self._load(now_us)

    @property
    def store(self) -> Store:
        """Where the facts are."""
        return self._store

    def track(self, address: str) -> None:
        """Tell jobs of this machine that start from now on where to tell of runs."""
        self._dispatch.tracking = address

    # What others hand in.

    def run(self, command: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue a command `(world, context, ...) -> (Changes, result)`; the future answers once it is on record."""
        return self._queue(Asked(command, args, kwargs, writes=True))

    def ask(self, question: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue a question `(world, context, ...) -> result`, which changes nothing."""
        return self._queue(Asked(question, args, kwargs, writes=False))

    def deliver(self, cluster_id: str, item: Word) -> None:
        """An engine says something."""
        self._heard.append((cluster_id, item))
        self.nudge()

    def take_in(self, events: Sequence[UsageEvent]) -> int:
        """Keep events of use, and count them in the next tick; how many are new."""
        kept = self._store.take_in(events)
        if kept:
            self._told_of_use = True
            self.nudge()
        return kept

    def _queue(self, asked: Asked) -> Future[Any]:
        if len(self._asked) >= INBOX_LIMIT:
            raise TooBusy("Too many requests are waiting.", next_step="Try again in a moment.")
        self._asked.append(asked)
        self.nudge()
        return asked.answer

    def refuse(self, error: HeadframeError) -> None:
        """Answer everybody who still waits: there will be no further tick."""
        while self._asked:
            _settle(self._asked.popleft().answer, False, error)

    # The tick.

    def tick(self, now_us: int) -> None:
        """One turn of everything. Raises nothing for what callers did wrong; `complain` hears of our own defects."""
        self.ticks += 1
        self._now_us = now_us
        if self._retry_us is not None and now_us < self._retry_us and not self._asked:
            return  # what was heard waits until the store is tried again
        asked = [self._asked.popleft() for _ in range(len(self._asked))]
        said = [self._heard.popleft() for _ in range(len(self._heard))]
        if self._retry_us is not None and not self._mend(asked, said, now_us):
            return
        try:
            self._turn(asked, said, now_us)
        except Exception as error:
            self._recover(asked, said, error, now_us)

    def next_wake_us(self, now_us: int) -> int | None:
        """When the next tick is due though nobody nudges; None: never."""
        if self._asked or self._more_use:
            return now_us
        if self._retry_us is not None:
            return max(self._retry_us, now_us)
        if self._heard:
            return now_us
        report_us = min(self._inquired_us.values(), default=now_us) + REPORT_US
        return first_of(
            (
                next_timer_us(self.world), self.world.wake_us, next_reservation_us(self.world, now_us),
                next_rearrangement_us(self.world),
                self.spending.next_us(now_us), report_us,
            )
        )  # fmt: skip

    def _turn(self, asked: list[Asked], said: list[tuple[str, Word]], now_us: int) -> None:
        answers = [(one, self._answer(one, now_us)) for one in asked]
        for cluster_id, item in said:
            self._hear(cluster_id, item, now_us)
        self._advance(now_us)
        self._place(now_us)
        self._commit()
        for one, (ok, result) in answers:
            _settle(one.answer, ok, result)
        self._tell(now_us)
        if not (self._asked or self._heard) or not 0 <= now_us - self._money_us < MONEY_US:
            self._money(now_us)
        self._inquire(now_us)

    def _answer(self, one: Asked, now_us: int) -> tuple[bool, Any]:
        """Carry out a command or a question; its error is its caller's, not the tick's."""
        context = Context(now_us, self._ids, self._store, self._vault, self._blobs, self.spending, self.gauges)
        try:
            result = one.call(self.world, context, *one.args, **one.kwargs)
        except StoreFailed:
            raise
        except HeadframeError as error:
            return False, error
        except Exception as error:
            self.complain(error)
            return False, error
        if one.writes:
            changes, result = result
            self._take(changes)
            self._react(now_us)
        return True, result

    def _hear(self, cluster_id: str, item: Word, now_us: int) -> None:
        """An observation as it is; a report as its hardware, its observations, and what it lacks."""
        if isinstance(item, Unreachable):
            self._take(clusters.unreachable(self.world, cluster_id, item.at_us, item.reason, now_us))
            return
        self._silent[cluster_id], self._word_us[cluster_id] = 0, now_us
        if isinstance(item, Observation):
            self._take(heard(self.world, self._dispatch, cluster_id, item, now_us))
            self._react(now_us)
            return
        self._heard_us[cluster_id] = max(self._heard_us.get(cluster_id, 0), item.at_us)
        self._take(clusters.reachable(self.world, cluster_id, now_us))
        told = hardware(self.world, cluster_id, item, now_us)
        self._take(told)
        for one in (*item.observations, *missing(self.world, self._dispatch, cluster_id, item, now_us)):
            self._hear(cluster_id, one, now_us)
        self._take(under_repair(self.world, told.rows, now_us))

    def _advance(self, now_us: int) -> None:
        for changes in due(self.world, self._ids, now_us):
            self._take(changes)
            self._react(now_us)
        for changes in keep_reservations(self.world, now_us):
            self._take(changes)
            self._react(now_us)

    def _react(self, now_us: int) -> None:
        """Ends of jobs bring about more, until they do not."""
        while self._ended:
            job = self._ended.pop()
            family = job.parent_id or ""
            self._open_ends[family] -= 1
            for changes in ended(self.world, job, self._open_ends[family], now_us):
                self._take(changes)
        self._open_ends.clear()
        for changes in due(self.world, self._ids, now_us):
            self._take(changes)

    def _place(self, now_us: int) -> None:
        for changes in start(self.world, self.spending, now_us):
            self._take(changes)
            self._react(now_us)

    def _money(self, now_us: int) -> None:
        """Meter, rate and book what is due; warn and stop what has used up its money; close months."""
        self._money_us = now_us
        metered = meter_rate_post(self.world, self.spending, now_us, self._heard_us)
        self._take(metered)
        self._take(fair_use(self.world, metered.rows))
        self._count(now_us)
        self._take(contracts_due(self.world, self.spending, self._store, now_us))
        self._take(expire_credit(self.world, self.spending, now_us))
        changes, orders = limit_spending(self.world, self.spending, now_us)
        self._take(changes)
        for order in orders:
            self._take(gather(end_for_money(self.world, order, now_us)))
            self._react(now_us)
        self._take(invoice_due(self.world, self.spending, self._store, now_us, self._grace_us))
        self._commit()
        self._tell(now_us)

    def _count(self, now_us: int) -> None:
        """Count events of use that came in; when there are none, carry on what is kept from day to day."""
        if self._told_of_use:
            self._told_of_use = False
            changes, self._more_use = count_events(self.world, self.spending, self._store, now_us)
            self._told_of_use = self._told_of_use or self._more_use
            self._take(changes)
            return
        if now_us - now_us % DAY_US != self._day_us:
            changes = levels_due(self.world, self.spending, self._store, now_us)
            self._day_us = self._day_us if changes else now_us - now_us % DAY_US
            self._take(changes)

    def _inquire(self, now_us: int) -> None:
        """Ask each engine for a full report once a minute, and when an hour has ended that is yet to be metered."""
        hour_us = now_us - now_us % HOUR_US
        for cluster_id, engine in self._engines.items():
            asked_us = self._inquired_us.get(cluster_id, 0)
            if now_us - asked_us >= REPORT_US or (asked_us <= hour_us and cluster_id in self.spending.hours):
                self._inquired_us[cluster_id] = now_us
                self._take(self._silence(cluster_id, now_us))
                self._silent[cluster_id] += 1
                try:
                    engine.request_report()
                except Exception as error:  # an engine that cannot even be asked is not heard of
                    self.complain(error)
        for cluster_id in sorted(self.world.all(Cluster).keys() - self._engines.keys()):
            self._take(clusters.unreachable(self.world, cluster_id, now_us, clusters.NO_ENGINE, now_us))
        self._commit()

    def _silence(self, cluster_id: str, now_us: int) -> Changes:
        """A cluster that has left several inquiries unanswered cannot be reached."""
        since_us = self._word_us.setdefault(cluster_id, now_us)
        if self._silent[cluster_id] < clusters.IN_VAIN:
            return Changes()
        return clusters.unreachable(self.world, cluster_id, since_us, "nothing is heard of its engine", now_us)

    # How changes become facts.

    def _take(self, changes: Changes) -> None:
        """Number the events, chain the transfers, alter the warm world, and keep the changes for the commit."""
        if not changes:
            return
        seq = self.world.last_event_seq
        events = tuple(revised(one, seq=seq + number) for number, one in enumerate(changes.events, 1))
        rows = link(changes.rows, self.world.last_transfer, self._now_us)
        changes = Changes(rows, events, changes.actions)
        for row in changes.rows:
            if isinstance(row, Job) and row.state in ENDED:
                self._ended.append(row)
                self._open_ends[row.parent_id or ""] += 1
        self.world.apply(changes)
        self.spending.apply(self.world, changes)
        self._pending.append(changes)

    def _commit(self) -> None:
        if not self._pending:
            return
        changes = gather(self._pending)
        self._store.apply(changes)
        self._pending.clear()
        self._written, self.recorded_seq = changes, self.world.last_event_seq
        if changes.events:
            self.announce(changes.events)

    def _tell(self, now_us: int) -> None:
        """Orders that follow from what has just been written."""
        written, self._written = self._written, Changes()
        self._dispatch.follow(self.world, written.rows, written.actions, now_us)
        self._heard.extend(self._dispatch.failed)
        self._dispatch.failed.clear()
        self._dispatch.send()
        while self._dispatch.troubles:
            self.complain(self._dispatch.troubles.pop(0))

    # When something goes wrong.

    def _recover(self, asked: list[Asked], said: list[tuple[str, Word]], error: Exception, now_us: int) -> None:
        """Go back to what the store says; then let each caller have a turn alone, or try again later."""
        waiting = [one for one in asked if not one.answer.done()]
        self._drop()
        loaded = self._reload(now_us)
        if isinstance(error, StoreFailed) or not loaded:
            self.complain(error)
            self._fail(waiting, error)
            self._wait(said, now_us)
        elif waiting:
            self._one_by_one(waiting, said, now_us)
        else:
            self._give_up(error, now_us)

    def _one_by_one(self, waiting: list[Asked], said: list[tuple[str, Word]], now_us: int) -> None:
        """What cannot stand together: each caller in a transaction of its own, so that only the guilty fails."""
        for number, one in enumerate(waiting):
            try:
                ok, result = self._answer(one, now_us)
                self._commit()
                _settle(one.answer, ok, result)
                self._tell(now_us)
            except Exception as error:
                self._drop()
                if not isinstance(error, CallerError):
                    self.complain(error)
                _settle(one.answer, False, error)
                if not self._reload(now_us):
                    self._fail(waiting[number:], error)
                    self._wait(said, now_us)
                    return
        try:
            self._turn([], said, now_us)
        except StoreFailed as error:
            self._drop()
            self._reload(now_us)
            self.complain(error)
            self._wait(said, now_us)
        except Exception as error:
            self._drop()
            self._reload(now_us)
            self._give_up(error, now_us)

    def _wait(self, said: list[tuple[str, Word]], now_us: int) -> None:
        """The store does not work: keep what was heard, and try again later."""
        self._heard.extendleft(reversed(said))
        self._retry_us = now_us + RETRY_US

    def _give_up(self, error: Exception, now_us: int) -> None:
        """A defect of ours in what was heard or in what time brings: leave it out, and ask engines how things are."""
        self.complain(error)
        self._retry_us = now_us + RETRY_US
        for engine in self._engines.values():
            engine.request_report()

    def _mend(self, asked: list[Asked], said: list[tuple[str, Word]], now_us: int) -> bool:
        """After the store failed: load anew, or keep waiting. True when work can go on."""
        if not self._reload(now_us):
            failed = StoreFailed("The store cannot be read.", next_step="Look at the server's log; try again later.")
            self._fail(asked, failed)
            self._wait(said, now_us)
            return False
        for engine in self._engines.values():
            engine.request_report()
        return True

    def _reload(self, now_us: int) -> bool:
        """Load the world anew; False when the store cannot be read. Then what is in memory must not be acted on."""
        try:
            self._load(now_us)
        except HeadframeError as error:
            self.complain(error)
            return False
        return True

    def _load(self, now_us: int) -> None:
        """The world as the store tells it; nothing else is remembered."""
        store = self._store
        self.world = World.of(
            store.load(), store.balances(), store.last_event_seq(), store.last_invoice(), store.last_transfer()
        )
        self.world.rules, self.recorded_seq = self._rules, self.world.last_event_seq
        self.spending = Spending.of(self.world, store, now_us)
        recall(self.world, store)
        self._written = Changes()
        self._retry_us = None
        self._told_of_use, self._more_use, self._day_us = True, False, 0

    def _drop(self) -> None:
        self._pending.clear()
        self._ended.clear()
        self._open_ends.clear()
        self._heard_us.clear()  # a report that was undone vouches for nothing
        self._dispatch.drop()

    @staticmethod
    def _fail(waiting: list[Asked], error: Exception) -> None:
        for one in waiting:
            _settle(one.answer, False, error)


def _settle(answer: Future[Any], ok: bool, result: Any) -> None:
    """Answer a caller; ours are the errors that nobody meant."""
    if answer.done() or not answer.set_running_or_notify_cancel():
        return
    if ok:
        answer.set_result(result)
    elif isinstance(result, HeadframeError):
        answer.set_exception(result)
    else:
        failure = OurError("Headframe failed to carry this out.", next_step="Try again; if it stays, report it.")
        failure.__cause__ = result
        answer.set_exception(failure)
