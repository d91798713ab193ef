"""Counts of tokens as engines report them, made disjoint: input that was computed, input from the cache, output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headframe.base.errors import Invalid

KINDS = ("input", "cached", "output")
_STYLES = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")


def normalised(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data of an event of tokens with the counts of the three kinds in it.

    An engine's own report is taken as it is, in the data itself or as its `usage`; counts that are told by kind stay.
    """
    report = data.get("usage")
    if not isinstance(report, Mapping):
        report = data if any(name in data for name in _STYLES) else None
    return dict(data) if report is None else {**data, **counts_of(report)}


def counts_of(usage: Mapping[str, Any]) -> dict[str, int]:
    """How many tokens of each kind, from either style of report.

    In one style (`prompt_tokens`, with `prompt_tokens_details.cached_tokens`) what came from the cache is part of the
    input, so it is taken out. In the other (`input_tokens`, `cache_read_input_tokens`, `cache_creation_input_tokens`)
    it stands beside it; writing to the cache counts as input. Raises `Invalid` for a count that is no natural number.
    """
    if "prompt_tokens" in usage:
        details = usage.get("prompt_tokens_details")
        cached = _count(details, "cached_tokens") if isinstance(details, Mapping) else 0
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
    return dict(zip(KINDS, counts, strict=True))


def _count(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name) or 0
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Invalid(f"{name} is {value!r}.", field=name, value=value, allowed="a whole number, 0 or more")
    return value
