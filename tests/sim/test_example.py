"""The worked month: one run, and everything in it that finance would check."""

from __future__ import annotations

import csv
import errno
import hashlib
import subprocess
import sys
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from headframe.base.errors import OurError, StoreFailed
from headframe.base.money import divide_half_even
from headframe.documents.focus import money, reconcile
from headframe.documents.folder import write_folder
from headframe.sim.example import Told, play
from tests.unit.documents.papers import broken_rules

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, Path]:
    folder = tmp_path_factory.mktemp("month")
    return play(folder), folder


def rows(place: Path) -> list[dict[str, str]]:
    with place.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_books_balance_and_the_audit_agrees(told: tuple[Told, Path]) -> None:
    found, _ = told
    assert found.balance.sums == {"CNY": 0, "EUR": 0}
    assert found.audit.clean, [str(each) for each in found.audit.differences[:3]]
    assert found.audit.charges > 1000


def test_what_is_billed(told: tuple[Told, Path]) -> None:
    found, _ = told
    kinds = [(each.number, each.kind, each.month, each.buyer.country) for each in found.invoices]
    assert kinds == [
        (1, "invoice", "2026-11", "DE"), (2, "invoice", "2026-11", "FR"), (3, "invoice", "2026-11", "CN"),
        (4, "credit_note", "2026-11", "DE"), (5, "debit_note", "2026-11", "DE"),
    ]  # fmt: skip
    on_demand, reserved, spot, credit, late = found.invoices
    assert [each.category for each in (on_demand.taxes[0], reserved.taxes[0], spot.taxes[0])] == ["S", "AE", "O"]
    fee = next(line for line in reserved.lines if line.kind == "fee")
    assert fee.amount_nano == 8 * 720 * 1_900_000_000
    held = {line.kind: line.quantity for line in reserved.lines if line.contract_id and line.kind != "fee"}
    assert sum(held.values()) == 8000 * 720 * 3600, "used and unused are what is committed"
    assert (spot.from_wallet_nano, spot.payable_nano) == (spot.total_nano, 0)
    assert {line.fx_rate_pico for line in spot.lines} == {8_250_000_000_000}
    given = [line for line in on_demand.lines if line.kind == "credit"]
    used = sum(line.amount_nano for line in on_demand.lines if line.kind != "credit")
    assert [line.amount_nano for line in given] == [-divide_half_even(used, 10)], "99.0 % of November was up"
    assert (credit.corrects, credit.corrects_number, credit.net_nano) == (on_demand.id, 1, 250 * 10**9)
    assert [(line.meter, line.quantity, line.net_nano) for line in late.lines] == [
        ("tokens:output", 12_000_000, 21_600_000_000)
    ]


def test_focus_tables_pass_the_lint_and_equal_the_invoices(told: tuple[Told, Path]) -> None:
    found, folder = told
    names = {"CostAndUsage": "cost-and-usage", "ContractCommitment": "contract-commitment",
             "InvoiceDetail": "invoice-detail", "BillingPeriod": "billing-period"}  # fmt: skip
    sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for month in ("2026-11", "2026-12"):
        bundle = folder / month / "focus-1.4"
        for place in sorted(bundle.iterdir()):
            lint = [BIN / "focus-toolkit", "validate", place, "--dataset", names[place.stem]]
            done = subprocess.run(lint, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stdout + done.stderr
        lint = [BIN / "focus-toolkit", "validate-bundle", "--directory", bundle]
        done = subprocess.run(lint, capture_output=True, text=True, timeout=60)
        assert "bundle validation: OK" in done.stdout, done.stdout
        for table in ("CostAndUsage", "InvoiceDetail"):
            for row in rows(bundle / f"{table}.csv"):
                sums[table, row["InvoiceId"]] += Decimal(row["BilledCost"])
    for each in found.invoices:
        total = money(each.total_nano) * (-1 if each.kind == "credit_note" else 1)
        assert sums["CostAndUsage", f"{each.number:06d}"] == total
        assert sums["InvoiceDetail", f"{each.number:06d}"] == total


def test_late_use_is_one_correction_and_changes_nothing_else(told: tuple[Told, Path]) -> None:
    _, folder = told
    late = [row for row in rows(folder / "2026-12" / "focus-1.4" / "CostAndUsage.csv") if row["x_LateMonth"]]
    assert [(row["ChargeClass"], row["x_LateMonth"], row["BilledCost"]) for row in late] == [
        ("Correction", "2026-11", "21.6")
    ]
    assert not any(row["x_LateMonth"] for row in rows(folder / "2026-11" / "focus-1.4" / "CostAndUsage.csv"))


def test_late_use_is_one_reversal_pair(told: tuple[Told, Path]) -> None:
    _, folder = told
    ledger = (folder / "2026-12" / "ledger.beancount").read_text()
    assert ledger.count("reverses: ") - ledger.count("goodwill") >= 1


def test_what_a_contract_costs_is_spread_over_its_time(told: tuple[Told, Path]) -> None:
    _, folder = told
    spread = [row for row in rows(folder / "2026-11" / "focus-1.4" / "CostAndUsage.csv") if row["CommitmentDiscountId"]]
    assert sum(Decimal(row["EffectiveCost"]) for row in spread) == Decimal(10944)
    assert sum(Decimal(row["BilledCost"]) for row in spread) == Decimal(10944)


def test_e_invoices_and_ledger_are_valid(told: tuple[Told, Path], tmp_path: Path) -> None:
    _, folder = told
    for place in sorted(folder.glob("*/invoices/*.xml")):
        assert broken_rules(place.read_bytes(), tmp_path / "invoice.xml") == [], place.name
    for place in sorted(folder.glob("*/ledger.beancount")):
        done = subprocess.run([BIN / "bean-check", place], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


def test_every_run_gives_the_same_bytes(told: tuple[Told, Path], tmp_path: Path) -> None:
    found, folder = told
    again = play(tmp_path)
    assert again.files == found.files
    for name in found.files:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name
    for line in (folder / "2026-11" / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / "2026-11" / name).read_bytes()).hexdigest() == digest


def test_a_close_that_is_killed_at_any_step_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    """Killed while the nth file is made, and run again: whole files only, and in the end all of them."""
    contents = {f"invoices/{number}.pdf": b"%PDF" + bytes([number]) * 1000 for number in range(4)}

    def files(dies_at: int | None) -> Any:
        for place, (name, content) in enumerate(contents.items()):

            def make(place: int = place, content: bytes = content) -> bytes:
                if place == dies_at:
                    raise KeyboardInterrupt
                return content

            yield name, make

    for dies_at in range(4):
        folder = tmp_path / str(dies_at)
        with pytest.raises(KeyboardInterrupt):
            write_folder(folder, files(dies_at))
        whole = {one.name: one.read_bytes() for one in (folder / "invoices").iterdir()}
        assert whole == {name.split("/")[1]: contents[name] for name in list(contents)[:dies_at]}
        assert write_folder(folder, files(None)) == list(contents)
        assert {one.name: one.read_bytes() for one in (folder / "invoices").iterdir()} == {
            name.split("/")[1]: content for name, content in contents.items()
        }


def test_a_full_disk_leaves_no_half_invoice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headframe.documents import folder as module

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "fsync", full)
        with pytest.raises(StoreFailed, match="No space left"):
            write_folder(tmp_path, [("invoices/1.pdf", lambda: b"whole")])
    assert list((tmp_path / "invoices").iterdir()) == []
    assert write_folder(tmp_path, [("invoices/1.pdf", lambda: b"whole")]) == ["invoices/1.pdf"]


def test_reconciliation_finds_a_nano_unit(told: tuple[Told, Path]) -> None:
    found, _ = told
    one = found.invoices[0]
    total = money(one.total_nano)
    reconcile([one], [("000001", total - 1), ("000001", Decimal(1))])
    with pytest.raises(OurError, match="are not its total"):
        reconcile([one], [("000001", total + Decimal("1e-9"))])
    with pytest.raises(OurError, match="not there"):
        reconcile([one], [("000001", total), ("000099", Decimal(0))])
