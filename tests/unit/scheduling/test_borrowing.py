"""Guarantees, borrowing and taking back, on trees small enough to follow by eye."""

from __future__ import annotations

from typing import Any

from headframe.scheduling.borrowing import Borrowing, Tree
from headframe.tenants.records import Quota, Scope

GPU = 1000


def quota(name: str, scope: Scope = Scope.PROJECT, house: str = "org", **gpus: Any) -> Quota:
    """A quota in whole GPUs: `guaranteed`, `borrow`, `lend`, and `parent_id`."""
    amounts = {key: {"gpu_milli": GPU * gpus[key]} for key in ("guaranteed", "borrow", "lend") if key in gpus}
    return Quota(f"quo_{name}", house, scope, name, parent_id=gpus.get("parent_id", ""), **amounts)


def tree(*quotas: Quota, total: int = 100) -> Borrowing:
    known = {one.scope_id: one for one in quotas}
    return Borrowing(Tree.of(known, {"gpu_milli": GPU * total}), known)


def owner(project: str, house: str = "org", member: str = "mem") -> tuple[str, str, str]:
    return house, project, member


def gpus(count: int) -> dict[str, int]:
    return {"gpu_milli": GPU * count}


def test_without_guarantees_nothing_binds_and_nobody_owes() -> None:
    one = tree()
    assert one.short(owner("a"), gpus(1000)) is None
    assert one.borrows(owner("a"), gpus(1000)) == 0
    assert not one.own(owner("a"), gpus(1))


def test_a_project_borrows_up_to_its_bound_from_its_siblings() -> None:
    one = tree(quota("a", guaranteed=2, borrow=3), quota("b", guaranteed=4))
    assert one.short(owner("a"), gpus(5)) is None
    short = one.short(owner("a"), gpus(6))
    assert short is not None
    assert (short.branch, short.bound, short.asked) == ("a", 5000, 6000)
    assert "may hold 5 GPUs" in short.told(owner("a"))
    one.change(owner("a"), gpus(2))
    assert one.borrows(owner("a"), gpus(0)) == 0
    assert one.borrows(owner("a"), gpus(1)) == 1


def test_what_is_not_lent_stays_free_for_its_owner() -> None:
    house = quota("org", Scope.ORGANIZATION, guaranteed=10, borrow=0)
    one = tree(house, quota("a", guaranteed=6, lend=2), quota("b", guaranteed=4))
    assert one.short(owner("b"), gpus(6)) is None
    assert one.short(owner("b"), gpus(7)) is not None, "four of a's six are kept"
    assert one.short(owner("a"), gpus(10)) is None
    one.change(owner("b"), gpus(6))
    assert one.short(owner("a"), gpus(4)) is None
    assert one.short(owner("a"), gpus(5)) is not None
    one.change(owner("b"), gpus(6), -1)
    assert one.short(owner("a"), gpus(10)) is None


def test_an_owner_takes_back_from_who_is_over_its_own_and_from_nobody_else() -> None:
    one = tree(quota("a", guaranteed=4), quota("b", guaranteed=4), quota("c", guaranteed=2))
    one.change(owner("b"), gpus(8))
    one.change(owner("c"), gpus(2))
    assert one.own(owner("a"), gpus(4))
    assert one.owed(owner("a"), gpus(4), owner("b"), gpus(1))
    assert not one.owed(owner("a"), gpus(4), owner("c"), gpus(1)), "c is within its own"
    assert not one.owed(owner("a"), gpus(5), owner("b"), gpus(1)), "the fifth would be borrowed"
    assert not one.owed(owner("b"), gpus(1), owner("a"), gpus(1))


def test_guarantees_between_organizations_are_the_operators_to_give() -> None:
    """A project's guarantee counts inside its organization; only the organization's own counts outside."""
    mine = quota("a", guaranteed=8)
    one = tree(mine, quota("far", Scope.ORGANIZATION, house="far", guaranteed=2))
    one.change(owner("x", "other"), gpus(50))
    assert not one.owed(owner("a"), gpus(1), owner("x", "other"), gpus(1))
    assert one.owed(owner("y", "far"), gpus(2), owner("x", "other"), gpus(1))


def test_organizations_borrow_under_the_one_that_they_belong_to() -> None:
    company = quota("company", Scope.ORGANIZATION, house="company", guaranteed=10, borrow=0)
    labs = [
        quota(name, Scope.ORGANIZATION, house=name, guaranteed=5, parent_id="company") for name in ("lab-1", "lab-2")
    ]
    one = tree(company, *labs)
    one.change(owner("p", "lab-1"), gpus(9))
    assert one.short(owner("q", "lab-2"), gpus(1)) is None
    assert one.short(owner("q", "lab-2"), gpus(2)) is not None
    assert one.owed(owner("q", "lab-2"), gpus(5), owner("p", "lab-1"), gpus(1))
    assert one.borrows(owner("p", "lab-1"), gpus(1)) == 2


def test_a_member_takes_back_from_others_of_its_project() -> None:
    one = tree(Quota("quo_m", "org", Scope.MEMBER, "mem", guaranteed={"gpu_milli": 2 * GPU}))
    one.change(owner("a", member="other"), gpus(8))
    assert one.owed(owner("a"), gpus(2), owner("a", member="other"), gpus(1))
    assert not one.owed(owner("a"), gpus(3), owner("a", member="other"), gpus(1))
    assert not one.owed(owner("b"), gpus(1), owner("a", member="other"), gpus(1)), "only inside the project"


def test_what_is_counted_in_and_out_again_leaves_nothing() -> None:
    house = quota("org", Scope.ORGANIZATION, guaranteed=10)
    one = tree(house, quota("a", guaranteed=6, lend=0), quota("b", guaranteed=4, lend=1))
    before = {name: one.used(name, "gpu_milli") for name in ("", "org", "a", "b")}
    assert before == {"": 9000, "org": 9000, "a": 0, "b": 0}
    steps = [("a", 7), ("b", 2), ("b", 5), ("a", 1)]
    for name, count in steps:
        one.change(owner(name), gpus(count))
    for name, count in reversed(steps):
        one.change(owner(name), gpus(count), -1)
    assert {name: one.used(name, "gpu_milli") for name in before} == before


def test_who_borrows_inside_a_project_does_not_depend_on_who_was_asked_after_first() -> None:
    own = Quota("quo", "org", Scope.MEMBER, "mem_1", guaranteed={"gpu_milli": 1000})
    for asked in (("mem_1", "mem_2"), ("mem_2", "mem_1", "mem_2")):
        held = tree(own)
        found = [held.borrows(owner("prj", member=name), gpus(1)) for name in asked]
        assert found[-1] == held.borrows(owner("prj", member="mem_2"), gpus(1)) == 1
