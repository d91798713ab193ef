"""What a form sent: fields as text, read by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request

from headframe.api.origin import TOKEN_FIELD, check_form_token, check_origin, cookie_of
from headframe.base.errors import Invalid
from headframe.tenants.sessions import read_cookie

MOST_FIELDS = 500


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form, in order; a name may come more than once. Empty is what a page shows at first."""

    fields: dict[str, list[str]] = field(default_factory=dict)

    def text(self, name: str, default: str = "") -> str:
        """A field without the blanks around it."""
        given = self.fields.get(name)
        return given[0].strip() if given else default

    def maybe(self, name: str) -> str | None:
        """A field, None when it is absent or empty."""
        return self.text(name) or None

    def raw(self, name: str) -> str:
        """A field as it is, such as a file's text."""
        given = self.fields.get(name)
        return given[0].replace("\r\n", "\n") if given else ""

    def all(self, name: str) -> list[str]:
        """Every value of a field that may come more than once."""
        return [each for each in self.fields.get(name, ()) if each]

    def ticked(self, name: str) -> bool:
        return bool(self.text(name))

    def number(self, name: str) -> int | None:
        """A whole number, None when empty. Raises `Invalid` for anything else."""
        text = self.text(name)
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= 15):
            raise Invalid(f"{name} is {text[:50]!r}.", field=name, value=text[:50], allowed="a whole number")
        return int(text)


async def _form(request: Request) -> Form:
    """The form of the request, sent by a page of ours and with the token of its session."""
    check_origin(request)
    form = read_form(await request.body())
    read = read_cookie(cookie_of(request) or "")
    check_form_token(read[1] if read else "", form.text(TOKEN_FIELD))
    return form


def read_form(body: bytes) -> Form:
    """The fields of a body as browsers send forms."""
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise Invalid("The form cannot be read.", field="body", allowed=f"UTF-8, up to {MOST_FIELDS} fields") from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        if "\0" in value:
            raise Invalid(f"{name[:50]} holds a NUL character.", field=name[:50], allowed="text without NUL")
        found.setdefault(name, []).append(value)
    return Form(found)


Sent = Annotated[Form, Depends(_form)]
EMPTY = Form()
