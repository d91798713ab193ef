"""Invoices as documents: valid by the official rules, readable, and always the same bytes."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import facturx
import pypdfium2
import pytest

from headframe.base.errors import Invalid
from headframe.documents.einvoice import can_be_written, invoice_xml
from headframe.documents.folder import whole_pdf
from headframe.documents.sheet import sheet
from headframe.documents.tables import invoice_csv, invoice_json
from headframe.documents.words import describe, units_of
from headframe.ledger.records import InvoiceLine, Party
from tests.unit.documents.papers import BUYERS, broken_rules, documents, invoice

DOCUMENTS = documents()


def text_of(pdf: bytes) -> str:
    return "\n".join(page.get_textpage().get_text_range() for page in pypdfium2.PdfDocument(pdf))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_e_invoices_keep_the_rules_of_en_16931(name: str, tmp_path: Path) -> None:
    assert broken_rules(invoice_xml(DOCUMENTS[name]), tmp_path / "invoice.xml") == []


def test_the_rules_are_really_run(tmp_path: Path) -> None:
    document = DOCUMENTS["german"]
    wrong = replace(document, total_nano=document.total_nano + 10_000_000)
    assert any("BR-CO-15" in one for one in broken_rules(invoice_xml(wrong), tmp_path / "invoice.xml"))


def test_without_a_country_or_number_there_is_no_e_invoice_but_a_pdf() -> None:
    nameless = replace(DOCUMENTS["german"], seller=Party("seller", "Somebody"))
    assert not can_be_written(nameless)
    with pytest.raises(Invalid, match="names, countries or tax numbers"):
        invoice_xml(nameless)
    assert whole_pdf(nameless).startswith(b"%PDF-1.7")
    assert not can_be_written(replace(DOCUMENTS["french"], buyer=replace(BUYERS["french"], tax_id="")))


@pytest.mark.parametrize("name", ["german", "chinese", "goodwill"])
def test_the_pdf_holds_the_e_invoice_and_is_the_same_each_time(name: str) -> None:
    document = DOCUMENTS[name]
    pdf = whole_pdf(document)
    found, xml = facturx.get_xml_from_pdf(pdf)
    assert (found, xml) == ("factur-x.xml", invoice_xml(document))
    assert whole_pdf(document) == pdf
    for sign in (b"<pdfaid:part>3</pdfaid:part>", b"<fx:ConformanceLevel>EN 16931</fx:ConformanceLevel>"):
        assert sign in pdf
    # The table of offsets still leads to its objects.
    table = int(pdf.rsplit(b"startxref\n", 1)[1].split()[0])
    rows = pdf[table:].split(b"trailer")[0].splitlines()[2:]
    offsets = [(number, int(row.split()[0])) for number, row in enumerate(rows) if row.split()[-1] == b"n"]
    assert offsets
    for number, offset in offsets:
        assert pdf[offset:].startswith(b"%d 0 obj" % number)


def test_what_is_written_on_it() -> None:
    document = DOCUMENTS["german"]
    text = text_of(whole_pdf(document))
    for part in (
        "Invoice", "000017", "Rhine Robotics AG", "PO 1", "H100 GPU, on-demand", "929.89", "DE89 3704",
        "8 H100 for a year, fee",
        "2 December 2026", "1 November 2026", "Tax 19 %", 'team "0" #strong[x]',
    ):  # fmt: skip
        assert part in text, part
    total = sheet(document)["total"]
    assert f"{total} EUR" in text


def test_a_chinese_buyer_gets_it_in_chinese() -> None:
    text = text_of(whole_pdf(DOCUMENTS["chinese"]))
    for part in ("账单", "北京深矿人工智能有限公司", "应付金额", "按需", "2026年12月2日", "CNY"):
        assert part in text.replace(" ", ""), part


def test_many_lines_go_over_many_pages() -> None:
    pages = pypdfium2.PdfDocument(whole_pdf(invoice(count=30)))
    assert len(pages) >= 3
    assert all("Page" in page.get_textpage().get_text_range() for page in pages)


def test_csv_adds_up_and_holds_no_formulas() -> None:
    document = DOCUMENTS["german"]
    first = replace(document.lines[0], project="=cmd|' /C calc'!A0")
    made = invoice_csv(replace(document, lines=(first, *document.lines[1:]))).decode()
    rows = list(csv.DictReader(io.StringIO(made)))
    assert sum(Decimal(row["amount"]) for row in rows) * 10**9 == document.total_nano
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())
    note = list(csv.DictReader(io.StringIO(invoice_csv(DOCUMENTS["goodwill"]).decode())))
    assert sum(Decimal(row["amount"]) for row in note) * 10**9 == -DOCUMENTS["goodwill"].total_nano


def test_json_is_the_record() -> None:
    found = json.loads(invoice_json(DOCUMENTS["german"]))
    assert found["total_nano"] == DOCUMENTS["german"].total_nano
    assert found["lines"][0]["net_nano"] == DOCUMENTS["german"].lines[0].net_nano


def test_quantities_are_told_in_their_units() -> None:
    def line(meter: str, unit: str, quantity: int, kind: str = "usage", **more: str) -> InvoiceLine:
        return InvoiceLine("prj_1", meter, kind, 1, quantity, 1, unit=unit, **more)

    for one, units in (
        (line("gpu:H100", "gpu-hour", 1000 * 3600), 1), (line("memory", "GiB-hour", 1024 * 3600), 1),
        (line("storage:outputs", "GiB-month", 1024 * 3600 * 730 // 8), Decimal("0.125")),
        (line("storage:outputs", "GiB-month", 4 * 86_400), Decimal(4 * 86_400) / (1024 * 3600 * 730)),
        (line("tokens:output", "million", 48_000_000), 48), (line("calls", "one", 7), 7),
        (line("gpu:H100", "one", 1, "fee"), 1),
    ):  # fmt: skip
        assert units_of(one) == units, one
    assert describe(line("sla", "one", 1, "credit", contract_id="con_1", note="Uptime"), 0) == "Uptime, credit"
