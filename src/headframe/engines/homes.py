"""The clusters of a server besides its own machine: a YAML file that names for each its engine, region and labels.

    lab:
      engine: slurm
      region: north
      labels: {storage: nfs-1}
      ...                      # all other fields are the engine's own settings

Names stay: the ids of clusters and regions are made of them, and bills are told apart by them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headframe.base.errors import Invalid, InvalidSpec
from headframe.fleet.records import Cluster, Region
from headframe.workloads import readers
from headframe.workloads.yaml_text import read

FILE = "clusters.yaml"  # in the data folder
MOST = 1000
_OURS = frozenset({"engine", "region", "labels"})


@dataclass(frozen=True, slots=True)
class Home:
    """What an engine is opened with: whose nodes it tells of, the server's data folder, and its own settings.

    Logs and outputs of jobs belong into `data`, as `engines.joblog` and `engines.outputs` keep them.
    """

    cluster: Cluster
    region: Region
    data: Path
    settings: Mapping[str, Any] = field(default_factory=dict)

    def known(self, *names: str) -> dict[str, Any]:
        """The settings, of which there may be no others than these; raises `Invalid`."""
        for name in sorted(self.settings):
            if name not in names:
                raise Invalid(
                    f"Cluster {self.cluster.name}: {name!r} is not a setting of the engine {self.cluster.engine}.",
                    field=f"{self.cluster.name}.{name}", allowed=", ".join(names) or "none",
                )  # fmt: skip
        return dict(self.settings)


def read_homes(file: Path, data: Path, engines: Collection[str], taken: Collection[str] = ()) -> tuple[Home, ...]:
    """The clusters of a file in its order; raises `Invalid` with field and line. `taken` are names in use already."""
    try:
        document, lines = read(file.read_text(encoding="utf-8"))
    except InvalidSpec as error:
        text = error.message.replace("The job file", f"The file of clusters {file}")
        raise Invalid(text, field=str(file), allowed=error.allowed, next_step=error.next_step) from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Invalid(
            f"The file of clusters {file} cannot be read: {why}.",
            field="--clusters", value=str(file), next_step="Name a file that this user may read.",
        ) from None  # fmt: skip
    if len(document) > MOST:
        raise Invalid(f"{file} names {len(document)} clusters.", field="--clusters", allowed=f"at most {MOST}")
    try:
        return tuple(_home(name, fields, data, engines, taken) for name, fields in document.items())
    except Invalid as error:
        place = error.field
        while place and place not in lines:
            place = place.rpartition(".")[0]
        where = f"{file}:{lines[place]}" if place else str(file)
        raise Invalid(
            f"{where}: {error.message}", field=error.field, value=error.value, allowed=error.allowed
        ) from None


def _home(name: str, fields: object, data: Path, engines: Collection[str], taken: Collection[str]) -> Home:
    readers.name(name, name)
    if name in taken:
        raise readers.refused(name, name, "is the name of this server's own cluster", "another name")
    if not isinstance(fields, Mapping):
        raise readers.refused(name, fields, "is not a table", "a table with at least: engine: NAME")
    engine = str(readers.one_of(tuple(sorted(engines)))(fields.get("engine"), f"{name}.engine"))
    region = str(readers.name(fields.get("region", name), f"{name}.region"))
    labels = readers.labels(fields.get("labels") or {}, f"{name}.labels")
    settings = {key: value for key, value in fields.items() if key not in _OURS}
    cluster = Cluster(f"clu_{name}", f"reg_{region}", name, engine, labels)
    return Home(cluster, Region(f"reg_{region}", region), data, settings)
