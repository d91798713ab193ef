"""Files as a whole or not at all; and the folder of a month: every document of it, and a list of their digests.

A file is written beside its place, synced, and moved there. Whoever is killed, or runs out of disk, leaves no half
document; running it again writes what is missing, with the same bytes.
"""

from __future__ import annotations

import os
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from headframe.base.errors import StoreFailed
from headframe.control.ports import Reads
from headframe.documents import focus_columns as columns
from headframe.documents.beancount import beancount
from headframe.documents.books import Books, read_books, transfers
from headframe.documents.einvoice import can_be_written, invoice_xml
from headframe.documents.focus import (
    Row,
    billing_period,
    contract_commitment,
    invoice_detail,
    money,
    number_of,
    reconcile,
)
from headframe.documents.focus_costs import Table, cost_and_usage, tabled
from headframe.documents.focus_files import focus_csv, focus_parquet
from headframe.documents.pdf import invoice_pdf
from headframe.documents.tables import invoice_csv, invoice_json
from headframe.ledger.close import month_span_us
from headframe.ledger.records import Invoice

SUMS = "SHA256SUMS"
Make = Callable[[], bytes]


def whole_pdf(document: Invoice) -> bytes:
    """The PDF of a document, with its e-invoice inside where the rules of EN 16931 can be met."""
    return invoice_pdf(document, invoice_xml(document) if can_be_written(document) else None)


FORMS: dict[str, tuple[str, Callable[[Invoice], bytes]]] = {
    "pdf": ("application/pdf", whole_pdf),
    "xml": ("application/xml", invoice_xml),
    "csv": ("text/csv; charset=utf-8", invoice_csv),
    "json": ("application/json", invoice_json),
}


def write_whole(place: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all. Raises `StoreFailed` when the disk does not take it."""
    part = place.with_name(f".{place.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(place)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreFailed(
            f"{place.name} cannot be written: {error.strerror}.",
            next_step=f"Make room in {place.parent} and run the same again: what is written stays, the rest follows.",
            details={"path": str(place)},
        ) from error


def write_folder(folder: Path, files: Iterable[tuple[str, Make]]) -> list[str]:
    """Write the files that are not there yet, and last of all the list of their digests; the names, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    digests: list[tuple[str, str]] = []
    for name, make in files:
        place = folder / name
        place.parent.mkdir(exist_ok=True)
        content = place.read_bytes() if place.exists() and not _may_change(name) else make()
        if not place.exists() or _may_change(name):
            write_whole(place, content)
        digests.append((sha256(content).hexdigest(), name))
    write_whole(folder / SUMS, "".join(f"{digest}  {name}\n" for digest, name in digests).encode())
    return [name for _, name in digests]


def _may_change(name: str) -> bool:
    """Invoices never change; tables of an open month do."""
    return not name.startswith("invoices/")


def month_files(reads: Reads, month: str, now_us: int, form: str = "parquet") -> Iterator[tuple[str, Make]]:
    """Every file of a month: its documents, the FOCUS bundle (1.4) and profile (1.2), the ledger up to its end."""
    books = read_books(reads, month, now_us)
    for document in books.month.invoices:
        name = f"invoices/{number_of(document)}"
        yield f"{name}.pdf", lambda document=document: whole_pdf(document)  # type: ignore[misc]
        if can_be_written(document):
            yield f"{name}.xml", lambda document=document: invoice_xml(document)  # type: ignore[misc]
        yield f"{name}.csv", lambda document=document: invoice_csv(document)  # type: ignore[misc]
        yield f"{name}.json", lambda document=document: invoice_json(document)  # type: ignore[misc]
    for version in ("1.4", "1.2"):
        for name, make in focus_files(books, version, form):
            yield f"focus-{version}/{name}", make
    until_us = month_span_us(month)[1]
    yield "ledger.beancount", lambda: "".join(beancount(transfers(reads, until_us=until_us))).encode()


def focus_files(books: Books, version: str = "1.4", form: str = "parquet") -> Iterator[tuple[str, Make]]:
    """The files of a FOCUS bundle; that of costs is reconciled with the invoices before it is given out."""
    cost = columns.COST_AND_USAGE_1_2 if version == "1.2" else columns.COST_AND_USAGE
    write = focus_parquet if form == "parquet" else focus_csv
    yield f"CostAndUsage.{form}", lambda: write(cost, _reconciled(books))
    others: tuple[tuple[str, dict[str, str], Iterable[Row]], ...] = (
        ("ContractCommitment", columns.CONTRACT_COMMITMENT, contract_commitment(books.month)),
        ("InvoiceDetail", columns.INVOICE_DETAIL, invoice_detail(books.month)),
        ("BillingPeriod", columns.BILLING_PERIOD, billing_period(books.month)),
    )
    for name, names, rows in others if version == "1.4" else ():
        found = list(rows)
        if found:  # a dataset without rows is none
            yield f"{name}.{form}", lambda names=names, found=found: write(names, [tabled(found)])  # type: ignore[misc]


def _reconciled(books: Books) -> Iterator[Table]:
    """CostAndUsage; at its end it is held against the invoices, and nothing is kept if they differ."""
    billed: dict[str, int] = defaultdict(int)
    for table in cost_and_usage(books.month, books.pieces):
        for number, nano in table.billed.items():
            billed[number] += nano
        yield table
    if books.month.closings:
        reconcile(books.month.invoices, ((number, money(nano)) for number, nano in billed.items()))


def zipped(files: Iterable[tuple[str, Make]]) -> bytes:
    """Files as one ZIP archive with fixed dates, so that the same files are the same bytes."""
    sink = BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, make in files:
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, make())
    return sink.getvalue()
