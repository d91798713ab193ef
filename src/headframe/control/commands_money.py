"""What people may ask for about money: grant credit, hold it back, put a budget."""

from __future__ import annotations

from dataclasses import asdict, replace

from headframe.base.changes import NOTHING, Changes, Event
from headframe.base.errors import Conflict, Forbidden, InsufficientCredit, Invalid, NotFound
from headframe.base.money import LIMIT_NANO, Money
from headframe.base.quantities import DAY_US, parse_moment_us, parse_span_us
from headframe.control.commands_prices import check_meter, read_amount
from headframe.control.commands_tenancy import event, expect
from headframe.control.context import Context
from headframe.control.queries_tenancy import find_organization, find_project, nothing_here, seen
from headframe.control.stage_money import booked
from headframe.control.world import World
from headframe.ledger.post import credit_left
from headframe.ledger.wallets import Grant, Hold, HoldStage, grant_rows
from headframe.pricing.book import ANY
from headframe.pricing.records import Charge
from headframe.tenants.records import AtLimit, Budget, Member, Organization, Project, Scope
from headframe.tenants.roles import Caller, Permission


def grant_credit(
    world: World,
    context: Context,
    caller: Caller,
    *,
    organization: str,
    amount: str,
    given: bool = False,
    note: str = "",
    project: str | None = None,
    meter: str = ANY,
    priority: int = 50,
    starts: str | None = None,
    expires: str | None = None,
) -> tuple[Changes, Grant]:
    """Prepaid credit for an organization (by id or name): paid in, or a gift of the house when `given`.

    It may be bound to a project and to a meter, and to the time from `starts` to `expires`.
    """
    house = find_organization(world, context, caller, organization)
    caller.need(Permission.CREDITS_WRITE, house.id)
    money = read_amount(amount, "amount", least=1, currency=house.currency)
    left = credit_left(world.balances, house.id, house.currency)
    if left + money.nano > LIMIT_NANO:
        raise Invalid(
            f"amount is {amount!r}, with which the credit would be too large.",
            field="amount", value=amount, allowed=f"up to {Money(LIMIT_NANO - left, house.currency)}",
        )  # fmt: skip
    if len(note) > 500 or not note.isprintable():
        raise Invalid("note cannot be that.", field="note", value=note[:200], allowed="up to 500 printable characters")
    if meter != ANY:
        check_meter(world, meter)
    if not 0 <= priority <= 100:
        raise Invalid(f"priority is {priority}.", field="priority", value=priority, allowed="0 (first) to 100")
    begins_us = context.now_us if starts is None else max(context.now_us, parse_moment_us(starts, field="starts"))
    ends_us = None if expires is None else parse_moment_us(expires, field="expires")
    if ends_us is not None and ends_us <= begins_us:
        raise Invalid(f"expires is {expires!r}.", field="expires", value=expires, allowed="later than it begins")
    transfer, granted = grant_rows(
        context.ids.new("trf"), house.id, money, context.now_us, paid=not given, note=note, from_us=begins_us,
        expires_us=ends_us, priority=priority, meter=meter,
        project_id=ANY if project is None else find_project(world, context, caller, project, house.id).id,
    )  # fmt: skip
    told = Event(
        at_us=context.now_us,
        kind="credit_granted",
        subject=house.id,
        reason=f"{money} of prepaid credit was {'given' if given else 'paid in'}.",
        organization_id=house.id,
        detail={
            "transfer": transfer.id, "amount_nano": money.nano, "currency": money.currency, "given": given,
            "note": note, "member_id": caller.member_id, "key_id": caller.key_id, "grant": asdict(granted),
        },
    )  # fmt: skip
    return Changes((transfer, granted), (told,)), granted


def place_hold(
    world: World,
    context: Context,
    caller: Caller,
    *,
    project: str,
    amount: str,
    source: str,
    lasts: str = "1h",
    organization: str | None = None,
) -> tuple[Changes, Hold]:
    """Set credit aside for something that will be charged; raises `InsufficientCredit` when there is not so much.

    What runs, and what is held back already, is taken off first. It is voided by itself when its time is over.
    """
    house = find_organization(world, context, caller, organization)
    caller.need(Permission.CREDITS_WRITE, house.id)
    home = find_project(world, context, caller, project, house.id)
    money = read_amount(amount, "amount", least=1, currency=house.currency)
    lasts_us = parse_span_us(lasts, field="lasts")
    if not 0 < lasts_us <= 31 * DAY_US:
        raise Invalid(f"lasts is {lasts!r}.", field="lasts", value=lasts, allowed="up to 31d")
    spending = context.spending
    for payer in (("wallet", house.id), ("purse", home.id)):
        free = spending.credit_nano(house.id, payer, context.now_us) - spending.accrued_nano(payer, context.now_us)
        if free < money.nano:
            raise InsufficientCredit(
                f"{money} cannot be set aside: {Money(max(0, free), house.currency)} of credit is free.",
                next_step="Add credit, or wait until what runs has ended.",
                details={"free_nano": max(0, free), "amount_nano": money.nano},
            )
    hold = Hold(
        context.ids.new("hold"), house.id, home.id, money.nano, money.currency, source[:200], context.now_us,
        context.now_us + lasts_us,
    )  # fmt: skip
    return Changes((hold,), (_of_hold(hold, "credit_held", f"{money} of credit is set aside.", context.now_us),)), hold


def end_hold(
    world: World,
    context: Context,
    caller: Caller,
    hold_id: str,
    *,
    amount: str | None = None,
    meter: str = "",
) -> tuple[Changes, Hold]:
    """Resolve a hold, once: charge up to what it holds for a meter, or (without `amount`) let it go."""
    hold: Hold | None = world.get(Hold, hold_id)
    if hold is None:
        old: Hold | None = context.reads.get(Hold, hold_id)
        if old is None or not (caller.operator or old.organization_id == caller.organization_id):
            raise nothing_here("hold", hold_id)
        raise Conflict(f"{hold_id} is {old.stage} already.", next_step="Place another hold.")
    caller.need(Permission.CREDITS_WRITE, hold.organization_id)
    if amount is None:
        return _voided(hold, context.now_us)
    check_meter(world, meter)
    money = read_amount(amount, "amount", least=0, currency=hold.currency)
    if money.nano > hold.amount_nano:
        raise Invalid(
            f"amount is {amount!r}, more than is held.",
            field="amount", value=amount, allowed=f"up to {Money(hold.amount_nano, hold.currency)}",
        )  # fmt: skip
    now_us = context.now_us
    charge = Charge(
        id=f"{hold.id}.posted", usage_id="", allocation_id="", job_id="", organization_id=hold.organization_id,
        project_id=hold.project_id, member_id="", meter=meter, kind="usage", price_id="", quantity=1,
        unit_nano=money.nano, amount_nano=money.nano, currency=hold.currency, from_us=hold.at_us, to_us=now_us,
        at_us=now_us, unit="one", list_nano=money.nano, contracted_nano=money.nano, effective_nano=money.nano,
        labels={"source": hold.source},
    )  # fmt: skip
    after = replace(hold, stage=HoldStage.POSTED, posted_nano=money.nano, version=hold.version + 1)
    told = _of_hold(after, "hold_posted", f"{money} of what was set aside is charged.", now_us)
    return Changes((after, *booked(world, context.spending, hold.organization_id, [charge])), (told,)), after


def _voided(hold: Hold, now_us: int) -> tuple[Changes, Hold]:
    after = replace(hold, stage=HoldStage.VOIDED, version=hold.version + 1)
    text = f"{Money(hold.amount_nano, hold.currency)} of credit is free again."
    return Changes((after,), (_of_hold(after, "hold_voided", text, now_us),)), after


def _of_hold(hold: Hold, kind: str, text: str, now_us: int) -> Event:
    detail = {**asdict(hold), "stage": hold.stage.value}
    return Event(now_us, kind, hold.id, text, hold.organization_id, hold.project_id, detail=detail)


def remove_budget(
    world: World,
    context: Context,
    caller: Caller,
    *,
    scope: Scope = Scope.ORGANIZATION,
    scope_id: str | None = None,
    version: int | None = None,
) -> tuple[Changes, Budget]:
    """Take a budget away: nothing limits any more what its scope spends in a month."""
    _, scope_id = _place(world, context, caller, scope, scope_id)
    old = _budget_of(world, scope, scope_id)
    if old is None:
        raise NotFound(f"This {scope.value} has no budget.", next_step="See `headframe budget`.")
    _check_hand(caller, old)
    expect(old, version)
    gone = replace(old, removed=True, version=old.version + 1)
    told = event(context, "budget_removed", gone, f"This {scope.value} has no budget any more.", by=caller)
    return Changes((gone,), (replace(told, project_id=scope_id if scope is Scope.PROJECT else ""),)), gone


def _runs_the_cloud(caller: Caller, organization_id: str) -> bool:
    """Whether the caller acts for the operator on a customer."""
    return caller.operator and caller.organization_id != organization_id


def _check_hand(caller: Caller, budget: Budget) -> None:
    """Raise `Forbidden` for who would change what the operator put on it."""
    if budget.operator and not _runs_the_cloud(caller, budget.organization_id):
        raise Forbidden(
            f"The operator of this cloud put the budget on this {budget.scope.value}: only the operator may change it.",
            next_step="Ask the operator, or put budgets of your own on projects and members.",
            details={"budget": budget.id},
        )


def _budget_of(world: World, scope: Scope, scope_id: str) -> Budget | None:
    budgets = world.all(Budget).values()
    return next((each for each in budgets if each.scope is scope and each.scope_id == scope_id), None)


def put_budget(
    world: World,
    context: Context,
    caller: Caller,
    *,
    amount: str,
    scope: Scope = Scope.ORGANIZATION,
    scope_id: str | None = None,
    warn_percent: int = 80,
    at_limit: AtLimit = AtLimit.STOP,
    version: int | None = None,
) -> tuple[Changes, Budget]:
    """Set what an organization, project or member may spend in a calendar month (UTC)."""
    house, scope_id = _place(world, context, caller, scope, scope_id)
    money = read_amount(amount, "amount", least=0, currency=house.currency)
    if not 1 <= warn_percent <= 100:
        raise Invalid(
            f"warn_percent is {warn_percent}.", field="warn_percent", value=warn_percent, allowed="1 to 100"
        )  # fmt: skip
    old = _budget_of(world, scope, scope_id)
    if old is not None:
        _check_hand(caller, old)
    expect(old, version)
    budget = Budget(
        id=old.id if old else context.ids.new("bud"),
        organization_id=house.id,
        scope=scope,
        scope_id=scope_id,
        amount_nano=money.nano,
        currency=money.currency,
        warn_percent=warn_percent,
        at_limit=at_limit,
        operator=_runs_the_cloud(caller, house.id),
        version=old.version if old else 1,
    )
    if old is not None:
        if budget == replace(old, warned_month="", stopped_month=""):
            return NOTHING, old
        # What was told of the old amount is told anew of this one.
        budget = replace(budget, version=old.version + 1)
    told = event(context, "budget_set", budget, f"The budget of this {scope.value} is {money} a month.", by=caller)
    told = replace(
        told,
        project_id=scope_id if scope is Scope.PROJECT else "",
        detail={**told.detail, **asdict(budget), "scope": scope.value, "at_limit": at_limit.value},
    )
    return Changes((budget,), (told,)), budget


def _place(
    world: World, context: Context, caller: Caller, scope: Scope, scope_id: str | None
) -> tuple[Organization, str]:
    """The organization that pays, and the id of what the budget is put on, once the caller may put it there."""
    if scope is Scope.ORGANIZATION:
        house = find_organization(world, context, caller, scope_id)
        caller.need(Permission.LIMITS_WRITE, house.id)
        return house, house.id
    if scope_id is None:
        raise Invalid(
            "scope_id is missing.", field="scope_id", allowed=f"the id of a {scope.value}",
            next_step=f"Name the {scope.value} that the budget is for.",
        )  # fmt: skip
    record = seen(world, caller, Project if scope is Scope.PROJECT else Member, scope_id, Permission.LIMITS_WRITE)
    return find_organization(world, context, caller, record.organization_id), record.id
