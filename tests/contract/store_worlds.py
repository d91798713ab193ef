"""Made-up records for the tests of the store: by hand where the value matters, by hypothesis where any will do."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from headframe.base.changes import Event
from headframe.fleet.records import Allocation, Share, Slice
from headframe.jobs.records import Job
from headframe.ledger.records import Transfer
from headframe.tenants.records import Organization, Project
from headframe.workloads.spec import Spec

LARGEST = (1 << 63) - 1


def job(number: int, **more: Any) -> Job:
    fields: dict[str, Any] = {
        "organization_id": "org_1", "project_id": "prj_1", "member_id": "mem_1", "name": f"job-{number}",
        "spec": Spec(f"job-{number}", run="true"), "submitted_us": 1_000_000 + number,
    }  # fmt: skip
    return Job(f"job_{number:08d}", **{**fields, **more})


def event(seq: int, **more: Any) -> Event:
    fields: dict[str, Any] = {"at_us": seq, "kind": "job_submitted", "subject": "job_1", "organization_id": "org_1"}
    return Event(**{**fields, **more}, seq=seq)


def transfer(number: int, amount_nano: int, debit: str = "receivable:org_1", credit: str = "revenue:cpu") -> Transfer:
    return Transfer(
        f"trf_{number:08d}", debit, credit, amount_nano, "USD", number, "usage", f"chg_{number}", "org_1"
    )  # fmt: skip


def organization(number: int, name: str) -> Organization:
    return Organization(f"org_{number}", name, created_us=number)


def project(number: int, organization_id: str, name: str) -> Project:
    return Project(f"prj_{number}", organization_id, name, created_us=number)


def allocation(number: int, **more: Any) -> Allocation:
    share = Share("acc_1", 0, "H100", 1000)
    held = Allocation(
        f"alc_{number:08d}", "org_1", "prj_1", "mem_1", f"job_{number:08d}", "cls_1", 1, "on-demand",
        (Slice(0, "nod_1", 1000, 1024, 0, (share,)),), 5,
    )  # fmt: skip
    return dataclasses.replace(held, **more)


def _texts() -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


def _values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that records use."""
    if hint is bool:
        return st.booleans()
    if hint is int:
        return st.integers(-LARGEST - 1, LARGEST)
    if hint is str:
        return _texts()
    if hint is Any:  # what JSON can say
        plain = st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | _texts()
        return st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts(), inner))
    if isinstance(hint, type) and issubclass(hint, str):
        return st.sampled_from(list(hint))
    if dataclasses.is_dataclass(hint):
        return any_record(hint)  # type: ignore[arg-type]
    origin, parts = get_origin(hint), get_args(hint)
    if origin is dict:
        return st.dictionaries(_values(parts[0]), _values(parts[1]), max_size=3)
    if origin is tuple and parts[-1] is Ellipsis:
        return st.lists(_values(parts[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*(_values(part) for part in parts))
    return st.one_of(*(st.none() if part is type(None) else _values(part) for part in parts))


def any_record(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Any record of a class."""
    hints = get_type_hints(kind)
    return st.builds(kind, **{field.name: _values(hints[field.name]) for field in dataclasses.fields(kind)})
