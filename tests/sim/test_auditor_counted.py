"""The auditor on what is counted: levels, tiers and datasets are worked out again, and a cooked charge is found."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from headframe.base.quantities import DAY_US, HOUR_US, format_moment
from headframe.control.commands_access import create_dataset
from headframe.control.commands_contracts import agree, define_meter
from headframe.control.commands_prices import set_price
from headframe.control.commands_tenancy import create_organization
from headframe.metering.records import Aggregation
from headframe.pricing.records import Charge
from headframe.sim.auditor import audit
from headframe.sim.example import Example
from headframe.store.migrations import migrate
from headframe.store.sql_store import SqlStore
from headframe.tenants.records import Role
from headframe.tenants.roles import Caller

TIERS = ((3, "0.90 EUR"), (None, "0.500000001 EUR"))
WAYS = (
    ("calls", Aggregation.SUM, "volume"), ("most", Aggregation.MAX, "each"), ("users", Aggregation.UNIQUE, "graduated"),
    ("seats", Aggregation.LATEST, "each"), ("disks", Aggregation.TIME_WEIGHTED, "each"),
)  # fmt: skip


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    url = f"sqlite:///{tmp_path_factory.mktemp('books')}/headframe.db"
    migrate(url)
    made = Example(SqlStore(url))
    made.open()
    house = made.run(create_organization, made.owner, name="acme", currency="EUR")
    for name, way, shape in WAYS:
        path = "user" if way is Aggregation.UNIQUE else "size"
        group = ("user",) if way is Aggregation.TIME_WEIGHTED else ()
        made.run(
            define_meter, made.owner, name=name, event_type="call", aggregation=way, path=path, group_by=group
        )  # fmt: skip
        price: dict[str, Any] = {"amount": "0.000001 EUR"} if shape == "each" else {"tiers": TIERS}
        made.run(set_price, made.owner, meter=name, shape=shape, **price)
    made.run(set_price, made.owner, meter="gpu:H100", shape="graduated", tiers=((20, "3 EUR"), (None, "2 EUR")))
    made.run(set_price, made.owner, meter="storage:datasets", amount="0.04 EUR")
    made.run(
        agree, made.owner, organization="acme", shape="sla", title="Uptime", ends="2027-01-01", steps=((999_900, 50),)
    )
    caller = Caller(house.id, "mem_example", "key_example", Role.ADMIN)
    made.run(create_dataset, caller, name="wiki", manifest="0" * 64, size_bytes=5 << 30, files=1)
    made.submit(house, "train", "run 30h; exit 0", 8)
    begin_us = made.clock.true_us
    told = [(number * 7 % 11, number * 13 % 5, "abc"[number % 3]) for number in range(24)]
    for day in range(4):
        made.pass_time(DAY_US)
        if day == 0:
            node = next(iter(made.loop.world.derived.on_node))
            made.engine.ail(made.engine.node_ids()[0], device_only=True)
            made.pass_time(HOUR_US)
            made.engine.revive_node(node)
        events = [
            {
                "specversion": "1.0", "id": str(number), "source": "/test", "type": "call", "subject": "default",
                "time": format_moment(begin_us + slot * 5 * HOUR_US), "data": {"size": size, "user": user},
            }
            for number, (slot, size, user) in enumerate(told)
            if number % 4 == day and begin_us + slot * 5 * HOUR_US < made.clock.true_us
        ]  # fmt: skip
        made.events(house, *events)
    made.pass_time(30 * DAY_US)
    yield made
    made.store.close()


def test_everything_that_is_counted_is_worked_out_again(cloud: Example) -> None:
    found = audit(cloud.store)
    assert found.clean, [str(each) for each in found.differences[:3]]
    assert found.taken == 0
    charges = cloud.store.find(Charge, limit=10_000)
    assert {name for name, *_ in WAYS} | {"gpu:H100", "storage:datasets", "sla"} <= {each.meter for each in charges}


@pytest.mark.parametrize("meter", ["calls", "users", "disks", "gpu:H100", "storage:datasets", "sla"])
def test_a_charge_that_was_cooked_is_found(cloud: Example, meter: str) -> None:
    first = next(each for each in cloud.store.find(Charge, limit=10_000) if each.meter == meter and each.amount_nano)

    class Cooked:
        def __getattr__(self, name: str) -> Any:
            return getattr(cloud.store, name)

        def find(self, kind: type[Any], **where: Any) -> list[Any]:
            rows = cloud.store.find(kind, **where)
            return [dataclasses.replace(row, amount_nano=row.amount_nano + 1) if row == first else row for row in rows]

    found = audit(Cooked())  # type: ignore[arg-type]
    assert not found.clean
    told = " ".join(each.about for each in found.differences)
    about = {"calls": "tiers of", "users": "tiers of", "gpu:H100": "tiers of", "sla": "the credit of"}
    assert about.get(meter, "charge ") in told
