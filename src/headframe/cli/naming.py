"""Names in the place of ids, as people know them: of organizations, projects and members that the key may see."""

from __future__ import annotations

from collections.abc import Callable

from headframe.base.errors import HeadframeError
from headframe.cli.options import Session


class Names:
    """The name behind an id, asked for once for each kind; the id itself where the key may not see the name."""

    def __init__(self, session: Session, organization: str | None = None) -> None:
        client = session.client
        self._lists: dict[str, Callable[[], list[dict[str, object]]]] = {
            "prj_": lambda: client.projects(organization=organization),
            "mem_": lambda: client.members(organization=organization),
            "org_": client.organizations,
        }
        self._known: dict[str, dict[str, str]] = {}

    def of(self, record_id: object) -> str:
        text = "" if record_id is None else str(record_id)
        prefix = text[:4]
        if prefix not in self._lists:
            return text
        if prefix not in self._known:
            try:
                rows = self._lists[prefix]()
            except HeadframeError:
                rows = []
            self._known[prefix] = {str(row["id"]): str(row["name"]) for row in rows}
        return self._known[prefix].get(text, text)
