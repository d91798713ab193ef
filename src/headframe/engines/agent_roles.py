"""What the parts of the agent are to each other: words for those who must not know one another's modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from headframe.engines.agent_loop import AgentLoop
from headframe.engines.agent_state import Folders, Record
from headframe.engines.cgroups import Use, Writer
from headframe.engines.joblog import LogWriter
from headframe.fleet.engine_words import Observation


class Rank(Protocol):
    """A task of a gang, to those who measure it."""

    rank: int

    def use_now(self) -> Use: ...


class Holding(Protocol):
    """An allocation, to its tasks and to those who look at what it uses."""

    record: Record
    preparing: bool

    @property
    def host(self) -> Host: ...

    @property
    def tasks(self) -> Sequence[Rank]: ...

    @property
    def active(self) -> bool: ...

    def observe(self, full: bool = True) -> Observation: ...

    def tell(self, sentence: str) -> None: ...

    def look(self, readings: Mapping[str, Any] | None) -> None: ...

    def end_beyond(self, why: str, grace_us: int) -> None: ...

    def task_ended(self, task: Any) -> None: ...


class Measures(Protocol):
    """Who hears of an allocation's beginning and end, to measure what lies between."""

    def begin(self, held: Holding) -> None: ...

    def last(self, held: Holding) -> None: ...


class Host(Protocol):
    """What an allocation and its tasks need of the agent."""

    loop: AgentLoop
    folders: Folders
    groups: Writer | None

    @property
    def points(self) -> Measures: ...

    def log_of(self, job_id: str) -> LogWriter: ...

    def grew(self, job_id: str) -> None: ...

    def push(self, held: Holding) -> None: ...

    def ended(self, held: Holding) -> None: ...
