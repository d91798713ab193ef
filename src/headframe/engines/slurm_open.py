"""Which way to a Slurm cluster its settings ask for."""

from __future__ import annotations

from pathlib import Path

from headframe.engines.slurm_calls import Calls, Commands
from headframe.engines.slurm_reach import LocalReach, SshReach
from headframe.engines.slurm_rest import Rest
from headframe.engines.slurm_settings import SlurmSettings


def open_calls(settings: SlurmSettings, folder: Path) -> Calls:
    """The command line here or over SSH, or slurmrestd. Nothing is reached yet."""
    users = sorted(set(settings.users.values()))
    if settings.rest:
        return Rest(settings.rest, token_file=settings.token_file, jwt_key=settings.jwt_key, users=users)
    if settings.ssh:
        # A socket's path may hold 107 bytes, and OpenSSH adds to it: so it does not lie in the data folder.
        sockets = Path.home() / ".ssh" / "headframe"
        return Commands(
            SshReach(
                settings.ssh, sockets, settings.key, settings.port, settings.ssh_options, settings.bin, settings.conf
            ),
            users,
        )
    return Commands(LocalReach(settings.bin, settings.conf), users)
