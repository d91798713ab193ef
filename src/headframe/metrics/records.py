"""Points as they are told, and the rows in which series of them are kept."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Point:
    """One figure of one moment. `subject` is the id of a job, node or accelerator; `part` tells apart what one subject
    has several of: the rank of a task, an accelerator, a run. `value` None: what was told is no number, as the loss of
    a training that came apart. `step` is the job's own count. `reported`: told by the job itself.
    """

    subject: str
    name: str
    part: str
    at_us: int
    value: float | None
    step: int | None = None
    reported: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """What an engine has measured, in the order of time. It may be told twice."""

    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """That a subject has a figure of this name. `id` is "<subject> <number>"."""

    id: str
    subject: str
    name: str
    part: str
    reported: bool
    from_us: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of a series' points. `id` is "<series id> <level> <number>"; a point of level n stands for up to 2 ** n.

    `at_us` and `steps` are of the last of those, `means` weighs them by `counts`. At level 0 `lows`, `highs` and
    `counts` are empty, as they would say the same; `steps` is empty where the job counts none.
    """

    id: str
    series_id: str
    subject: str
    level: int
    number: int
    at_us: tuple[int, ...]
    means: tuple[float | None, ...]
    lows: tuple[float | None, ...] = ()
    highs: tuple[float | None, ...] = ()
    counts: tuple[int, ...] = ()
    steps: tuple[int | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Experiment:
    """What runs are gathered under, by the clients of MLflow; by name once in a project."""

    id: str
    organization_id: str
    project_id: str
    name: str
    created_us: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run that a job tells of by MLflow. Its figures are the job's series, `params` and `tags` stay texts."""

    id: str
    experiment_id: str
    job_id: str
    organization_id: str
    project_id: str
    name: str
    status: str
    started_us: int
    ended_us: int | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
