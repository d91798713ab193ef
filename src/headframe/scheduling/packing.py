"""Which node takes a task: the registry of packings, one line each, and which cluster uses which.

A cluster chooses by its label `packing`; without one, `default` is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headframe.base.errors import Invalid
from headframe.fleet.records import Cluster, Node
from headframe.scheduling.packing_first import First
from headframe.scheduling.packing_simple import BestFit, DotProduct, Fullest, GpuClustering, GpuPacking, Packing
from headframe.scheduling.packing_usable import OURS, PUBLISHED, Usable

if TYPE_CHECKING:
    from headframe.scheduling.capacity import Capacity

LABEL = "packing"
DEFAULT = "default"
PACKINGS: dict[str, Packing] = {
    packing.name: packing
    for packing in (
        Usable(DEFAULT, "Keeps most GPUs usable for what is asked for lately, each with the CPU that it needs.", OURS),
        Usable("fgd", "Keeps most GPUs usable for what is asked for lately (the published method).", PUBLISHED),
        BestFit(),
        Fullest(),
        DotProduct(),
        GpuPacking(),
        GpuClustering(),
        First(),
    )
}


def packing_named(name: str, *, field: str = LABEL) -> Packing:
    """The packing of this name; raises `Invalid` naming `field`."""
    found = PACKINGS.get(name)
    if found is None:
        raise Invalid(
            f"{field} is {name!r}, which is not a packing policy.",
            field=field, value=name, allowed=", ".join(PACKINGS),
        )  # fmt: skip
    return found


def usable(capacity: Capacity) -> int:
    """How much of what is free could be used by what is asked for lately, in thousandths of GPUs."""
    worth = PACKINGS[DEFAULT]
    assert isinstance(worth, Usable)
    return worth.usable(capacity)


def judges(
    nodes: Sequence[Node], clusters: Mapping[str, Cluster], packing: Packing | None = None
) -> list[tuple[Packing, NDArray[np.bool_] | None]]:
    """Which packing judges which nodes (None: all). A label that names none means the default."""
    if packing is not None:
        return [(packing, None)]
    chosen = [clusters[node.cluster_id].labels.get(LABEL, DEFAULT) for node in nodes]
    chosen = [name if name in PACKINGS else DEFAULT for name in chosen]
    names = sorted(set(chosen)) or [DEFAULT]
    if len(names) == 1:
        return [(PACKINGS[names[0]], None)]
    return [(PACKINGS[name], np.array([one == name for one in chosen])) for name in names]
