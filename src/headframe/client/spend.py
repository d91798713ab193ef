"""The part of the SDK for what is spent, on what, and how it could be less: mixed into `headframe.client.Client`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote


class SpendCalls:
    """Calls about what is spent. See the routes of the same names for what comes back."""

    def usage(self, *, start: str | None = None, end: str | None = None, by: str | None = None, **query: Any) -> Any:
        """Use and its cost, summed by dimensions such as "project,label:team,day"."""
        return self.get("/v1/usage", **{"from": start, "to": end, "by": by}, **query)  # type: ignore[attr-defined]

    def running_now(self, **query: Any) -> Any:
        """This month so far by organization, project and member, and what each running job costs."""
        return self.get("/v1/usage/now", **query)  # type: ignore[attr-defined]

    def waste(self, *, start: str | None = None, end: str | None = None, by: str | None = None, **query: Any) -> Any:
        """What was paid for and stood idle, by job, project or member."""
        return self.get("/v1/usage/waste", **{"from": start, "to": end, "by": by}, **query)  # type: ignore[attr-defined]

    def cheaper(self, job: str) -> Any:
        """What a job would have cost in other ways."""
        return self.get(f"/v1/jobs/{quote(job, safe='')}/cheaper")  # type: ignore[attr-defined]
