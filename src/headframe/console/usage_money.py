"""Budgets and invoices: what may be spent and what is, documents and downloads."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query
from starlette.responses import Response

from headframe.base.errors import CallerError, Invalid
from headframe.base.quantities import DAY_US
from headframe.console.forms import EMPTY, Form, Sent
from headframe.console.page import Page, Signed, page_router
from headframe.console.usage import Asked, choices
from headframe.control import queries_invoices
from headframe.control.commands_money import put_budget, remove_budget
from headframe.control.queries_money import BudgetState, Draft, budgets, draft
from headframe.control.queries_spend import ALL, RunningNow, running_now
from headframe.control.queries_usage import MonthAhead, month_ahead
from headframe.documents.words import describe, language_of, unit_words, units_of
from headframe.ledger.close import month_of, month_span_us
from headframe.ledger.records import Invoice, InvoiceLine
from headframe.tenants.records import AtLimit, Member, Organization, Project, Scope
from headframe.tenants.roles import Permission

router = page_router()

House = Annotated[str, Query(max_length=200)]
LIMITS = {AtLimit.WARN: "tell only", AtLimit.BLOCK: "start nothing new", AtLimit.STOP: "stop what runs"}
MOST_HOUSES = 50  # of which budgets are told at once
MOST_INVOICES = 200
ENGLISH = language_of("en")
MONTHS = 12  # that can be downloaded from the page
KINDS: dict[Scope, type[Any]] = {Scope.ORGANIZATION: Organization, Scope.PROJECT: Project, Scope.MEMBER: Member}


@router.get("/usage/budgets")
def limits(page: Signed, organization: House = "") -> Response:
    """What may be spent in a month, and what has been."""
    return _limits(page, organization)


@router.post("/usage/budgets")
def set_limit(page: Signed, form: Sent) -> Response:
    """Set a budget, or take it away."""
    house = form.text("organization")
    try:
        scope, scope_id = _scope(form.text("for"))
        if form.ticked("remove"):
            page.run(remove_budget, scope=scope, scope_id=scope_id, version=form.number("version"))
            return page.go(_address(house), said="The budget is taken away.")
        page.run(
            put_budget, scope=scope, scope_id=scope_id, amount=form.text("amount"), at_limit=_word(form),
            warn_percent=form.number("warn_percent") or 80, version=form.number("version"),
        )  # fmt: skip
    except CallerError as error:
        return _limits(page, house, form, error)
    return page.go(_address(house), said="The budget is set.")


def _address(house: str) -> str:
    return f"/usage/budgets?organization={house}" if house.startswith("org_") else "/usage/budgets"


def _scope(text: str) -> tuple[Scope, str]:
    """`project:prj_1` as what a budget is for."""
    name, _, scope_id = text.partition(":")
    if name not in Scope.__members__.values() or not scope_id:
        raise Invalid("Choose what the budget is for.", field="for", value=text, allowed="one of the list")
    return Scope(name), scope_id


def _word(form: Form) -> AtLimit:
    word = form.text("at_limit", AtLimit.STOP)
    if word not in AtLimit.__members__.values():
        raise Invalid(f"at_limit is {word!r}.", field="at_limit", value=word, allowed=", ".join(AtLimit))
    return AtLimit(word)


def _limits(page: Page, named: str, form: Form = EMPTY, error: CallerError | None = None) -> Response:
    houses = choices(page)
    chosen = _chosen(page, named, houses)
    ids = [one for one, _ in houses[1 : MOST_HOUSES + 1]] if chosen == ALL else [chosen]
    rows: list[dict[str, Any]] = []
    for house in ids:
        states: tuple[BudgetState, ...] = page.ask(budgets, organization=house)(page.control.reads)
        rows += [_row(page, state) for state in states]
    rows.sort(key=lambda row: (-row["part"], row["name"]))
    single = ids[0] if len(ids) == 1 else None
    now: RunningNow | None = (
        page.ask(running_now, organization=single)(page.control.reads) if single is not None else None
    )
    editable = page.may(Permission.LIMITS_WRITE, single or page.caller.organization_id)
    return page.show(
        "usage_budgets.html", section="usage", title="Usage and cost", form=form, error=error, rows=rows, now=now,
        houses=houses, chosen=chosen, limits=LIMITS, asked=_plain(page, chosen), month=month_of(page.now_us),
        scopes=_scopes(page, ids) if editable else [], names=_spenders(page, now) if now is not None else {},
    )  # fmt: skip


def _chosen(page: Page, named: str, houses: list[tuple[str, str]]) -> str:
    """The id of the organization that a page is about, or "all"."""
    chosen = named or (ALL if houses else page.caller.organization_id)
    return ALL if chosen == ALL and houses else str(page.call.organization(chosen).id)


def _plain(page: Page, organization: str) -> Asked:
    begin, end = month_span_us(month_of(page.now_us))
    return Asked("month", "project", organization if organization != ALL else "", "", begin, end)


def _row(page: Page, state: BudgetState) -> dict[str, Any]:
    """A budget with what is spent of it, and when it will be used up as the month has gone so far."""
    budget = state.budget
    spent = state.spent_nano + state.accrued_nano
    begin, end = month_span_us(state.month)
    gone = max(page.now_us - begin, 1)
    ends_us = None
    if 0 < spent < budget.amount_nano:
        at = page.now_us + (budget.amount_nano - spent) * gone // spent
        ends_us = at if at < end else None
    part = spent / budget.amount_nano if budget.amount_nano else 1.0
    told = "over" if part >= 1 else "near" if part * 100 >= budget.warn_percent else "within"
    name = page.world.get(KINDS[budget.scope], budget.scope_id)
    house: Organization | None = page.world.get(Organization, budget.organization_id)
    return {
        "budget": budget, "spent": spent, "part": part, "state": told, "ends_us": ends_us,
        "name": name.name if name is not None else budget.scope_id, "house": house.name if house is not None else "",
    }  # fmt: skip


def _scopes(page: Page, ids: list[str]) -> list[tuple[str, str]]:
    """What a budget may be for: (value of the form, words)."""

    def question(world: Any, _context: Any, _caller: Any) -> list[tuple[str, str]]:
        found = []
        for house in ids:
            own: Organization = world.get(Organization, house)
            prefix = f"{own.name} / " if len(ids) > 1 else ""
            found.append((f"organization:{house}", f"{own.name} (organization)"))
            for kind, scope in ((Project, "project"), (Member, "member")):
                some = [one for one in world.all(kind).values() if one.organization_id == house]
                found += sorted((f"{scope}:{one.id}", f"{prefix}{one.name} ({scope})") for one in some)
        return found

    found: list[tuple[str, str]] = page.ask(question)
    return found


def _spenders(page: Page, now: RunningNow) -> dict[str, str]:
    names = {}
    for one in now.spenders:
        record = page.world.get(KINDS[Scope(one.scope)], one.scope_id)
        names[one.scope_id] = record.name if record is not None else one.scope_id
    return names


@router.get("/usage/invoices")
def invoices(page: Signed, organization: House = "") -> Response:
    """Documents, the invoice as it would be now, and downloads."""
    houses = choices(page)
    chosen = _chosen(page, organization, houses)
    where = page.ask(queries_invoices.invoices_filter, chosen)
    found: list[Invoice] = page.call.part(  # type: ignore[assignment]
        Invoice, limit=MOST_INVOICES, cursor=None, newest=True, **where
    ).items
    now: Draft | None = None
    ahead: MonthAhead | None = None
    if chosen != ALL:
        now = page.ask(draft, organization=chosen)(page.control.reads)
        ahead = page.ask(month_ahead, organization=chosen)(page.control.reads)
    return page.show(
        "usage_invoices.html", section="usage", title="Usage and cost", invoices=found, draft=now, ahead=ahead,
        houses=houses, chosen=chosen, asked=_plain(page, chosen), months=_months(page.now_us),
        names={one.id: one.name for one in _houses(page, found)}, projects=_projects(page, now.lines if now else ()),
        describe=_described, quantity=_quantity,
    )  # fmt: skip


@router.get("/usage/invoices/{invoice_id}")
def invoice(page: Signed, invoice_id: Annotated[str, Path(max_length=200)]) -> Response:
    """One document."""
    found: Invoice = page.ask(queries_invoices.invoice, invoice_id)
    return page.show(
        "usage_invoice.html", section="usage", title=f"{found.kind.replace('_', ' ').capitalize()} {found.number}",
        invoice=found, projects=_projects(page, found.lines), describe=_described, quantity=_quantity,
    )  # fmt: skip


def _quantity(line: InvoiceLine) -> str:
    """How much of what: `1,234.5 GPU-hours`."""
    return f"{units_of(line):,.2f} {unit_words(line, ENGLISH)}"


def _described(line: InvoiceLine) -> str:
    return describe(line, ENGLISH)


def _months(now_us: int) -> list[str]:
    """This month and those before it."""
    found, at = [], now_us
    for _ in range(MONTHS):
        found.append(month_of(at))
        at = month_span_us(found[-1])[0] - DAY_US
    return found


def _houses(page: Page, found: list[Invoice]) -> list[Organization]:
    houses = (page.world.get(Organization, one) for one in sorted({each.organization_id for each in found}))
    return [one for one in houses if one is not None]


def _projects(page: Page, lines: Any) -> dict[str, str]:
    homes = (page.world.get(Project, one) for one in sorted({line.project_id for line in lines}))
    return {one.id: one.name for one in homes if one is not None}
