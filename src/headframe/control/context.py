"""What a command or a question may use besides the world: the moment, identities, the store, the warm sums."""

from __future__ import annotations

from dataclasses import dataclass, field

from headframe.base.ports import Ids
from headframe.control.gauges import Gauges
from headframe.control.ports import Blobs, Reads, Vault
from headframe.control.spending import Spending


@dataclass(frozen=True, slots=True)
class Context:
    """Handed to every command `(world, context, ...) -> (Changes, result)` and question `(...) -> result`."""

    now_us: int
    ids: Ids
    reads: Reads
    vault: Vault
    blobs: Blobs
    spending: Spending
    gauges: Gauges = field(default_factory=Gauges)
