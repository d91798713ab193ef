"""What control's port `Papers` asks for, put together from the modules beside this one."""

from __future__ import annotations

from collections.abc import Iterator

from headframe.control.ports import Reads
from headframe.documents.beancount import beancount
from headframe.documents.books import read_books, transfers
from headframe.documents.folder import FORMS, focus_files, month_files, zipped
from headframe.ledger.records import Invoice


class Documents:
    """`control.ports.Papers`. Holds nothing: every document is made when it is asked for."""

    def invoice(self, document: Invoice, form: str) -> tuple[str, bytes]:
        kind, make = FORMS[form]
        return kind, make(document)

    def focus(
        self, reads: Reads, month: str, now_us: int, organization_id: str | None, version: str, form: str
    ) -> bytes:
        return zipped(focus_files(read_books(reads, month, now_us, organization_id), version, form))

    def month(self, reads: Reads, month: str, now_us: int, form: str) -> bytes:
        return zipped(month_files(reads, month, now_us, form))

    def beancount(self, reads: Reads) -> Iterator[str]:
        return beancount(transfers(reads))
