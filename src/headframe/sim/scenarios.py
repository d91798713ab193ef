"""The registry of scenarios: a fleet, how much is asked of it, and how much goes wrong. One line each."""

from __future__ import annotations

from dataclasses import dataclass

from headframe.base.quantities import HOUR_US, MINUTE_US, SECOND_US
from headframe.scheduling.order import RULES, Rules
from headframe.sim.faults import Weather

FAIR = Weather()


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of world. `jobs` are submitted in `span_us` of virtual time; then faults end, and everything has to.

    `nodes` is the number of nodes of each cluster. `longest_us` bounds what one attempt runs. `orders` are further
    things that people do meanwhile (stops, drains, limits, prices, credits). `prepaid_per_mille` is how many
    organizations pay in advance. `purchases` is what jobs are bought as (none: on demand, mostly); `guarantees`
    says that organizations and projects are guaranteed a part, and borrow. `spread` says that clusters differ in price,
    that data lives in some of them, and that whole clusters are drained. `reservations` is how many capacity is
    reserved by; `honest` that jobs promise to the second how long they run; `elastic` that many can change their size
    or place; `contracts` that everybody has an SLA, and some have reserved accelerators.
    """

    meaning: str
    weather: Weather = FAIR
    clusters: int = 1
    nodes: int = 3
    organizations: int = 2
    jobs: int = 12
    orders: int = 6
    span_us: int = 2 * HOUR_US
    longest_us: int = 20 * MINUTE_US
    prepaid_per_mille: int = 300
    limits: bool = True  # quotas and budgets
    purchases: tuple[str, ...] = ()
    guarantees: bool = False
    rules: Rules = RULES
    reservations: int = 0
    honest: bool = False
    elastic: bool = False
    contracts: bool = False
    spread: bool = False


SCENARIOS: dict[str, Scenario] = {
    "calm": Scenario("Nothing goes wrong.", limits=False, prepaid_per_mille=0),
    "crowd": Scenario("Far more is asked than there is room for.", jobs=24, nodes=2, orders=8),
    "nodes": Scenario("Nodes die and come back.", Weather(node_deaths=6), clusters=2),
    "answers": Scenario(
        "Answers are lost, come twice, or are overtaken.",
        Weather(lost_per_mille=250, twice_per_mille=200, late_per_mille=250),
    ),
    "slow": Scenario("The engine is slow to answer.", Weather(slow_us=40 * SECOND_US)),
    "outage": Scenario("Engines cannot be reached for a while; their jobs go on.", Weather(outages=6), clusters=2),
    "amnesia": Scenario("Engines start again and know nothing.", Weather(memory_losses=5)),
    "killed": Scenario("The program is killed, again and again.", Weather(crossings_to_death=30)),
    "disk": Scenario("The store fails, also in the middle of a commit.", Weather(store_failures=12)),
    "clock": Scenario("The machine's clock jumps forward and back.", Weather(jumps=10)),
    "money": Scenario(
        "Prepaid credit, budgets and prices that change, over the end of a month.",
        Weather(crossings_to_death=200),
        organizations=3, orders=24, span_us=5 * HOUR_US, longest_us=3 * HOUR_US, prepaid_per_mille=600,
    ),
    "preemption": Scenario(
        "Higher classes and priorities take the place of lower ones, while the program dies.",
        Weather(crossings_to_death=150),
        jobs=24, nodes=1, longest_us=60 * MINUTE_US, limits=False, prepaid_per_mille=0,
        purchases=("on-demand", "spot", "spot", "filler", "filler"), rules=Rules(by_priority=True),
    ),
    "borrowing": Scenario(
        "Owners borrow what others do not use, and take back what is theirs.",
        Weather(crossings_to_death=200),
        jobs=24, nodes=1, longest_us=60 * MINUTE_US, organizations=3, limits=False, prepaid_per_mille=0,
        guarantees=True,
        rules=Rules(reclaim_after_us=10 * SECOND_US),
    ),
    "fairshare": Scenario(
        "Several organizations want far more than there is.",
        jobs=24, nodes=1, organizations=4, limits=False, prepaid_per_mille=0,
    ),
    "turns": Scenario(
        "Jobs take turns by what they have had, while nodes die.",
        Weather(node_deaths=3, crossings_to_death=100),
        jobs=24, nodes=1, longest_us=60 * MINUTE_US, limits=False, prepaid_per_mille=0,
        rules=Rules(order="least-attained-service", quantum_us=2 * MINUTE_US),
    ),
    "reservations": Scenario(
        "Capacity is reserved and given back, while nodes die and the program with them.",
        Weather(node_deaths=3, crossings_to_death=200),
        jobs=24, limits=False, prepaid_per_mille=0, reservations=8, purchases=("on-demand", "reserved", "spot"),
    ),
    "backfill": Scenario(
        "More is asked than there is, gangs among it, and all say how long they run.",
        jobs=40, orders=0, organizations=1, limits=False, prepaid_per_mille=0, honest=True,
    ),
    "elastic": Scenario(
        "Jobs grow into what is free and shrink for others.",
        Weather(crossings_to_death=250),
        jobs=20, limits=False, prepaid_per_mille=0, span_us=4 * HOUR_US, longest_us=2 * HOUR_US, elastic=True,
    ),
    "defrag": Scenario(
        "Jobs move to make one place of what is scattered.",
        Weather(crossings_to_death=250),
        jobs=24, limits=False, prepaid_per_mille=0, span_us=4 * HOUR_US, longest_us=2 * HOUR_US, elastic=True,
        rules=Rules(moves=True),
    ),
    "away": Scenario(
        "An engine is down for an hour and comes back; the program dies meanwhile.",
        Weather(hours_down=2, crossings_to_death=200),
        clusters=2, span_us=4 * HOUR_US, longest_us=90 * MINUTE_US, spread=True, limits=False, prepaid_per_mille=0,
    ),
    "spread": Scenario(
        "Three clusters of different prices and data, drained and cut off, while answers get lost.",
        Weather(node_deaths=10, outages=4, lost_per_mille=100, twice_per_mille=100, late_per_mille=100,
                crossings_to_death=150),
        clusters=3, nodes=2, jobs=24, orders=12, longest_us=40 * MINUTE_US, limits=False, prepaid_per_mille=0,
        spread=True,
    ),
    "repair": Scenario(
        "Hardware is not well for a while, or dies under its jobs, over the end of a month; SLAs give back.",
        Weather(node_deaths=5, node_silences=8, crossings_to_death=200),
        nodes=2, jobs=16, orders=2, limits=False, prepaid_per_mille=300, contracts=True, longest_us=60 * MINUTE_US,
    ),
    "storm": Scenario(
        "Everything at once.",
        Weather(
            lost_per_mille=100, twice_per_mille=100, late_per_mille=100, slow_us=SECOND_US, node_deaths=3, outages=3,
            memory_losses=1, store_failures=4, jumps=4, crossings_to_death=120,
        ),
        clusters=2, nodes=2,
    ),
}  # fmt: skip
