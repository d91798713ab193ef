"""The ledger as beancount text, to be checked by somebody else's program: `bean-check ledger.beancount`.

Each transfer is a transaction of two postings. Account names follow beancount's grammar (five roots, capitalised
parts); what does not fit is spelled by code point, so no two of ours become one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from headframe.base.money import plain
from headframe.documents.words import moment
from headframe.ledger.records import Transfer

_ROOTS = {
    "receivable": "Assets:Receivable",
    "cash": "Assets:Cash",
    "wallet": "Liabilities:Wallet",
    "tax": "Liabilities:Tax",
    "revenue": "Income:Revenue",
    "grants": "Expenses:Grants",
    "rounding": "Equity:Rounding",
}


def account_name(account: str) -> str:
    """`receivable:org_1` as `Assets:Receivable:Xorg-5f1`: letters, digits and what is spelled by code point."""
    head, _, rest = account.partition(":")
    root = _ROOTS.get(head, f"Equity:{_part(head)}")
    return ":".join([root, *(_part(part) for part in rest.split(":") if rest)])


def _part(text: str) -> str:
    return "X" + "".join(letter if letter.isascii() and letter.isalnum() else f"-{ord(letter):x}-" for letter in text)


def beancount(transfers: Iterable[Transfer]) -> Iterator[str]:
    """The file, line by line: accounts are opened where they are first used."""
    yield 'option "title" "Headframe ledger"\n'
    yield 'option "inferred_tolerance_default" "*:0"\n\n'
    opened: set[str] = set()
    for each in sorted(transfers, key=lambda one: (one.at_us // 86_400_000_000, one.number, one.id)):
        day = f"{moment(each.at_us):%Y-%m-%d}"
        for account in (each.debit, each.credit):
            if account not in opened:
                opened.add(account)
                yield f"{day} open {account_name(account)}\n"
        amount = plain(each.amount_nano, each.currency)
        yield f"{day} * {_quoted(each.kind)} {_quoted(each.note or each.source)}\n"
        yield f"  id: {_quoted(each.id)}\n"
        if each.reverses:
            yield f"  reverses: {_quoted(each.reverses)}\n"
        if each.chain:
            yield f"  chain: {_quoted(f'{each.number} {each.chain}')}\n"
        yield f"  {account_name(each.debit)}  {amount} {each.currency}\n"
        yield f"  {account_name(each.credit)}  -{amount} {each.currency}\n\n"


def _quoted(text: str) -> str:
    plain_text = "".join(letter if letter.isprintable() else " " for letter in text)
    return '"' + plain_text.replace("\\", "\\\\").replace('"', '\\"') + '"'
