# python benchmarks/billing.py --json [--only draft,close,...]
"""Billing at the size of a large cloud: drafts, a full close, a re-rating, events, postings, a trial balance.

The month: 100,000 GPUs on 12,500 nodes over 31 days, 9.3 million node-hours of 400 customers in four kinds, two
regions, on-demand and spot, with dated prices, reservations and tiers; one hour in ten is used in part. Its usage lies
in files of columns, as `headframe prices preview` keeps it (`store.usage_columns`), and is drafted as that drafts each
customer (`control.preview.draft_of`). Each figure is taken in a process of its own, start to end.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

HOUR_US = 3_600_000_000
MONTH, BEGIN_US, HOURS = "2026-12", 1_796_083_200_000_000, 744
TENANTS, NODES = 400, 12_500
KINDS = ("H100", "A100", "H200", "L40S")


# The month.


def make_month(folder: Path) -> None:
    """Write the usage of the month in columns, as a whole for the second engine and as the product keeps it."""
    from headframe.store.usage_columns import write_columns

    luck = np.random.default_rng(7)
    nodes = np.array_split(np.arange(NODES), TENANTS)
    groups: list[list[Any]] = []
    parts: list[tuple[np.ndarray, ...]] = []
    at = 0
    hours = BEGIN_US + np.arange(HOURS, dtype=np.int64) * HOUR_US
    for tenant, mine in enumerate(nodes):
        by_use: dict[tuple[int, int, int], list[int]] = {}
        for node in mine:
            by_use.setdefault((int(node) % 4, int(node) // 4 % 2, int(node) // 8 % 5 == 0), []).append(int(node))
        for (kind, region, spot), members in sorted(by_use.items()):
            count = len(members) * HOURS
            start = np.tile(hours, len(members))
            span = np.full(count, HOUR_US, dtype=np.int64)
            if not (tenant % 4 == 0 and not spot):  # what a contract may cover is used by whole hours here
                part = luck.random(count) < 0.1
                offset = luck.integers(0, HOUR_US // 2, count)
                start = np.where(part, start + offset, start)
                span = np.where(part, luck.integers(1, HOUR_US // 2, count), span)
            held = np.where(luck.random(count) < 0.05, 4000, 8000)
            order = np.repeat(np.array(members), HOURS)
            parts.append((start, span.astype(np.uint32), held.astype(np.int32), order.astype(np.int32)))
            use = [f"org_{tenant:03d}", f"prj_{tenant:03d}", f"reg_{region}", "spot" if spot else "on-demand"]
            groups.append([*use, f"gpu:{KINDS[kind]}", at, at + count])
            at += count
    for name, columns in zip(("from", "span", "held", "order"), zip(*parts, strict=True), strict=True):
        np.save(folder / f"{name}.npy", np.concatenate(columns))
    (folder / "groups.json").write_text(json.dumps(groups))
    for owner, batch in cut_by_tenant(folder):
        write_columns(folder / "columns" / f"{owner}.npz", batch, 1)


def book_and_contracts() -> tuple[Any, list[Any]]:
    from headframe.pricing.book import Book
    from headframe.pricing.records import Contract, Price, Tier

    prices = []
    day_us = 24 * HOUR_US
    for number, kind in enumerate(KINDS):
        for region in ("reg_0", "reg_1"):
            for place, first_us in enumerate((0, BEGIN_US + 9 * day_us + 1234567, BEGIN_US + 20 * day_us)):
                base = 2_990_000_001 - 400_000_007 * number + 10_000_019 * place + (7 if region == "reg_1" else 0)
                about = {"meter": f"gpu:{kind}", "region_id": region, "from_us": first_us, "unit": "gpu-hour"}
                prices.append(Price(f"price_{kind}_{region}_{place}", unit_nano=base, **about))
                prices.append(
                    Price(f"spot_{kind}_{region}_{place}", unit_nano=base // 3, purchase="spot", shape="spot", **about)
                )
    tiers = (Tier(5_000, 1_100_000_003), Tier(20_000, 900_000_001), Tier(None, 700_000_003))
    for tenant in range(3, TENANTS, 8):
        prices.append(
            Price(
                f"tiers_{tenant:03d}", "gpu:L40S", 0, 0, unit="gpu-hour", organization_id=f"org_{tenant:03d}",
                shape="graduated", tiers=tiers, purchase="on-demand",
            )
        )  # fmt: skip
    contracts = [
        Contract(
            f"con_{tenant:03d}", f"org_{tenant:03d}", "", "Reserved 24 H100", "reserved", 1_900_000_001, BEGIN_US,
            BEGIN_US + HOURS * HOUR_US, meter="gpu:H100", quantity=24_000, unit="gpu-hour",
            rated_us=BEGIN_US + HOURS * HOUR_US,
        )
        for tenant in range(0, TENANTS, 4)
    ]  # fmt: skip
    return Book(prices), contracts


def cut_by_tenant(folder: Path) -> Iterator[tuple[str, Any]]:
    """The usage of each customer, cut out of the whole."""
    from headframe.pricing.batch import Batch, Columns, Use

    names = ("from", "span", "held", "order")
    columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
    batch, owner = Batch(), ""
    for *use, start, stop in json.loads((folder / "groups.json").read_text()):
        if use[0] != owner and owner:
            yield owner, batch
            batch = Batch()
        owner = use[0]
        begin, span, held, order = (columns[name][start:stop].astype(np.int64) for name in names)
        never = np.full(len(begin), -1, dtype=np.int64)
        batch.groups[Use(*use)] = Columns(begin, begin + span, held, never, order)
    yield owner, batch


def tenants_of(folder: Path) -> Iterator[tuple[str, Any]]:
    """The usage of each customer, read from the product's files when its turn comes."""
    from headframe.store.usage_columns import read_columns

    for tenant in range(TENANTS):
        owner = f"org_{tenant:03d}"
        yield owner, read_columns(folder / "columns" / f"{owner}.npz", 1)


def draft_all(folder: Path) -> tuple[list[Any], int]:
    """The drafts of all customers, and the sum of their exact lines."""
    from headframe.control.preview import draft_of
    from headframe.ledger.close import Terms
    from headframe.ledger.records import Party, TaxRate

    book, contracts = book_and_contracts()
    seller = Party("seller", "Benchmark Cloud GmbH", "Street 1", "Dortmund", "44379", "DE", "DE123456788")
    rates = (TaxRate("tax_1", "DE", "S", 19_000, 0),)
    drafts = []
    for number, (owner, batch) in enumerate(tenants_of(folder), 1):
        buyer = Party(owner, f"Customer {owner}", "Road 2", "Berlin", "10115", "DE", "DE987654321")
        mine = [one for one in contracts if one.organization_id == owner]
        draft = draft_of(owner, MONTH, "USD", batch, book, mine, Terms(seller, buyer, rates))
        drafts.append(replace(draft, number=number))
    return drafts, sum(line.amount_nano for draft in drafts for line in draft.lines)


def child_draft(folder: Path) -> dict[str, Any]:
    drafts, exact = draft_all(folder)
    return {
        "total_nano": str(exact),
        "invoices": len(drafts),
        "lines": sum(len(one.lines) for one in drafts),
    }


# The full close.


def daily_pieces(folder: Path, names: dict[tuple[Any, ...], Any]) -> Iterator[tuple[Any, Any]]:
    """Rated use by node and day, for FOCUS and for the ledger."""
    from headframe.documents.focus_costs import Key, Sums
    from headframe.pricing.batch import beyond_contracts, products_divided
    from headframe.pricing.book import Buyer

    book, contracts = book_and_contracts()
    day_us = 24 * HOUR_US
    for owner, batch in tenants_of(folder):
        beyond = beyond_contracts(batch.groups, [one for one in contracts if one.organization_id == owner])
        for use, columns in sorted({**batch.groups, **beyond}.items()):
            buyer = Buyer(owner, "USD", use.region_id, use.purchase)
            for start, stop, offer in book.pieces(use.meter, buyer, BEGIN_US, BEGIN_US + HOURS * HOUR_US):
                if offer is None or offer.price.tiers:
                    continue
                span = np.maximum(np.minimum(columns.to_us, stop) - np.maximum(columns.from_us, start), 0)
                quantity = columns.held * span
                amounts = products_divided(quantity, offer.unit_nano, offer.size)
                slot = columns.order * 32 + (columns.from_us - BEGIN_US) // day_us
                edges = np.flatnonzero(np.diff(slot, prepend=slot[0] - 1))
                sums, quantities = np.add.reduceat(amounts, edges), np.add.reduceat(quantity, edges)
                for place, amount, much in zip(slot[edges].tolist(), sums.tolist(), quantities.tolist(), strict=True):
                    if not much:
                        continue
                    node, day = divmod(place, 32)
                    begin = BEGIN_US + day * day_us
                    key = Key(
                        owner, use.project_id, f"alc_{node}", begin, use.meter, "usage", use.purchase, "standard", "",
                        offer.price.id, offer.price.unit, offer.unit_nano, "", 0, "", 0, use.region_id, "S", "USD",
                        MONTH, "",
                    )  # fmt: skip
                    yield key, Sums(much, amount, amount, amount, amount, begin, begin + day_us)


def child_close(folder: Path) -> dict[str, Any]:
    from headframe.base.changes import Changes
    from headframe.documents import focus_columns
    from headframe.documents.einvoice import invoice_xml
    from headframe.documents.focus import Month
    from headframe.documents.focus_costs import cost_and_usage
    from headframe.documents.focus_files import focus_parquet
    from headframe.documents.folder import write_whole
    from headframe.documents.pdf import invoice_pdf
    from headframe.ledger.chain import Head, link
    from headframe.ledger.records import Transfer
    from headframe.store.migrations import migrate
    from headframe.store.sql_store import SqlStore

    marks = [time.perf_counter()]
    drafts, _ = draft_all(folder)
    marks.append(time.perf_counter())

    def paper(document: Any) -> None:
        pdf = invoice_pdf(document, invoice_xml(document))
        write_whole(folder / f"{document.number:06d}.pdf", pdf)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(paper, drafts))
    marks.append(time.perf_counter())
    pieces = dict(daily_pieces(folder, {}))
    month = Month(MONTH, drafts[0].seller, (), (), (), now_us=BEGIN_US + HOURS * HOUR_US)
    write_whole(
        folder / "CostAndUsage.parquet", focus_parquet(focus_columns.COST_AND_USAGE, cost_and_usage(month, pieces))
    )
    marks.append(time.perf_counter())
    place = folder / "ledger.db"
    migrate(f"sqlite:///{place}")
    store, head, posted, rows = SqlStore(f"sqlite:///{place}"), Head(), 0, []
    for number, (key, sums) in enumerate(pieces.items()):
        rows.append(
            Transfer(
                f"{key.resource_id}.{number}", f"receivable:{key.organization_id}", f"revenue:{key.meter}",
                sums.amount_nano, "USD", key.day_us + 1, "usage", key.resource_id, key.organization_id,
            )
        )  # fmt: skip
        if len(rows) == 10_000 or number == len(pieces) - 1:
            linked = link([row for row in rows if row.amount_nano], head, key.day_us)
            head = Head(linked[-1].number, linked[-1].chain)
            store.apply(Changes(linked))
            posted += len(linked)
            rows = []
    balance = sum(store.balances().values())
    store.close()
    marks.append(time.perf_counter())
    took = dict(zip(("draft", "documents", "focus", "postings"), np.diff(marks).round(2).tolist(), strict=True))
    return {"pieces": len(pieces), "posted": posted, "balance_nano": balance, "parts_seconds": took}


# A second engine.


def child_engine(folder: Path) -> dict[str, Any]:
    """The same month by DuckDB, row by row in 128-bit integers: overlap join, coverage by a window, half to even."""
    import duckdb

    from headframe.pricing.book import Buyer

    book, contracts = book_and_contracts()
    groups = json.loads((folder / "groups.json").read_text())
    names = ("from", "span", "held", "order")
    columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
    group = np.repeat(np.arange(len(groups), dtype=np.int32), [stop - start for *_, start, stop in groups])
    db = duckdb.connect()
    db.execute("SET memory_limit='3GB'")
    db.register("usage_columns", {  # type: ignore[arg-type]
        "g": group, "f": np.asarray(columns["from"]), "s": np.asarray(columns["span"]).astype(np.int64),
        "h": np.asarray(columns["held"]).astype(np.int64), "o": np.asarray(columns["order"]).astype(np.int64),
    })  # fmt: skip
    db.execute("CREATE TABLE pieces (g INTEGER, a BIGINT, b BIGINT, p HUGEINT, d HUGEINT, tiered BOOLEAN)")
    db.execute("CREATE TABLE promised (g INTEGER, org VARCHAR, meter VARCHAR, q BIGINT)")
    terms = {one.organization_id: one for one in contracts}
    for place, (org, _, region, purchase, meter, _, _) in enumerate(groups):
        for a, b, offer in book.pieces(
            meter, Buyer(org, "USD", region, purchase), BEGIN_US, BEGIN_US + HOURS * HOUR_US
        ):
            if offer is not None:
                row = [place, a, b, offer.unit_nano, offer.size, bool(offer.price.tiers)]
                db.execute("INSERT INTO pieces VALUES (?, ?, ?, ?, ?, ?)", row)
        covers = org in terms and meter == terms[org].meter and purchase != "spot"
        db.execute(
            "INSERT INTO promised VALUES (?, ?, ?, ?)", [place, org, meter, terms[org].quantity if covers else 0]
        )
    db.execute(
        "CREATE TABLE beyond AS SELECT u.g, u.f, u.s, CASE WHEN p.q = 0 THEN u.h ELSE u.h - greatest(0, least(u.h, "
        "p.q - (sum(u.h) OVER (PARTITION BY p.q > 0, p.org, p.meter, u.f ORDER BY u.o ROWS UNBOUNDED PRECEDING) "
        "- u.h))) "
        "END AS h FROM usage_columns u JOIN promised p USING (g)"
    )
    db.execute(
        "CREATE TABLE rated AS SELECT r.g, r.tiered, r.a, r.p, r.d, CAST(r.h AS HUGEINT) * r.us AS q FROM (SELECT x.g, "
        "c.tiered, c.a, c.p, c.d, x.h, greatest(0, least(x.f + x.s, c.b) - greatest(x.f, c.a)) AS us FROM beyond x "
        "JOIN pieces c ON c.g = x.g AND x.f < c.b AND x.f + x.s > c.a) r"
    )
    plain = db.execute(
        "SELECT sum(q * p // d + CASE WHEN 2 * (q * p % d) > d OR (2 * (q * p % d) = d AND (q * p // d) % 2 = 1) "
        "THEN 1 ELSE 0 END) FROM rated WHERE NOT tiered"
    ).fetchone()[0]
    total = int(plain)
    steps = ((5_000, 1_100_000_003), (20_000, 900_000_001), (None, 700_000_003))
    tiered = "SELECT sum(rated.q), any_value(d) FROM rated JOIN promised USING (g) WHERE tiered GROUP BY org"
    for quantity, size in db.execute(tiered).fetchall():
        left, worth, below = Fraction(int(quantity), int(size)), Fraction(0), 0
        for up_to, each in steps:
            part = left if up_to is None else min(left, up_to - below)
            worth, left, below = worth + part * each, left - part, up_to or 0
        total += round(worth)
    for contract in contracts:
        total += round(Fraction(contract.unit_nano * contract.quantity * HOURS, 1000))
    return {"total_nano": str(total)}


# Small things.


def child_rerate(folder: Path) -> dict[str, Any]:
    """One customer's month of hourly charges in a store, a back-dated price, and its corrections, booked."""
    from headframe.base.changes import Changes
    from headframe.ledger.chain import Head, link
    from headframe.ledger.wallets import pay
    from headframe.pricing.book import Book
    from headframe.pricing.records import Charge, Price
    from headframe.pricing.rerate import rerate
    from headframe.store.migrations import migrate
    from headframe.store.sql_store import SqlStore

    place = folder / "rerate.db"
    migrate(f"sqlite:///{place}")
    store = SqlStore(f"sqlite:///{place}")
    rows = [
        Charge(
            f"alc_{node}.{hour}.gpu:H100.0", f"alc_{node}.{hour}", f"alc_{node}", f"job_{node}", "org_1", "prj_1",
            "mem_1", "gpu:H100", "usage", "price_1", 8000 * HOUR_US, 2_990_000_000, 8 * 2_990_000_000, "USD",
            BEGIN_US + hour * HOUR_US, BEGIN_US + (hour + 1) * HOUR_US, BEGIN_US + (hour + 1) * HOUR_US,
            unit="gpu-hour",
        )
        for node in range(31)
        for hour in range(HOURS)
    ]  # fmt: skip
    store.apply(Changes(tuple(rows)))
    old = Price("price_1", "gpu:H100", 2_990_000_000, 0, unit="gpu-hour")
    new = Price("price_2", "gpu:H100", 2_490_000_000, BEGIN_US + 15 * 24 * HOUR_US, unit="gpu-hour")
    began = time.perf_counter()
    told: list[Any] = []
    after = None
    from_us = BEGIN_US + 15 * 24 * HOUR_US
    while page := store.find(Charge, after=after, limit=20_000, organization_id="org_1", at_us__ge=from_us + 1):
        told += page
        after = page[-1].id
    made = list(rerate(told, Book([replace(old, to_us=new.from_us), new]), BEGIN_US + HOURS * HOUR_US, "again"))
    rows = [*made, *pay(made, (), False, BEGIN_US + HOURS * HOUR_US)]
    store.apply(Changes(link(rows, Head(), BEGIN_US + HOURS * HOUR_US)))
    took = time.perf_counter() - began
    kinds = sorted({one.kind for one in made})
    store.close()
    return {"seconds": took, "corrections": len(made), "kinds": kinds}


def child_events(folder: Path) -> dict[str, Any]:
    """CloudEvents read, checked and kept with dedup; then the same file again, which changes nothing."""
    from headframe.metering.defaults import default_meters
    from headframe.metering.intake import Desk, read_events
    from headframe.store.migrations import migrate
    from headframe.store.sql_store import SqlStore

    place, count, size = folder / "events.db", 200_000, 5_000
    migrate(f"sqlite:///{place}")
    store = SqlStore(f"sqlite:///{place}")
    meters: dict[str, list[Any]] = {}
    for meter in default_meters(BEGIN_US):
        meters.setdefault(meter.event_type, []).append(meter)
    desk = Desk({"default": ("prj_1", "org_1")}, meters, BEGIN_US + HOUR_US)
    lines = [
        json.dumps(
            {
                "specversion": "1.0", "id": f"evt-{number}", "source": "/gateway/1", "type": "headframe.tokens",
                "subject": "default", "time": "2026-12-01T00:10:00Z",
                "data": {"model": "m", "input": 10, "cached": 0, "output": number % 700},
            }
        )
        for number in range(count)
    ]  # fmt: skip
    kept: list[int] = []
    spans: list[float] = []
    for _ in range(2):
        began = time.perf_counter()
        kept.append(0)
        for first in range(0, count, size):
            told = [json.loads(line) for line in lines[first : first + size]]
            kept[-1] += store.take_in(read_events(told, desk))
        spans.append(time.perf_counter() - began)
    store.close()
    return {"per_second": count / spans[0], "again_per_second": count / spans[1], "kept": kept}


def child_ledger(folder: Path) -> dict[str, Any]:
    """500,000 transfers (a million postings) in batches, chained, on disk; then the trial balance."""
    from headframe.base.changes import Changes
    from headframe.ledger.chain import Head, link
    from headframe.ledger.records import Transfer
    from headframe.ledger.trial import trial_balance
    from headframe.store.migrations import migrate
    from headframe.store.sql_store import SqlStore

    place, count, size = folder / "postings.db", 500_000, 10_000
    migrate(f"sqlite:///{place}")
    store, head, spent = SqlStore(f"sqlite:///{place}"), Head(), 0.0
    for first in range(0, count, size):
        rows = [
            Transfer(
                f"alc_{number:07d}.0.gpu:H100.0.receivable", f"receivable:org_{number % 400:03d}",
                f"revenue:gpu:{KINDS[number % 4]}", 1000 + number, "USD", BEGIN_US + number, "usage",
                f"alc_{number:07d}.0.gpu:H100.0", f"org_{number % 400:03d}",
            )
            for number in range(first, first + size)
        ]  # fmt: skip
        began = time.perf_counter()
        linked = link(rows, head, BEGIN_US)
        head = Head(linked[-1].number, linked[-1].chain)
        store.apply(Changes(linked))
        spent += time.perf_counter() - began
    began = time.perf_counter()
    balance = trial_balance(store.balances())
    took = time.perf_counter() - began
    store.close()
    return {"per_second": count / spent, "trial_balance_seconds": took, "zero": balance.zero}


CHILDREN = {
    "draft": child_draft, "close": child_close, "engine": child_engine, "rerate": child_rerate,
    "events": child_events, "ledger": child_ledger,
}  # fmt: skip


def run_child(name: str, folder: Path) -> dict[str, Any]:
    """A part in a process of its own; its seconds are counted from before the process begins to after it ends."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, "--child", name, "--folder", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return {**json.loads(done.stdout), "wall_seconds": took}


def measure(folder: Path, only: set[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    parts: dict[str, dict[str, Any]] = {}
    if only & {"draft", "close", "engine"}:
        make_month(folder)
    for name in CHILDREN:
        if name in only:
            parts[name] = run_child(name, folder)
    if "draft" in parts:
        found |= {
            "draft_100k_gpus_seconds": round(parts["draft"]["wall_seconds"], 2),
            "draft_peak_mib": parts["draft"]["peak_mib"], "draft_cpu_seconds": parts["draft"]["cpu_seconds"],
            "draft_lines": parts["draft"]["lines"],
        }  # fmt: skip
    if "close" in parts:
        found |= {"full_close_seconds": round(parts["close"]["wall_seconds"], 2), "close": parts["close"]}
    if "engine" in parts and "draft" in parts:
        found["engines_agree"] = parts["engine"]["total_nano"] == parts["draft"]["total_nano"]
        found["total_nano"] = parts["draft"]["total_nano"]
    if "rerate" in parts:
        found |= {"rerate_tenant_seconds": round(parts["rerate"]["seconds"], 2), "rerate": parts["rerate"]}
    if "events" in parts:
        found |= {"events_per_second": round(parts["events"]["per_second"]), "events": parts["events"]}
    if "ledger" in parts:
        found |= {
            "transactions_per_second": round(parts["ledger"]["per_second"]),
            "trial_balance_1m_seconds": round(parts["ledger"]["trial_balance_seconds"], 3),
            "trial_balance_zero": parts["ledger"]["zero"],
        }  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", default=",".join(CHILDREN), help="Parts to measure, with commas.")
    parser.add_argument("--child")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.child:
        found = CHILDREN[options.child](options.folder)
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        found["peak_mib"] = int(status["VmHWM"].split()[0]) // 1024  # of this program alone: it begins anew at exec
        used = resource.getrusage(resource.RUSAGE_SELF)
        found["cpu_seconds"] = round(used.ru_utime + used.ru_stime, 2)
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory(prefix="headframe-billing-") as folder:
        found = measure(Path(folder), set(options.only.split(",")))
    print(json.dumps(found) if options.json else "\n".join(f"{name}: {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
