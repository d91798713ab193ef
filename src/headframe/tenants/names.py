"""What things may be called, so that a name is safe in an address, on a command line and in a table."""

from __future__ import annotations

import re

from headframe.base.errors import Invalid

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")


def slug(text: str, *, field: str) -> str:
    """The name of an organization, a project or a dataset; raises `Invalid` naming `field`."""
    if not _SLUG.fullmatch(text):
        raise Invalid(
            f"{field} is {text!r}, which cannot be a name.",
            field=field, value=text, allowed="1 to 63 small letters, digits and dashes, no dash at either end",
        )  # fmt: skip
    return text


def label(text: str, *, field: str) -> str:
    """The name of a member or a key: anything that can be read, up to 200 characters."""
    if not text.strip() or len(text) > 200 or not text.isprintable():
        raise Invalid(
            f"{field} cannot be that.",
            field=field, value=text[:200], allowed="1 to 200 printable characters",
        )  # fmt: skip
    return text.strip()


def secret_name(text: str, *, field: str) -> str:
    """The name of a secret: jobs get it as an environment variable, with `-` as `_` and in capitals."""
    if not _VARIABLE.fullmatch(text):
        raise Invalid(
            f"{field} is {text!r}, which cannot be the name of a secret.",
            field=field, value=text, allowed="1 to 63 letters, digits, _ and -, not beginning with a digit or -",
        )  # fmt: skip
    return text


def variable_of(secret: str) -> str:
    """The environment variable in which jobs find a secret: `hf-token` is in $HF_TOKEN."""
    return secret.replace("-", "_").upper()
