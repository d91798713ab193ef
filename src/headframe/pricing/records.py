"""The records of price and charge."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Price:
    """What one unit of a meter costs for an hour, in [from_us, to_us).

    `meter`: "gpu:<kind>" (unit: one accelerator), "gpu:*" (any kind without its own price), "cpu" (one core),
    "memory" and "disk" (one GiB). `region_id` and `purchase` may be "*". `per_hour_nano` is in nano-units of
    `currency`. `shape` is a name of the registry of price shapes. `minimum_us` is the least running time charged.
    """

    id: str
    meter: str
    per_hour_nano: int
    from_us: int
    to_us: int | None = None
    currency: str = "USD"
    region_id: str = "*"
    purchase: str = "*"
    shape: str = "hourly"
    minimum_us: int = 60_000_000
    version: int = 1


@dataclass(frozen=True, slots=True)
class Charge:
    """A usage record priced, one per meter. A fact: written once.

    `quantity` is in thousandths (gpu, cpu) or MiB (memory, disk) times microseconds of charged time;
    `amount_nano` = quantity x per_hour_nano / (unit x 3,600,000,000), rounded once, half to even.
    `at_us` is the moment at which it falls due: the end of its piece of use. `kind` is "usage", or "minimum" for
    the top-up to the least running time.
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
    per_hour_nano: int
    amount_nano: int
    currency: str
    from_us: int
    to_us: int
    at_us: int
