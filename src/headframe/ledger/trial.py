"""The trial balance: what every account holds, and the proof that all of them together are nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headframe.ledger.records import Transfer


@dataclass(frozen=True, slots=True)
class AccountBalance:
    """Debits minus credits of one account in one currency, nano-units."""

    account: str
    currency: str
    balance_nano: int


@dataclass(frozen=True, slots=True)
class TrialBalance:
    """All accounts; `sums` of each currency are zero when the books are whole."""

    accounts: tuple[AccountBalance, ...]
    sums: dict[str, int]

    @property
    def zero(self) -> bool:
        return not any(self.sums.values())


def trial_balance(balances: Mapping[tuple[str, str], int]) -> TrialBalance:
    """The trial balance of (account, currency) -> debits minus credits."""
    sums: dict[str, int] = {}
    for (_, currency), balance in sorted(balances.items()):
        sums[currency] = sums.get(currency, 0) + balance
    accounts = tuple(AccountBalance(*key, balance) for key, balance in sorted(balances.items()))
    return TrialBalance(accounts, sums)


def reverse(transfer: Transfer, transfer_id: str, now_us: int, note: str = "") -> Transfer:
    """The transfer that takes another one back: the same amount, the accounts exchanged, dated now and linked to it."""
    return Transfer(
        id=transfer_id, debit=transfer.credit, credit=transfer.debit, amount_nano=transfer.amount_nano,
        currency=transfer.currency, at_us=now_us, kind="reversal", source=transfer.source,
        organization_id=transfer.organization_id, note=note, reverses=transfer.id,
    )  # fmt: skip
