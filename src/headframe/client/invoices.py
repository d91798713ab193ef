"""The part of the SDK for invoices and exports: mixed into `headframe.client.Client`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from headframe.client.wire import Wire

Row = dict[str, Any]


class InvoiceCalls:
    """Calls about invoices, the ledger and exports. Files are saved whole or not at all."""

    wire: Wire

    def invoice_file(self, invoice: str, place: str | Path, form: str = "pdf") -> Path:
        """Save an invoice as pdf, xml, csv or json."""
        return self._saved(f"/v1/invoices/{quote(invoice, safe='')}/file", place, form=form)

    def void_invoice(self, invoice: str, reason: str) -> Row:
        """The credit note that takes the whole invoice back."""
        return self._sent("POST", f"/v1/invoices/{quote(invoice, safe='')}/void", {"reason": reason})

    def correct_invoice(self, invoice: str) -> list[Row]:
        """Notes at once on what came late of an invoice's month."""
        items: list[Row] = self._sent("POST", f"/v1/invoices/{quote(invoice, safe='')}/correct", {})["items"]
        return items

    def reissue_invoice(self, invoice: str, reason: str) -> Row:
        """A voided invoice once more, for the buyer and by the taxes of now."""
        return self._sent("POST", f"/v1/invoices/{quote(invoice, safe='')}/reissue", {"reason": reason})

    def pay_invoice(self, invoice: str, amount: str = "", note: str = "") -> Row:
        """Record that money came in: all that is open unless told."""
        fields = {"amount": amount, "note": note}
        return self._sent("POST", f"/v1/invoices/{quote(invoice, safe='')}/payments", fields)

    def receivables(self, organization: str | None = None) -> list[Row]:
        """The invoices and debit notes of which anything is open."""
        found: Row = self.wire.call("GET", "/v1/receivables", query={"organization": organization})
        return list(found["items"])

    def credit_invoice(self, invoice: str, amount: str, reason: str) -> Row:
        """The credit note over a part of it, before tax."""
        fields = {"amount": amount, "reason": reason}
        return self._sent("POST", f"/v1/invoices/{quote(invoice, safe='')}/credit", fields)

    def billing(self, organization: str | None = None) -> Row:
        """How an organization stands on its invoices."""
        found: Row = self.wire.call("GET", "/v1/billing", query={"organization": organization})
        return found

    def set_billing(self, organization: str | None = None, **fields: Any) -> Row:
        found: Row = self.wire.call("PUT", "/v1/billing", query={"organization": organization}, body=_present(fields))
        return found

    def seller(self) -> Row:
        found: Row = self.wire.call("GET", "/v1/seller")
        return found

    def set_seller(self, **fields: Any) -> Row:
        return self._sent("PUT", "/v1/seller", fields)

    def tax_rates(self) -> list[Row]:
        found: Row = self.wire.call("GET", "/v1/tax-rates")
        return list(found["items"])

    def set_tax_rate(self, **fields: Any) -> Row:
        return self._sent("POST", "/v1/tax-rates", fields)

    def ledger(self) -> Row:
        """The trial balance, and the newest link of the chain of transfers."""
        found: Row = self.wire.call("GET", "/v1/ledger")
        return found

    def export_focus(
        self,
        month: str,
        place: str | Path,
        *,
        version: str = "1.4",
        form: str = "parquet",
        organization: str | None = None,
    ) -> Path:
        """Save a month's FOCUS tables as a ZIP."""
        return self._saved(
            "/v1/export/focus", place, month=month, version=version, form=form, organization=organization
        )

    def export_month(self, month: str, place: str | Path, form: str = "parquet") -> Path:
        """Save every document of a month as a ZIP."""
        return self._saved("/v1/export/month", place, month=month, form=form)

    def export_beancount(self, place: str | Path) -> Path:
        """Save the whole ledger as beancount text."""
        return self._saved("/v1/export/beancount", place)

    def _saved(self, path: str, place: str | Path, **query: str | None) -> Path:
        from headframe.client.files import save

        asked = urlencode(_present(query))
        save(self.wire, f"{path}?{asked}" if asked else path, Path(place))
        return Path(place)

    def _sent(self, method: str, path: str, fields: Mapping[str, object]) -> Row:
        found: Row = self.wire.call(method, path, body=_present(fields))
        return found


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
