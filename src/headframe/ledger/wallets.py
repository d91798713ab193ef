"""Prepaid credit: what was granted, in which order it is used up, and what is held back of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Grant:
    """Credit that an organization was given or paid in. `id` is that of the transfer that booked it.

    It may be used from `from_us` on, until `expires_us` (None: for good), for charges of `project_id` and `meter` ("*":
    all; "gpu:*" any accelerator). Of several, the one that expires first is used first, then the one of the smaller
    `priority`, then the oldest. `left_nano` is what is left of `amount_nano`.
    """

    id: str
    organization_id: str
    amount_nano: int
    left_nano: int
    currency: str
    from_us: int
    expires_us: int | None = None
    priority: int = 50
    project_id: str = "*"
    meter: str = "*"
    paid: bool = True
    note: str = ""
    version: int = 1


@dataclass(frozen=True, slots=True)
class Burn:
    """`amount_nano` of a grant went into a charge; negative when it came back. A fact.

    `id` is "<charge id>.<grant id>", or "<reason>.<that id>" for what came back.
    """

    id: str
    grant_id: str
    charge_id: str
    organization_id: str
    amount_nano: int
    at_us: int


class HoldStage(StrEnum):
    """The life of a hold: pending ends once, by being posted or voided."""

    PENDING = "pending"
    POSTED = "posted"
    VOIDED = "voided"


@dataclass(frozen=True, slots=True)
class Hold:
    """Credit that is set aside for something that will be charged: nobody else may use it meanwhile.

    `posted_nano` of it was charged when it was posted (never more than `amount_nano`); it is voided by itself at
    `expires_us`.
    """

    id: str
    organization_id: str
    project_id: str
    amount_nano: int
    currency: str
    source: str
    at_us: int
    expires_us: int
    stage: HoldStage = HoldStage.PENDING
    posted_nano: int = 0
    version: int = 1
