"""Who comes first: the registry of order policies, one line each.

A policy is a key over the facts of a waiting job; the least key comes first. Keys end on the moment of submission and
the id, so that no tie is left to chance. The same policies order the product's queue and the replays of traces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headframe.base.errors import Invalid
from headframe.base.quantities import DAY_US, HOUR_US, SECOND_US

Key = tuple[int | str, ...]
UNKNOWN_US = 1 << 62  # a job of which nobody knows how long it runs comes after all that are known
TOP_PRIORITY = 100


@dataclass(frozen=True, slots=True)
class Facts:
    """What an order may look at. Times in microseconds, sizes in thousandths of a GPU.

    `rank` is the class (0: reserved, 1: on-demand, 2: spot, 3: filler). `gpu_milli` is what the whole gang holds.
    `remaining_us` is how long it still has to run, when anybody knows; `attained_us` how long it has run so far, over
    all attempts. `borrows` says that a start would take its owner over what is guaranteed to it (1: inside its
    organization, 2: beyond); `share` is what its organization and its project have used and hold, in millionths of the
    cloud by weight. `overdue` says that it has waited for longer than the cloud's patience since it came or last ran.
    """

    job_id: str
    submitted_us: int
    rank: int = 1
    priority: int = 50
    gpu_milli: int = 1000
    remaining_us: int | None = None
    attained_us: int = 0
    waited_us: int = 0
    borrows: int = 0
    share: tuple[int, ...] = ()
    overdue: bool = False

    @property
    def level(self) -> int:
        """The priority that counts: the highest once the job is overdue, so that nothing starves."""
        return TOP_PRIORITY if self.overdue else self.priority

    @property
    def left_us(self) -> int:
        return UNKNOWN_US if self.remaining_us is None else self.remaining_us

    @property
    def width(self) -> int:
        """The gang's size in thousandths of a GPU; a job without GPUs counts as the smallest."""
        return max(self.gpu_milli, 1)


@dataclass(frozen=True, slots=True)
class Order:
    """A policy. `meaning` is a sentence that one can choose by.

    `strict`: what comes first and cannot start holds up everything behind it. `by_job`: jobs that ask for the same
    may still differ in the order, so that each has to be looked at. `by_share`: it looks at what owners have used and
    borrow. `takes_turns`: a running job with checkpoints makes way for one that comes before it, after a quantum.
    """

    name: str
    meaning: str
    key: Callable[[Facts], Key]
    strict: bool = False
    by_job: bool = False
    by_share: bool = False
    takes_turns: bool = False


def fair_key(rank: int, borrows: int, level: int, share: tuple[int, ...], one: tuple[int, str]) -> Key:
    """The key of the policy `fair`; `one` is the moment of submission and the job's id."""
    return rank, -level, borrows, *share, *one


def among_all(inside: Key, share: int) -> Key:
    """The `fair_key` with the share of the organization, of one that was made with that of the project only."""
    return *inside[:3], share, *inside[3:]


def fair(facts: Facts) -> Key:
    return fair_key(facts.rank, facts.borrows, facts.level, facts.share, (facts.submitted_us, facts.job_id))


def _fifo(facts: Facts) -> Key:
    return facts.submitted_us, facts.job_id


def _aged(key: Callable[[Facts], int]) -> Callable[[Facts], Key]:
    """By class, then by this; but before that, by age, those who are overdue: so that nothing starves."""

    def aged(facts: Facts) -> Key:
        if facts.overdue:
            return facts.rank, 0, 0, facts.submitted_us, facts.job_id
        return facts.rank, 1, key(facts), facts.submitted_us, facts.job_id

    return aged


ORDERS: dict[str, Order] = {
    order.name: order
    for order in (
        Order("fair", "By class, priority, what is guaranteed before what is borrowed, fair share, then age.", fair,
              by_share=True),
        Order("fifo", "Strictly by age: what cannot start holds up everything behind it.", _fifo, strict=True),
        Order(
            "shortest-first", "By class, then the job with the least time left to run; running jobs make way.",
            _aged(lambda facts: facts.left_us), by_job=True, takes_turns=True,
        ),
        Order(
            "shortest-service", "By class, then the job with the least GPU time left; running jobs make way.",
            _aged(lambda facts: facts.left_us * facts.width), by_job=True, takes_turns=True,
        ),
        Order(
            "least-attained-service",
            "By class, then the job that has had the least GPU time so far; running jobs take turns.",
            _aged(lambda facts: facts.attained_us * facts.width), by_job=True, takes_turns=True,
        ),
    )
}  # fmt: skip
DEFAULT = "fair"


@dataclass(frozen=True, slots=True)
class Rules:
    """How a cloud chooses. `order` names a policy.

    What was used is half forgotten after `half_life_us`. After `patience_us` a waiting job counts as of the highest
    priority; under orders without priorities it comes before all who have waited for less. A running job makes way for
    another one's turn after `quantum_us` at the earliest. An owner that has waited for `reclaim_after_us` takes back
    what is guaranteed to it. `by_priority`: a higher priority may stop a lower one of its own class. `moves`: jobs with
    checkpoints are moved to make one place of what is free but scattered. `prefer` chooses between clusters that have
    room: see `PREFERENCES`.
    """

    order: str = DEFAULT
    half_life_us: int = 7 * DAY_US
    patience_us: int = DAY_US
    quantum_us: int = HOUR_US
    reclaim_after_us: int = 30 * SECOND_US
    by_priority: bool = False
    moves: bool = False
    prefer: str = "cheapest"


RULES = Rules()


def order_named(name: str, *, field: str = "order") -> Order:
    """The policy of this name; raises `Invalid` naming `field`."""
    found = ORDERS.get(name)
    if found is None:
        raise Invalid(
            f"{field} is {name!r}, which is not an order policy.", field=field, value=name, allowed=", ".join(ORDERS)
        )
    return found
