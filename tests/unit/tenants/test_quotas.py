"""Which quotas can stand beside each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headframe.base.errors import Invalid, QuotaContradiction, QuotaCycle
from headframe.tenants.quotas import check_quota
from headframe.tenants.records import Quota, Scope


def house(name: str, parent_id: str = "", **fields: Any) -> Quota:
    return Quota(f"quo_{name}", name, Scope.ORGANIZATION, name, parent_id=parent_id, **fields)


def project(name: str, gpus: int, organization: str = "org", **fields: Any) -> Quota:
    return Quota(
        f"quo_{name}", organization, Scope.PROJECT, name, guaranteed={"gpu_milli": gpus * 1000}, **fields
    )  # fmt: skip


def known(*quotas: Quota) -> dict[str, Quota]:
    return {one.scope_id: one for one in quotas}


@pytest.mark.parametrize("amount", [-1, True, 1.5, float("nan"), 1 << 54, "8"])
@pytest.mark.parametrize("field", ["guaranteed", "borrow", "lend"])
def test_amounts_are_whole_and_not_negative(field: str, amount: Any) -> None:
    with pytest.raises(Invalid, match=field):
        check_quota(replace(house("org"), **{field: {"gpu_milli": amount}}), {})


def test_unknown_meters_are_refused() -> None:
    with pytest.raises(Invalid, match="tpu"):
        check_quota(replace(house("org"), guaranteed={"tpu": 1}), {})


def test_no_more_is_lent_than_is_guaranteed_and_no_more_guaranteed_than_allowed() -> None:
    with pytest.raises(QuotaContradiction, match="lent"):
        check_quota(project("a", 2, lend={"gpu_milli": 3000}), {})
    with pytest.raises(QuotaContradiction, match="2 GPUs would be guaranteed, but at most 1 GPU may be held"):
        check_quota(project("a", 2, gpu_milli=1000), {})


def test_parts_are_not_guaranteed_more_than_the_whole() -> None:
    whole = house("org", guaranteed={"gpu_milli": 4000})
    check_quota(project("a", 2), known(whole, project("b", 2)))
    with pytest.raises(
        QuotaContradiction, match="5 GPUs would be guaranteed to parts of org, which itself is guaranteed 4 GPUs"
    ):
        check_quota(project("a", 3), known(whole, project("b", 2)))
    with pytest.raises(QuotaContradiction):
        check_quota(replace(whole, guaranteed={"gpu_milli": 3000}), known(whole, project("a", 2), project("b", 2)))
    check_quota(project("a", 300), known(house("org")))


def test_a_circle_is_refused_with_its_way() -> None:
    quotas = known(house("a"), house("b", "a"), house("c", "b"))
    with pytest.raises(QuotaCycle, match="a under c under b under a"):
        check_quota(house("a", "c"), quotas)
    with pytest.raises(QuotaCycle):
        check_quota(house("a", "a"), {})
    check_quota(house("d", "c"), quotas)


def test_what_only_branches_have_members_have_not() -> None:
    member = Quota("quo_m", "org", Scope.MEMBER, "mem", guaranteed={"gpu_milli": 1000})
    check_quota(member, {})
    for wrong in (replace(member, lend={"gpu_milli": 0}), replace(member, weight=5), replace(member, parent_id="org")):
        with pytest.raises(Invalid):
            check_quota(wrong, {})


def test_a_weight_has_bounds() -> None:
    for weight in (0, -5, 1_000_001):
        with pytest.raises(Invalid, match="weight"):
            check_quota(house("org", weight=weight), {})
