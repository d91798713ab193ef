"""For each kind of task: how many of it every node could take now, and how good each node is. Kept up to date.

A board looks again only at nodes that have changed since it last looked. A scratch capacity uses its parent's boards
until it is altered itself, and then copies of them, made one by one when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headframe.scheduling.packing_simple import MISFIT
from headframe.scheduling.task import Task, plain, tasks_at, tasks_on

if TYPE_CHECKING:
    from headframe.scheduling.capacity import Capacity

Ints = NDArray[np.int64]
CELLS = 8_000_000  # numbers that all boards of a capacity may hold together
NEVER = -1
FEW = 8  # nodes that are counted one by one
NOTHING: Ints = np.zeros(0, np.int64)  # not scored yet


class Board:
    """Arrays of shape [nodes]: `counts`; once scored also `scores` (MISFIT where it does not fit) and `slots` (-1: the
    tightest).

    `near` says where one task's devices can sit on one fast link; None where that makes no difference. `total` is the
    sum of the counts.
    """

    __slots__ = ("counted", "counts", "judged", "near", "scored", "scores", "slots", "total")

    def __init__(self, nodes: int, near: bool) -> None:
        self.near = np.zeros(nodes, bool) if near else None
        self.counts = np.zeros(nodes, np.int32)
        self.scores: Ints = NOTHING
        self.slots: Ints = NOTHING
        self.total = 0
        self.counted = self.scored = NEVER  # the clock up to which it has looked
        self.judged: object = None  # what the scores were made with

    def copy(self) -> Board:
        """One with the same counts, not scored."""
        other = object.__new__(Board)
        other.counts, other.counted, other.total = self.counts.copy(), self.counted, self.total
        other.near = self.near.copy() if self.near is not None else None
        other.scores, other.slots, other.scored, other.judged = NOTHING, NOTHING, NEVER, None
        return other


class Boards:
    """The boards of one capacity by task, the least recently needed first, and what packings keep beside them."""

    def __init__(self) -> None:
        self._boards: dict[Task, Board] = {}
        self.kept: dict[str, Any] = {}  # what a packing remembers of this capacity, by its name
        self._parent: Capacity | None = None
        self._since = 0

    def below(self, parent: Capacity) -> Boards:
        """The boards of a scratch copy of `parent`, made at this moment."""
        other = Boards()
        other._parent, other._since = parent, parent.clock
        return other

    def parent(self) -> Capacity | None:
        """The capacity that this one is a copy of, as long as that has not changed since."""
        if self._parent is not None and self._parent.clock != self._since:
            self._parent = None
        return self._parent

    def counted(self, capacity: Capacity, task: Task) -> Board:
        """The board with its counts up to date; not to be altered, as it may be the parent's."""
        board = self._boards.get(task)
        if board is not None and board.counted == capacity.clock:
            return board
        if board is None and capacity.clock == self._since and (parent := self.parent()) is not None:
            return parent.boards.counted(parent, task)
        board = self._of(capacity, task)
        if board.counted < capacity.clock:
            self._count(capacity, task, board)
            board.counted = capacity.clock
        return board

    @staticmethod
    def _count(capacity: Capacity, task: Task, board: Board) -> None:
        """Count on the nodes that have changed."""
        rows = slice(None) if board.counted == NEVER else capacity.changed(board.counted)
        if not isinstance(rows, slice) and len(rows) <= FEW and board.near is None and plain(capacity, task):
            counts = board.counts
            for row in rows.tolist():
                number = tasks_at(capacity, task, row)
                board.total += number - counts.item(row)
                counts[row] = number
            return
        fresh = tasks_on(capacity, task, rows)
        board.total += int(fresh.sum()) - int(board.counts[rows].sum())
        board.counts[rows] = fresh
        if board.near is not None:
            board.near[rows] = tasks_on(capacity, task, rows, linked=True) > 0

    def scored(self, capacity: Capacity, task: Task) -> Board:
        """The board with counts and scores up to date; not to be altered, as it may be the parent's."""
        if capacity.clock == self._since and task not in self._boards and (parent := self.parent()) is not None:
            return parent.boards.scored(parent, task)
        board = self.counted(capacity, task)
        parent = self.parent()
        if parent is not None and board.scored < self._since:
            above = parent.boards.scored(parent, task)
            board.scores, board.slots = above.scores.copy(), above.slots.copy()
            board.scored, board.judged = self._since, above.judged
        judged = tuple(packing.basis(capacity) for packing, _ in capacity.judges)
        if board.judged != judged:
            board.judged, board.scored = judged, NEVER
        if board.scored < capacity.clock:
            self._score(capacity, task, board)
            board.scored = capacity.clock
        return board

    @staticmethod
    def _score(capacity: Capacity, task: Task, board: Board) -> None:
        """Score the nodes that have changed, where the task fits."""
        if board.scored == NEVER:
            rows = np.arange(len(board.counts))
            board.scores, board.slots = np.zeros(len(rows), np.int64), np.full(len(rows), -1, np.int8)
        else:
            rows = capacity.changed(board.scored)
        board.scores[rows] = MISFIT
        able = rows[board.counts[rows] > 0]
        for packing, mask in capacity.judges:
            mine = able if mask is None else able[mask[able]]
            if len(mine):
                board.scores[mine], board.slots[mine] = packing.score(capacity, task, mine)

    def _of(self, capacity: Capacity, task: Task) -> Board:
        """The board as it is; a new one begins with the counts of the parent's."""
        board = self._boards.pop(task, None)
        if board is None:
            parent = self.parent()
            if parent is not None:
                board = parent.boards.counted(parent, task).copy()
            else:
                near = capacity.linked and task.gpus is not None and task.gpus.count > 1
                board = Board(len(capacity.nodes), near)
            limit = max(CELLS // max(len(capacity.nodes), 1), 16)
            while len(self._boards) >= limit:
                del self._boards[next(iter(self._boards))]
        self._boards[task] = board
        return board


def best(capacity: Capacity, task: Task) -> tuple[int, int]:
    """(row, slot) of the best node for one task; row -1: none fits; slot -1: whichever device is the tightest."""
    board = capacity.boards.scored(capacity, task)
    scores = board.scores
    if not len(scores):
        return -1, -1
    if board.near is not None:
        close = np.where(board.near, scores, MISFIT)  # devices on one fast link come before good packing
        scores = close if (close != MISFIT).any() else scores
    for packing, mask in capacity.judges:
        row = packing.pick(scores if mask is None else np.where(mask, scores, MISFIT))
        if row >= 0:
            return row, int(board.slots[row])
    return -1, -1
