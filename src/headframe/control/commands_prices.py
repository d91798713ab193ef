"""What the operator may ask for about prices: set one, set an exchange rate; and what a late one corrects."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from headframe.base.changes import Changes, Event, gather
from headframe.base.errors import Invalid, TooLarge, UnknownMeter
from headframe.base.money import (
    EXPONENTS,
    WHOLE_PRICE,
    Money,
    divide_half_even,
    format_discount,
    is_discount,
    parse_discount,
    parse_money,
)
from headframe.base.quantities import DAY_US, format_second, month_bounds_us, month_of, parse_moment_us, parse_span_us
from headframe.control.context import Context
from headframe.control.queries_tenancy import find_organization
from headframe.control.stage_money import booked, bookings, closed_month, every
from headframe.control.world import World
from headframe.fleet.records import Region
from headframe.metering.defaults import default_meters
from headframe.metering.records import Meter
from headframe.pricing.book import ANY, PICO, Book, Buyer, default_prices
from headframe.pricing.records import Charge, Exchange, Price, Tier
from headframe.pricing.registry import SHAPES
from headframe.pricing.rerate import rerate
from headframe.pricing.revise import revise
from headframe.pricing.units import default_unit, is_held, size_of
from headframe.tenants.records import Organization
from headframe.tenants.roles import Caller, Permission
from headframe.workloads.spec import PURCHASES

RERATED_AT_ONCE = 500_000  # charges that one back-dated price may look at again
_METER = re.compile(r"cpu|memory|disk|electricity|storage:datasets|gpu:(?:\*|[A-Za-z0-9][A-Za-z0-9 ._+-]{0,60})")


def default_price_changes(now_us: int, organization_id: str = "") -> Changes:
    """The price list and the meters of a new cloud, with an event for each price."""
    prices = default_prices(now_us)
    told = tuple(_price_set(price, now_us, organization_id) for price in prices)
    return Changes((*prices, *default_meters(now_us)), told)


@dataclass(frozen=True, slots=True)
class Told:
    """A price in the words of whoever sets it.

    `amount` is what one `unit` costs, with its currency; for one organization it may be a discount on the list, such as
    "80 % off" or "2折". `tiers` are (up to so many units, amount).
    """

    meter: str
    amount: str = ""
    unit: str = ""
    region: str = ANY
    purchase: str = ANY
    term: str = ""
    organization: str | None = None
    shape: str | None = None
    tiers: Sequence[tuple[int | None, str]] = ()
    watts: int = 0
    minimum: str = "60s"


def set_price(
    world: World,
    context: Context,
    caller: Caller,
    *,
    starts: str | None = None,
    ends: str | None = None,
    back_dated: bool = False,
    **told: Any,
) -> tuple[Changes, Price]:
    """A price from a moment on (now when `starts` is None). What is open-ended before it ends where it begins.

    `told` are the fields of `Told`. With `back_dated` it may begin in the past: what was charged since is corrected,
    not edited.
    """
    caller.need(Permission.PRICES_WRITE, caller.organization_id)
    from_us, to_us = _time(context, starts, ends, back_dated)
    price = read_price(world, context, caller, Told(**told), from_us, to_us)
    return _enter(world, context, caller, price), price


def read_price(world: World, context: Context, caller: Caller, told: Told, from_us: int, to_us: int | None) -> Price:
    """A price as it was told, checked; it is not in the book yet."""
    meter, purchase = told.meter, told.purchase
    check_meter(world, meter)
    shape = told.shape or usual_shape(meter, purchase)
    for field, value, known in (("purchase", purchase, (*PURCHASES, ANY)), ("shape", shape, tuple(SHAPES))):
        if value not in known:
            raise Invalid(
                f"{field} is {value!r}, which is not known.", field=field, value=value, allowed=", ".join(known)
            )
    size_of(meter, told.unit)
    minimum_us = parse_span_us(told.minimum, field="minimum") if is_held(meter) else 0
    if minimum_us > DAY_US:
        raise Invalid(
            f"minimum is {told.minimum!r}, which is too long.", field="minimum", value=told.minimum, allowed="up to 1d"
        )
    house = None if told.organization is None else find_organization(world, context, caller, told.organization)
    region_id = region_named(world, told.region)
    steps = [(up_to, read_amount(text, "tiers", least=0)) for up_to, text in told.tiers]
    if is_discount(told.amount):
        money = _discounted(context, told, region_id, house, from_us)
    elif steps and not told.amount:
        money = steps[0][1]
    else:
        money = read_amount(told.amount, "amount", least=0)
    price = Price(
        id=context.ids.new("price"),
        meter=meter,
        unit_nano=money.nano,
        from_us=from_us,
        to_us=to_us,
        currency=money.currency,
        unit=told.unit or default_unit(meter),
        organization_id=ANY if house is None else house.id,
        region_id=region_id,
        purchase=purchase,
        term=told.term,
        shape=shape,
        minimum_us=minimum_us,
        tiers=tuple(Tier(up_to, each.nano) for up_to, each in steps),
        watts=told.watts,
        paid_of_list=parse_discount(told.amount, field="amount") if is_discount(told.amount) else 0,
        book=1 + max((one.book for one in world.all(Price).values()), default=0),
    )
    if any(each.currency != money.currency for _, each in steps):
        raise Invalid("tiers are in several currencies.", field="tiers", allowed=f"all in {money.currency}")
    SHAPES[price.shape].check(price)
    return price


def _enter(world: World, context: Context, caller: Caller, price: Price) -> Changes:
    """What it means for the book, and for what was charged, that a price holds from its moment on."""
    late = price.from_us < context.now_us
    if late and price.tiers:
        raise Invalid("A price with tiers cannot be back-dated.", field="tiers", allowed="none, or a start from now on")
    revision = revise(world.all(Price).values(), price, context.ids.new("price"))
    told = [_price_set(one, context.now_us, caller.organization_id) for one in revision.rows]
    told += [_price_gap(price, gap, context.now_us, caller.organization_id) for gap in revision.gaps]
    changes = Changes(revision.rows, tuple(told))
    return changes + _corrections(world, context, price, revision.rows) if late else changes


def usual_shape(meter: str, purchase: str) -> str:
    """The shape that a price of a meter has unless told otherwise."""
    if is_held(meter):
        return "spot" if purchase == "spot" else "hourly"
    if meter.startswith("tokens:"):
        return "tokens"
    return "storage" if meter.startswith("storage:") else "each"


def check_meter(world: World, meter: str) -> None:
    """Raise `UnknownMeter` for a meter that nothing is counted by."""
    if not _METER.fullmatch(meter) and world.get(Meter, meter) is None:
        known = ["cpu, memory, disk, electricity, gpu:<kind> such as gpu:H100, gpu:*", *sorted(world.all(Meter))]
        raise UnknownMeter(
            f"meter is {meter!r}, which is not known.",
            next_step="Use one of those, or define it: headframe meters define.",
            details={"field": "meter", "value": meter, "allowed": ", ".join(known)},
        )


def _time(context: Context, starts: str | None, ends: str | None, back_dated: bool) -> tuple[int, int | None]:
    from_us = context.now_us if starts is None else parse_moment_us(starts, field="starts")
    to_us = None if ends is None else parse_moment_us(ends, field="ends")
    if from_us < context.now_us and not back_dated:
        raise Invalid(
            f"starts is {starts!r}, which is in the past: what has been used keeps its price.",
            field="starts", value=starts, allowed="now or later",
            next_step="Leave it out to begin now, or say that it is back-dated: what was charged is then corrected.",
        )  # fmt: skip
    if to_us is not None and to_us <= from_us:
        raise Invalid(f"ends is {ends!r}, which is not after the start.", field="ends", value=ends, allowed="later")
    return from_us, to_us


def _discounted(context: Context, told: Told, region_id: str, house: Organization | None, at_us: int) -> Money:
    """What a discount leaves of the list price that holds when it begins."""
    text, meter = told.amount, told.meter
    paid = parse_discount(text, field="amount")
    if house is None:
        raise Invalid(
            "A discount is for one organization.", field="amount", value=text, allowed="an amount",
            next_step="Name the organization, or give the amount.",
        )  # fmt: skip
    where = "" if region_id == ANY else region_id
    kind = "on-demand" if told.purchase == ANY else told.purchase
    offer = context.spending.book.find(meter, Buyer(ANY, house.currency, where, kind), at_us)
    if (
        offer is None
        or offer.exchange is not None
        or offer.price.tiers
        or (told.unit and told.unit != offer.price.unit)
    ):
        raise Invalid(
            f"The list has no price of {meter} in {house.currency} that {text} could be taken off.",
            field="amount", value=text, allowed="an amount",
        )  # fmt: skip
    return Money(divide_half_even(offer.unit_nano * paid, WHOLE_PRICE), house.currency)


def _corrections(world: World, context: Context, price: Price, rows: Iterable[Price]) -> Changes:
    """What a back-dated price changes of what was charged since it began: corrections, dated now."""
    prices = {**world.all(Price), **{one.id: one for one in rows}}
    book = Book(prices.values(), world.all(Exchange).values())
    where: dict[str, object] = {"to_us__ge": price.from_us + 1}
    if price.organization_id != ANY:
        where["organization_id"] = price.organization_id
    if not price.meter.endswith(ANY):
        where["meter"] = price.meter
    count = context.reads.count(Charge, **where)
    if count > RERATED_AT_ONCE:
        raise TooLarge(
            f"{count} charges would have to be looked at again.",
            next_step=f"Back-date it for one organization at a time, or to fewer than {RERATED_AT_ONCE} charges.",
        )
    told: dict[str, list[Charge]] = {}
    for charge in every(context.reads, Charge, **where):
        told.setdefault(charge.organization_id, []).append(charge)
    parts = []
    for organization_id, charges in sorted(told.items()):
        made = [_dated(one, context, organization_id) for one in rerate(charges, book, context.now_us, price.id)]
        newest = {one.corrects: one.id for one in sorted(charges, key=lambda each: each.at_us) if one.late_month}
        late = {one.id: newest.get(one.corrects, one.corrects) for one in made if one.late_month}
        earlier = bookings(context.reads, late)
        parts.append(Changes(tuple(booked(world, context.spending, organization_id, made, earlier))))
    return gather(parts)


def _dated(correction: Charge, context: Context, organization_id: str) -> Charge:
    """A correction belongs to its month while that is open, and is due now, marked with it, when it is closed."""
    month = month_of(correction.to_us - 1)
    late = closed_month(context.spending, organization_id, month)
    at_us = context.now_us if late else min(context.now_us, month_bounds_us(month)[1])
    return replace(correction, late_month=late, at_us=at_us)


def read_amount(text: str, field: str, *, least: int, currency: str = "") -> Money:
    """An amount that makes sense; with `currency` it must be in that one, which it is when it names none."""
    money = parse_money(text, field=field, currency=currency or "USD")
    if money.nano < least:
        allowed = "nothing or more" if least == 0 else "more than nothing"
        raise Invalid(f"{field} is {text!r}.", field=field, value=text, allowed=allowed)
    if currency and money.currency != currency:
        raise Invalid(
            f"{field} is in {money.currency}, but the organization is billed in {currency}.",
            field=field, value=text, allowed=f"an amount in {currency}",
        )  # fmt: skip
    return money


def region_named(world: World, named: str) -> str:
    """The id of a region by id or name, or "*" for all."""
    regions = world.all(Region)
    found = [each.id for each in regions.values() if named in (each.id, each.name)]
    if named != ANY and not found:
        raise Invalid(
            f"region is {named!r}, which is not known.",
            field="region", value=named, allowed=", ".join([ANY, *sorted(each.name for each in regions.values())]),
        )  # fmt: skip
    return ANY if named == ANY else found[0]


def set_exchange(
    world: World,
    context: Context,
    caller: Caller,
    *,
    base: str,
    quote: str,
    rate: str,
    source: str,
    starts: str | None = None,
) -> tuple[Changes, Exchange]:
    """From a moment on (now when `starts` is None) one unit of `base` is `rate` units of `quote`, as `source` says."""
    caller.need(Permission.PRICES_WRITE, caller.organization_id)
    base, quote = base.upper(), quote.upper()
    for field, code in (("base", base), ("quote", quote)):
        if code not in EXPONENTS:
            raise Invalid(f"{field} is {code!r}.", field=field, value=code, allowed=", ".join(EXPONENTS))
    if base == quote:
        raise Invalid("A currency has no rate to itself.", field="quote", value=quote, allowed="another currency")
    from_us = context.now_us if starts is None else parse_moment_us(starts, field="starts")
    if from_us < context.now_us:
        raise Invalid(f"starts is {starts!r}, which is past.", field="starts", value=starts, allowed="now or later")
    found = re.fullmatch(r"\s*([0-9]{1,9})(?:\.([0-9]{1,12}))?\s*", rate)
    rate_pico = int(found[1]) * PICO + int((found[2] or "").ljust(12, "0")) if found else 0
    if not 0 < rate_pico <= 1_000_000 * PICO:
        raise Invalid(
            f"rate is {rate!r}.", field="rate", value=rate, allowed="above 0, up to 12 digits behind the point"
        )
    if not source.strip() or len(source) > 200 or not source.isprintable():
        raise Invalid("source is missing.", field="source", allowed="where the rate is from, such as ECB")
    row = Exchange(context.ids.new("fx"), base, quote, rate_pico, from_us, source)
    text = f"1 {base} is {rate.strip()} {quote} from {format_second(from_us)} on ({source})."
    told = Event(context.now_us, "exchange_set", row.id, text, caller.organization_id, detail=asdict(row))
    return Changes((row,), (told,)), row


def _price_set(price: Price, now_us: int, organization_id: str) -> Event:
    """All of the price is in the event, so that bills can be worked out from events alone."""
    until = "" if price.to_us is None else f" until {format_second(price.to_us)}"
    off = f" ({format_discount(price.paid_of_list)})" if price.paid_of_list else ""
    return Event(
        at_us=now_us,
        kind="price_set",
        subject=price.id,
        reason=f"{price.meter} costs {Money(price.unit_nano, price.currency)} per {price.unit}{off}{until}.",
        organization_id=organization_id,
        detail=asdict(price),
    )


def _price_gap(price: Price, gap: tuple[int, int | None], now_us: int, organization_id: str) -> Event:
    """From then on another price answers, or none: somebody should know."""
    until = "" if gap[1] is None else f" until {format_second(gap[1])}"
    text = f"From {format_second(gap[0])}{until} nothing of this kind is priced for {price.meter}."
    detail = {"meter": price.meter, "from_us": gap[0], "to_us": gap[1]}
    return Event(now_us, "price_gap", price.id, text, organization_id, detail=detail)
