"""Counts of tokens as engines report them, made disjoint: input that was computed, input from the cache, output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headframe.base.errors import Invalid

METERS = ("tokens:input", "tokens:cached", "tokens:output")


def normalised(usage: Mapping[str, Any]) -> dict[str, int]:
    """The quantities of the three meters, from either style of report.

    In one style (`prompt_tokens`, with `prompt_tokens_details.cached_tokens`) what came from the cache is part of the
    input, so it is taken out. In the other (`input_tokens`, `cache_read_input_tokens`, `cache_creation_input_tokens`)
    it stands beside it; writing to the cache counts as input. Raises `Invalid` for a count that is no natural number.
    """
    if "prompt_tokens" in usage:
        details = usage.get("prompt_tokens_details") or {}
        cached = _count(details, "cached_tokens")
        whole = _count(usage, "prompt_tokens")
        if cached > whole:
            raise Invalid(
                f"{cached} tokens came from the cache, of {whole} of input.",
                field="cached_tokens", value=cached, allowed="at most prompt_tokens",
            )  # fmt: skip
        counts = (whole - cached, cached, _count(usage, "completion_tokens"))
    else:
        written = _count(usage, "cache_creation_input_tokens")
        counts = (
            _count(usage, "input_tokens") + written,
            _count(usage, "cache_read_input_tokens"),
            _count(usage, "output_tokens"),
        )
    return dict(zip(METERS, counts, strict=True))


def _count(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name) or 0
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Invalid(f"{name} is {value!r}.", field=name, value=value, allowed="a whole number, 0 or more")
    return value
