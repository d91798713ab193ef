"""The part of the SDK for prices, contracts, credit and events of use: mixed into `headframe.client.Client`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from headframe.client.wire import Wire

Row = dict[str, Any]
BATCH = 1000  # events sent in one request, and characters of them: servers bound the size of a request
BATCH_CHARACTERS = 600_000


class MoneyCalls:
    """Calls about what is agreed and what is used."""

    wire: Wire

    def _rows(self, path: str, **query: Any) -> list[Row]:
        rows: list[Row] = self.all(path, **query)  # type: ignore[attr-defined]
        return rows

    def _told(self, path: str, fields: Mapping[str, Any]) -> Row:
        row: Row = self._post(path, fields)  # type: ignore[attr-defined]
        return row

    def tell_usage(self, events: Iterable[Mapping[str, Any]]) -> Row:
        """Tell of use by CloudEvents. Known ones (by source and id) change nothing; gives `events` and `new`.

        Each request of up to 1,000 is kept wholly or not at all; after an error the same call may be made again.
        """
        total = {"events": 0, "new": 0}
        batch: list[Mapping[str, Any]] = []
        size = 0
        for event in events:
            batch.append(event)
            size += len(json.dumps(event))
            if len(batch) == BATCH or size > BATCH_CHARACTERS:
                self._tell(batch, total)
                batch, size = [], 0
        if batch:
            self._tell(batch, total)
        return total

    def _tell(self, batch: list[Mapping[str, Any]], total: dict[str, int]) -> None:
        found = self.wire.call("POST", "/v1/usage/events", body=batch)
        for name in total:
            total[name] += found[name]

    def usage_events(self, **query: Any) -> list[Row]:
        return self._rows("/v1/usage/events", **query)

    def meters(self) -> list[Row]:
        return self._rows("/v1/meters")

    def define_meter(self, **fields: Any) -> Row:
        """Say how events of a type are counted."""
        return self._told("/v1/meters", fields)

    def forecast(self, **query: Any) -> Any:
        """What this month will come to."""
        return self.get("/v1/usage/forecast", **query)  # type: ignore[attr-defined]

    def exchange_rates(self) -> list[Row]:
        return self._rows("/v1/exchange-rates")

    def set_exchange_rate(self, **fields: Any) -> Row:
        """From `starts` on one unit of `base` is `rate` units of `quote`, as `source` says."""
        return self._told("/v1/exchange-rates", fields)

    def contracts(self, **query: Any) -> list[Row]:
        return self._rows("/v1/contracts", **query)

    def agree(self, **fields: Any) -> Row:
        """A contract with an organization."""
        return self._told("/v1/contracts", fields)

    def end_contract(self, contract: str, ends: str | None = None) -> Row:
        return self._told(f"/v1/contracts/{quote(contract, safe='')}/end", {"ends": ends})

    def grants(self, **query: Any) -> list[Row]:
        return self._rows("/v1/credits", **query)

    def holds(self, **query: Any) -> list[Row]:
        return self._rows("/v1/holds", **query)

    def place_hold(self, **fields: Any) -> Row:
        """Set credit aside."""
        return self._told("/v1/holds", fields)

    def post_hold(self, hold: str, amount: str, meter: str) -> Row:
        return self._told(f"/v1/holds/{quote(hold, safe='')}/post", {"amount": amount, "meter": meter})

    def void_hold(self, hold: str) -> Row:
        return self._told(f"/v1/holds/{quote(hold, safe='')}/void", {})
