"""Which Unix user the jobs of an organization run as on a Slurm cluster."""

from __future__ import annotations

import os
import pwd

from headframe.base.errors import EngineError
from headframe.engines import sandbox
from headframe.engines.slurm_settings import SlurmSettings
from headframe.fleet.engine_words import Launch


class Users:
    """The cluster's `users`, by organization."""

    def __init__(self, settings: SlurmSettings) -> None:
        self._settings = settings

    def name(self, organization_id: str) -> str:
        """The Unix user for an organization's jobs; "" when they run as ourselves."""
        users = self._settings.users
        return users.get(organization_id) or users.get("*") or ""

    def number(self, launch: Launch) -> int | None:
        """Whose files a job's are; None: ours."""
        if not self._settings.users:
            return sandbox.task_uid(launch.organization_number) if os.geteuid() == 0 else None
        owner = self.owner(launch)
        return owner[0] if owner is not None else None

    def owner(self, launch: Launch) -> tuple[int, int] | None:
        """(uid, gid) of the Unix user that an organization's jobs are submitted as; None: as ourselves."""
        if not self._settings.users:
            return None
        name = self.name(launch.organization_id)
        if not name:
            raise EngineError(
                f"No Unix user of this cluster is meant for the organization {launch.organization_id}.",
                next_step="Name one in the cluster's `users`, or one for all others by *.",
            )
        try:
            found = pwd.getpwnam(name)
            return found.pw_uid, found.pw_gid
        except KeyError:
            raise EngineError(
                f"This machine knows no Unix user {name}.", next_step="Correct the cluster's `users`."
            ) from None
