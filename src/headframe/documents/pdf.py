"""An invoice as PDF/A-3b by typst, with its XML inside as Factur-X asks (ISO 19005-3, Factur-X 1.08).

typst writes the page and embeds the file; what it cannot write are the four Factur-X entries of the document's XMP.
They are set into the uncompressed XMP packet afterwards, and the table of offsets is moved along. Nothing else is
touched and no clock is read, so the same invoice is the same bytes.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from headframe.base.errors import OurError
from headframe.documents.sheet import sheet
from headframe.ledger.records import Invoice

TEMPLATE = Path(__file__).with_name("invoice.typ")
_SPACE = "urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#"
_PROPERTIES = (
    ("DocumentFileName", "The name of the embedded XML document", "factur-x.xml"),
    ("DocumentType", "The type of the hybrid document", "INVOICE"),
    ("Version", "The version of the standard of the embedded XML document", "1.0"),
    ("ConformanceLevel", "The conformance level of the embedded XML document", "EN 16931"),
)


def missing_extra(extra: str, package: str) -> OurError:
    """What to say when a library that is an extra is not there."""
    return OurError(
        f"This needs the package {package}, which is not installed.",
        next_step=f"Install it with: pip install 'headframe[{extra}]'",
    )


def invoice_pdf(document: Invoice, xml: bytes | None, *, draft: bool = False) -> bytes:
    """The document as PDF/A-3b; `xml` is embedded as factur-x.xml. Raises `OurError` without the extra "invoices"."""
    try:
        import typst
    except ImportError:
        raise missing_extra("invoices", "typst") from None
    inputs = {
        "sheet": json.dumps(sheet(document, draft=draft), ensure_ascii=False),
        "xml": xml.decode() if xml is not None else "",
    }
    made: Any = typst.compile(
        TEMPLATE, root=TEMPLATE.parent, format="pdf", pdf_standards=["a-3b"], sys_inputs=inputs, font_paths=_fonts(),
    )  # fmt: skip
    assert isinstance(made, bytes)
    return with_facturx_entries(made) if xml is not None else made


@cache
def _fonts() -> Any:
    """typst's own faces, and those of the package that brings Chinese; system fonts are found besides."""
    import typst

    found = find_spec("justmytype_intl_cjk")
    places = [Path(place) / "fonts" / "ofl" / "notosanssc" for place in (found.submodule_search_locations or ())] if (
        found
    ) else []  # fmt: skip
    return typst.Fonts(font_paths=places, include_system_fonts=True, include_embedded_fonts=True)


def with_facturx_entries(pdf: bytes) -> bytes:
    """The PDF with the Factur-X extension schema and its entries in the XMP packet."""
    packet = pdf.find(b"<?xpacket begin")
    bag = pdf.index(b"<pdfaExtension:schemas><rdf:Bag>", packet) + len(b"<pdfaExtension:schemas><rdf:Bag>")
    end = pdf.index(b"</rdf:Description>", bag)
    listed = "".join(
        '<rdf:li rdf:parseType="Resource">'
        f"<pdfaProperty:name>{name}</pdfaProperty:name><pdfaProperty:valueType>Text</pdfaProperty:valueType>"
        f"<pdfaProperty:category>external</pdfaProperty:category>"
        f"<pdfaProperty:description>{meaning}</pdfaProperty:description></rdf:li>"
        for name, meaning, _ in _PROPERTIES
    )
    schema = (
        '<rdf:li rdf:parseType="Resource"><pdfaSchema:schema>Factur-X PDFA Extension Schema</pdfaSchema:schema>'
        f"<pdfaSchema:namespaceURI>{_SPACE}</pdfaSchema:namespaceURI><pdfaSchema:prefix>fx</pdfaSchema:prefix>"
        f"<pdfaSchema:property><rdf:Seq>{listed}</rdf:Seq></pdfaSchema:property></rdf:li>"
    ).encode()
    values = "".join(f"<fx:{name}>{value}</fx:{name}>" for name, _, value in _PROPERTIES)
    entries = f'</rdf:Description><rdf:Description rdf:about="" xmlns:fx="{_SPACE}">{values}'.encode()
    made = pdf[:bag] + schema + pdf[bag:end] + entries + pdf[end:]
    return _mended(pdf, made, packet, len(schema) + len(entries))


def _mended(pdf: bytes, made: bytes, packet: int, grown: int) -> bytes:
    """`made` with the length of the packet's stream and all offsets behind it set right."""
    header = pdf.rindex(b"/Length ", 0, packet)
    match = re.match(rb"/Length (\d+)", pdf[header:])
    assert match is not None
    length = b"/Length %d" % (int(match[1]) + grown)
    made = made[:header] + length + made[header + len(match[0]) :]
    grown += len(length) - len(match[0])
    table = made.rindex(b"\nxref\n") + 1
    tail = re.sub(
        rb"(\d{10}) (\d{5}) n",
        lambda row: b"%010d %s n" % (int(row[1]) + (grown if int(row[1]) > header else 0), row[2]),
        made[table:],
    )
    tail = re.sub(rb"startxref\n(\d+)", lambda row: b"startxref\n%d" % (int(row[1]) + grown), tail)
    return made[:table] + tail
