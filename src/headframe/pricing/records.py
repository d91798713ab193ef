"""The records of prices, contracts, exchange rates and charges."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Tier:
    """A step of a price: up to `up_to` units (None: without end) each unit costs `unit_nano`."""

    up_to: int | None
    unit_nano: int


@dataclass(frozen=True, slots=True)
class Price:
    """What one unit of a meter costs, in [from_us, to_us). Never changed, except that an open end is set.

    `meter`: "gpu:<kind>" (one accelerator), "gpu:*" (any kind without its own price), "cpu" (one core), "memory" and
    "disk" (one GiB), or the name of a meter of events. `unit` is a name of `pricing.units.UNITS`: what `unit_nano`
    (nano-units of `currency`) buys, such as "gpu-hour" or "million". `organization_id` is "*" on the list and else the
    customer whose contract says so; `region_id` and `purchase` may be "*"; `term` is "" or the length that it is bound
    to, such as "1y". `shape` is a name of `pricing.registry.SHAPES`. `minimum_us` is the least running time charged.
    `tiers` belong to the shapes "volume" and "graduated", `watts` (per unit, cooling included) to "power". `book` is
    the version of the price book that it came with: 1, 2, 3 ... `paid_of_list` are the millionths of the list price
    that it was agreed as, such as 200,000 for "80 % off"; 0 when it was told as an amount.
    """

    id: str
    meter: str
    unit_nano: int
    from_us: int
    to_us: int | None = None
    currency: str = "USD"
    unit: str = ""
    organization_id: str = "*"
    region_id: str = "*"
    purchase: str = "*"
    term: str = ""
    shape: str = "hourly"
    minimum_us: int = 60_000_000
    tiers: tuple[Tier, ...] = ()
    watts: int = 0
    book: int = 1
    paid_of_list: int = 0
    version: int = 1


@dataclass(frozen=True, slots=True)
class Exchange:
    """From `from_us` on one unit of `base` is `rate_pico` / 10^12 units of `quote`, says `source`. A fact."""

    id: str
    base: str
    quote: str
    rate_pico: int
    from_us: int
    source: str


class ContractState(StrEnum):
    """The life of a contract, in the words of FOCUS."""

    PROPOSED = "Proposed"
    PENDING = "Pending"
    ACTIVE = "Active"
    EXHAUSTED = "Exhausted"
    EXPIRED = "Expired"
    CANCELED = "Canceled"
    SUPERSEDED = "Superseded"


@dataclass(frozen=True, slots=True)
class Contract:
    """What an organization is bound to pay over [from_us, to_us), used or not, and what it may use for it.

    `shape` is a name of `pricing.registry.CONTRACTS`: "reserved" (`unit_nano` per `unit` of what is promised),
    "monthly" (`unit_nano` a calendar month, prorated to the second), "once" (`unit_nano`, at the beginning), "sla" (a
    credit of a share of what was charged, by `steps`). `quantity` of `meter` (thousandths, MiB) is covered at every
    moment in `region_id` ("*": all); 0 covers nothing. `upfront` says that all of it is paid at the beginning.
    `steps` are (availability in millionths below which it applies, percent credited), for "sla". `rated_us` is how far
    charges reach.
    """

    id: str
    organization_id: str
    project_id: str
    title: str
    shape: str
    unit_nano: int
    from_us: int
    to_us: int
    currency: str = "USD"
    meter: str = ""
    region_id: str = "*"
    quantity: int = 0
    unit: str = ""
    upfront: bool = False
    steps: tuple[tuple[int, int], ...] = ()
    state: ContractState = ContractState.ACTIVE
    created_us: int = 0
    rated_us: int = 0
    version: int = 1


@dataclass(frozen=True, slots=True)
class Charge:
    """A piece of use, or a term of a contract, priced. A fact: written once.

    `quantity` is what was used: for what is held, thousandths (gpu, cpu) or MiB (memory, disk) times microseconds; for
    meters of events what they count. One `unit` costs `unit_nano`; what that makes of the quantity is rounded once,
    half to even. `at_us` is the moment at which it falls due: the end of its piece of use, or, of what was told too
    late, the moment at which we learnt of it. `kind` is a name of `KINDS`.

    Four amounts, in nano-units of `currency`: `amount_nano` is what is owed for it now; `list_nano` what it would be by
    the list, `contracted_nano` by the customer's own prices but without what is covered, `effective_nano` with what was
    paid in advance spread over its use. `pricing` is "standard", "dynamic", "committed" or "". `contract_id` names the
    contract that covers it or asks for it. `tax` is a category of tax, by EN 16931 ("S": standard rate).

    When the price is in another currency, `fx_rate_pico` / 10^12 units of ours were paid for one of `fx_base`, by
    `fx_source` from `fx_us` on, and `unit_nano` is in `fx_base`.

    `late_month` ("2026-10") says that this corrects that closed month; `corrects` is the charge that was wrong, if
    there was one. `labels` tell apart what one meter counts.
    """

    id: str
    usage_id: str
    allocation_id: str
    job_id: str
    organization_id: str
    project_id: str
    member_id: str
    meter: str
    kind: str
    price_id: str
    quantity: int
    unit_nano: int
    amount_nano: int
    currency: str
    from_us: int
    to_us: int
    at_us: int
    unit: str = ""
    region_id: str = ""
    purchase: str = ""
    pricing: str = "standard"
    list_nano: int = 0
    contracted_nano: int = 0
    effective_nano: int = 0
    contract_id: str = ""
    tax: str = "S"
    fx_base: str = ""
    fx_rate_pico: int = 0
    fx_source: str = ""
    fx_us: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    late_month: str = ""
    corrects: str = ""


# What a charge is for, and its category in the words of FOCUS.
KINDS = {
    "usage": "Usage",
    "minimum": "Usage",  # the top-up to the least running time
    "covered": "Usage",  # use that a contract covers: nothing is owed for it
    "unused": "Usage",  # what a contract covered and nobody used
    "tier": "Adjustment",  # what earlier use of the month costs more or less, now that a tier is reached
    "fee": "Purchase",  # what a contract asks for
    "credit": "Credit",  # what we give back
    "correction": "Adjustment",  # the difference that a price told later makes
}
