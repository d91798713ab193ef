"""The auditor against books that were cooked: whatever is altered, it says what."""

import dataclasses

import pytest

from headframe.ledger.records import Invoice, Transfer
from headframe.pricing.records import Charge
from headframe.sim.auditor import audit
from headframe.sim.run import Simulation


class Cooked:
    """A store's reads with some records of one class altered (or left out, where `cook` gives None)."""

    def __init__(self, inner, kind, cook):
        self.inner, self.kind, self.cook = inner, kind, cook

    def events(self, **where):
        return self.inner.events(**where)

    def get(self, kind, record_id):
        return self.inner.get(kind, record_id)

    def find(self, kind, **where):
        found = self.inner.find(kind, **where)
        if kind is not self.kind:
            return found
        return [cooked for cooked in (self.cook(record) for record in found) if cooked is not None]


@pytest.fixture(scope="module")
def books():
    """The store of a world with credit, an invoice, minimums and charges of several hours."""
    for seed in range(40):
        world = Simulation(seed, "money")
        world._go()
        store = world.inner_store
        transfers = store.find(Transfer, limit=5000)
        wallets = [one for one in transfers if one.debit.startswith("wallet:")]
        roundings = [one for one in transfers if one.kind == "rounding"]
        minimums = [one for one in store.find(Charge, limit=5000) if one.kind == "minimum"]
        if wallets and minimums and roundings and store.find(Invoice):
            assert audit(store).clean
            return store
    raise AssertionError("no seed has all of it")


def change(test, **fields):
    """Alter the first record that `test` accepts, by values or by functions of the record."""
    done = []

    def cook(record):
        if done or not test(record):
            return record
        done.append(record.id)
        return dataclasses.replace(
            record, **{name: value(record) if callable(value) else value for name, value in fields.items()}
        )

    return cook


def drop(test):
    done = []

    def cook(record):
        if done or not test(record):
            return record
        done.append(record.id)
        return None

    return cook


def usage(record):
    return record.kind == "usage"


COOKED = {
    "a nano-unit more": (Charge, lambda: change(usage, amount_nano=lambda it: it.amount_nano + 1), "a charge of"),
    "another price": (Charge, lambda: change(usage, price_id="price_0"), "a charge of"),
    "a charge left out": (Charge, lambda: drop(usage), "a charge of"),
    "a minimum left out": (Charge, lambda: drop(lambda it: it.kind == "minimum"), "a charge of"),
    "another owner": (Charge, lambda: change(usage, organization_id="org_x"), "the owner of charge"),
    "a transfer left out": (Transfer, lambda: drop(usage), "what was booked for charge"),
    "a transfer of nothing": (Transfer, lambda: change(usage, source="nothing"), "transfer"),
    "a wrong account": (Transfer, lambda: change(usage, credit="cash"), "transfer"),
    "credit left out": (Transfer, lambda: drop(lambda it: it.kind.startswith("credit")), "credits"),
    "a greater credit": (
        Transfer,
        lambda: change(lambda it: it.kind.startswith("credit"), amount_nano=lambda it: it.amount_nano + 1),
        "credits",
    ),
    "owed instead of prepaid": (
        Transfer,
        lambda: (
            lambda it: (
                dataclasses.replace(it, debit=it.debit.replace("wallet:", "receivable:"))
                if it.kind in ("usage", "minimum")
                else it
            )
        ),
        "transfer",
    ),
    "an invoice of less": (
        Invoice,
        lambda: change(lambda it: True, total_nano=lambda it: it.total_nano - 1),
        "net, taxed, tax, total",
    ),
    "a line left out": (
        Invoice,
        lambda: change(lambda it: True, lines=lambda it: it.lines[1:]),
        "the lines of invoice",
    ),
    "a gap in the numbers": (Invoice, lambda: change(lambda it: True, number=99), "the number of invoice"),
    "a rounding left out": (Transfer, lambda: drop(lambda it: it.kind == "rounding"), "what is owed for invoice"),
}


@pytest.mark.parametrize("name", COOKED)
def test_cooked_books_are_seen(name, books):
    kind, cook, says = COOKED[name]
    found = audit(Cooked(books, kind, cook()))
    assert not found.clean
    assert any(each.about.startswith(says) for each in found.differences), [str(each) for each in found.differences]


def test_a_difference_tells_both_sides(books):
    kind, cook, _ = COOKED["a nano-unit more"]
    text = str(audit(Cooked(books, kind, cook())).differences[0])
    assert "by the events:" in text
    assert "in the books:" in text
