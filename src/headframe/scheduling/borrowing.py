"""What is guaranteed to whom, who borrows what others do not use, and from whom it may be taken back.

Quotas form a tree: member under project under organization under the organization that its quota names as parent (or
the cloud). `guaranteed` is a branch's own; what it holds beyond is borrowed from its siblings, at most `borrow` of it.
A branch that lends less than all (`lend`) keeps the rest free for itself: it counts as used. An owner that stays
within its guarantee may take back from siblings that are over theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from headframe.scheduling.limits import METERS, in_short, in_words
from headframe.tenants.records import Quota, Scope

CLOUD = ""
Owners = tuple[str, str, str]  # organization, project, member
Path = tuple[str, ...]  # branches, from the member up to the cloud
Amounts = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Shortage:
    """What a start would break: `used` + `asked` > `bound`, on the branch `branch` of the tree."""

    branch: str
    meter: str
    bound: int
    used: int
    asked: int

    def told(self, owners: Owners) -> str:
        """The sentence, for whoever asks: a branch is told as theirs, never by a name."""
        organization, project, _ = owners
        whose = {organization: "the organization", project: "the project"}.get(self.branch, "the member in its project")
        if "/" not in self.branch and self.branch not in owners:
            whose = "the organization that its organization borrows under"
        said = f"{whose} may hold {in_words(self.meter, self.bound)} with what it may borrow"
        if self.branch == CLOUD:
            said = f"there are {in_words(self.meter, self.bound)} here, with what is kept for its owners"
        return (
            f"{said}, {in_short(self.meter, self.used)} are in use and {in_short(self.meter, self.asked)} are asked for"
        )


class Cell(NamedTuple):
    """A branch and a meter: where it is counted, what of it is kept, and the most that may be used (None: any)."""

    slot: int
    kept: int
    bound: int | None
    branch: str


@dataclass
class Tree:
    """The quotas as a tree: what follows from the records alone. `kept` is what a branch never lends."""

    parents: dict[str, str] = field(default_factory=dict)  # of organizations
    guaranteed: dict[tuple[str, str], int] = field(default_factory=dict)
    bounds: dict[tuple[str, str], int] = field(default_factory=dict)
    kept: dict[tuple[str, str], int] = field(default_factory=dict)
    contested: set[tuple[str, str]] = field(default_factory=set)  # (branch, meter) with a guarantee below; only asked
    members: dict[str, dict[str, int]] = field(default_factory=dict)  # guarantees in each project, by member
    member_bounds: dict[str, dict[str, int]] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)
    paths: dict[Owners, Path] = field(default_factory=dict)
    slots: dict[tuple[str, str], int] = field(
        default_factory=dict
    )  # where in `Borrowing` a branch and meter is counted
    _steps: dict[Owners, tuple[tuple[str, int, int, int], ...]] = field(default_factory=dict)
    _cells: dict[Owners, tuple[tuple[str, tuple[Cell, ...]], ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, quotas: Mapping[str, Quota], total: Amounts) -> Tree:
        """The tree of these quotas (by the id of what they are for) over a cloud of this size."""
        tree = cls(total=dict(total))
        for scope_id in sorted(quotas):
            quota = quotas[scope_id]
            bounds = {meter: quota.guaranteed.get(meter, 0) + more for meter, more in quota.borrow.items()}
            if quota.scope is Scope.MEMBER:
                tree.members[scope_id], tree.member_bounds[scope_id] = dict(quota.guaranteed), bounds
                continue
            if quota.scope is Scope.ORGANIZATION and quota.parent_id:
                tree.parents[scope_id] = quota.parent_id
            above = quota.organization_id if quota.scope is Scope.PROJECT else quota.parent_id or CLOUD
            for meter, amount in quota.guaranteed.items():
                tree.guaranteed[scope_id, meter] = amount
                tree.contested.add((above, meter))
                kept = amount - quota.lend.get(meter, amount)
                if kept > 0:
                    tree.kept[scope_id, meter] = kept
            for meter, bound in bounds.items():
                tree.bounds[scope_id, meter] = bound
        return tree

    @cached_property
    def meters(self) -> tuple[str, ...]:
        """The meters of which anything is said."""
        keys = (*self.guaranteed, *self.bounds)
        said = {meter for _, meter in keys}
        for one in (*self.members.values(), *self.member_bounds.values()):
            said.update(one)
        return tuple(meter for meter in METERS if meter in said)

    def __bool__(self) -> bool:
        return bool(self.guaranteed or self.bounds or self.members or self.member_bounds)

    def path(self, owners: Owners) -> Path:
        """The branches that a holding of these owners is on. A member is a branch of its own in each project."""
        found = self.paths.get(owners)
        if found is None:
            organization, project, member = owners
            leaf = f"{project}/{member}"
            for meter, amount in self.members.get(member, {}).items():
                self.guaranteed[leaf, meter] = amount
                if (project, meter) not in self.contested:
                    self.contested.add((project, meter))
                    self._steps.clear()  # others of the project borrow of this member
            for meter, amount in self.member_bounds.get(member, {}).items():
                self.bounds[leaf, meter] = amount
            steps = [leaf, project, organization]
            while self.parents.get(steps[-1]):
                steps.append(self.parents[steps[-1]])
            found = self.paths[owners] = (*steps, CLOUD)
        return found

    def know(self, every: Iterable[Owners]) -> None:
        """Take in who else may hold something: a member's guarantee counts in the projects in which it has jobs, for
        the others there, too, whoever is asked after first."""
        if self.members:
            for owners in every:
                self.path(owners)

    def slot(self, branch: str, meter: str) -> int:
        return self.slots.setdefault((branch, meter), len(self.slots))

    def steps(self, owners: Owners) -> tuple[tuple[str, int, int, int], ...]:
        """(meter, slot, 1 inside the organization or 2 beyond, guarantee) of all that is contested on a path."""
        found = self._steps.get(owners)
        if found is None:
            path = self.path(owners)
            found = self._steps[owners] = tuple(
                (meter, self.slot(branch, meter), 1 if place < 2 else 2, self.guaranteed.get((branch, meter), 0))
                for meter in METERS
                for place, (branch, above) in enumerate(pairwise(path))
                if (above, meter) in self.contested
            )
        return found

    def cells(self, owners: Owners) -> tuple[tuple[str, tuple[Cell, ...]], ...]:
        """By meter what a holding of these owners is counted in, from the member up to the cloud."""
        found = self._cells.get(owners)
        if found is None:
            path = self.path(owners)
            found = self._cells[owners] = tuple(
                (meter, tuple(self._cell(branch, meter) for branch in path)) for meter in self.meters
            )
        return found

    def _cell(self, branch: str, meter: str) -> Cell:
        bound = self.total.get(meter) if self.kept and branch == CLOUD else self.bounds.get((branch, meter))
        return Cell(self.slot(branch, meter), self.kept.get((branch, meter), 0), bound, branch)

    def parent(self, branch: str, projects: Mapping[str, str]) -> str:
        """The branch above a project or an organization."""
        return projects.get(branch) or self.parents.get(branch, CLOUD)


class Borrowing:
    """What each branch uses, kept amounts of its children included."""

    def __init__(self, tree: Tree, quotas: Mapping[str, Quota]) -> None:
        self.tree = tree
        self._used: list[int] = []  # by slot of the tree
        projects = {key: quota.organization_id for key, quota in quotas.items() if quota.scope is Scope.PROJECT}
        depths = {branch: _depth(tree, branch, projects) for branch, _ in tree.kept}
        for branch, meter in sorted(tree.kept, key=lambda key: (-depths[key[0]], key)):
            self._keep(branch, meter, projects)

    def _keep(self, branch: str, meter: str, projects: Mapping[str, str]) -> None:
        """Count in, on all branches above, what a branch does not lend."""
        more = self.tree.kept[branch, meter] - self.used(branch, meter)
        while more > 0 and branch != CLOUD:
            branch = self.tree.parent(branch, projects)
            more = self._add(branch, meter, more)

    def _add(self, branch: str, meter: str, amount: int) -> int:
        """Change what a branch uses; how much that changes what it takes of the branch above."""
        slot = self.tree.slot(branch, meter)
        self._widen()
        before = self._used[slot]
        after = self._used[slot] = before + amount
        kept = self.tree.kept.get((branch, meter), 0)
        return max(after, kept) - max(before, kept)

    def copy(self) -> Borrowing:
        other = object.__new__(Borrowing)
        other.tree, other._used = self.tree, self._used.copy()
        return other

    def _widen(self) -> None:
        """Room for slots that the tree has given out since."""
        self._used.extend([0] * (len(self.tree.slots) - len(self._used)))

    def used(self, branch: str, meter: str) -> int:
        slot = self.tree.slots.get((branch, meter), len(self._used))
        return self._used[slot] if slot < len(self._used) else 0

    def change(self, owners: Owners, amounts: Amounts, sign: int = 1) -> None:
        """Count a holding in (`sign` 1) or out (-1)."""
        if not self.tree:
            return
        rows, used = self.tree.cells(owners), self._used
        if len(used) < len(self.tree.slots):
            self._widen()
        for meter, cells in rows:
            more = sign * amounts.get(meter, 0)
            for slot, kept, _, _ in cells:
                if not more:
                    break
                before = used[slot]
                used[slot] = before + more
                if kept:
                    more = max(before + more, kept) - max(before, kept)

    def short(self, owners: Owners, asked: Amounts) -> Shortage | None:
        """The first bound, from the member up, that `asked` more would break."""
        if not self.tree:
            return None
        rows, used = self.tree.cells(owners), self._used
        if len(used) < len(self.tree.slots):
            self._widen()
        for meter, cells in rows:
            more = asked.get(meter, 0)
            for slot, kept, bound, branch in cells:
                if more <= 0:
                    break
                before = used[slot]
                if bound is not None and before + more > bound:
                    return Shortage(branch, meter, bound, before, more)
                if kept:
                    more = max(before + more, kept) - max(before, kept)
        return None

    def still(self, one: Shortage) -> bool:
        """Whether a shortage found earlier is still there (while the tree stays as it is)."""
        return self.used(one.branch, one.meter) + one.asked > one.bound

    def borrows(self, owners: Owners, asked: Amounts) -> int:
        """0: within what is guaranteed on every level; 1: only inside its organization beyond it; 2: beyond that."""
        steps, used, worst = self.tree.steps(owners), self._used, 0
        if len(used) < len(self.tree.slots):
            self._widen()
        for meter, slot, level, own in steps:
            amount = asked[meter]
            if level > worst and amount and used[slot] + amount > own:
                worst = level
        return worst

    def _over(self, branch: str, above: str, asked: Amounts) -> bool:
        """Whether `asked` more takes a branch beyond its guarantee, on a meter of which its siblings are guaranteed."""
        tree = self.tree
        return any(
            self.used(branch, meter) + amount > tree.guaranteed.get((branch, meter), 0)
            for meter, amount in asked.items()
            if amount and (above, meter) in tree.contested
        )

    def own(self, owners: Owners, asked: Amounts) -> bool:
        """Whether `asked` more stays within a guarantee somewhere on the way up: then some of it may be reclaimed."""
        tree = self.tree
        path = tree.path(owners) if tree.contested else ()
        return any(
            not self._over(branch, above, asked)
            and any(amount and (above, meter) in tree.contested for meter, amount in asked.items())
            for branch, above in pairwise(path)
        )

    def owed(self, owner: Owners, asked: Amounts, holder: Owners, held: Amounts) -> bool:
        """Whether what `holder` holds may be taken back for `owner`: there the one is within its guarantee, the other
        beyond its own."""
        tree = self.tree
        mine, theirs = tree.path(owner), tree.path(holder)
        at, to = len(mine) - 1, len(theirs) - 1
        while at > 0 and to > 0 and mine[at - 1] == theirs[to - 1]:
            at, to = at - 1, to - 1
        if at == 0 or to == 0:
            return False  # the same member in the same project
        above, own, other = mine[at], mine[at - 1], theirs[to - 1]
        meters = [
            meter for meter in METERS if asked.get(meter) and held.get(meter) and (above, meter) in tree.contested
        ]
        return any(
            self.used(other, meter) > tree.guaranteed.get((other, meter), 0) for meter in meters
        ) and not self._over(own, above, {meter: asked[meter] for meter in meters})


def _depth(tree: Tree, branch: str, projects: Mapping[str, str]) -> int:
    depth = 0
    while branch != CLOUD:
        branch, depth = tree.parent(branch, projects), depth + 1
    return depth
