"""The engines by name: one line each. A factory opens a cluster's engine, not yet started, from its `Home`."""

from __future__ import annotations

from collections.abc import Callable

from headframe.control.ports import Engine
from headframe.engines.homes import Home
from headframe.engines.local import LocalEngine
from headframe.engines.rehearsal import Rehearsal
from headframe.engines.slurm import SlurmEngine

FACTORIES: dict[str, Callable[[Home], Engine]] = {
    LocalEngine.name: LocalEngine.at,
    Rehearsal.name: Rehearsal.at,
    SlurmEngine.name: SlurmEngine.at,
}
