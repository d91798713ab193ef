"""The records of what jobs read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dataset:
    """One version of a named set of files of an organization; `manifest` is the content hash of its list. A fact.

    `lives_in` are names of clusters, regions or `label=value` that have it near (none: it is as near everywhere); with
    `stays` it is read nowhere else.
    """

    id: str
    organization_id: str
    project_id: str
    name: str
    number: int  # the version: 1, 2, 3 ...
    manifest: str
    size_bytes: int
    files: int
    created_us: int
    lives_in: tuple[str, ...] = ()
    stays: bool = False
