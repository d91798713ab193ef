"""What jobs leave behind is metered: told when it changes, weighed day by day, and charged where it has a price."""

from __future__ import annotations

import shutil

from house import House, wait_for

from headframe.base.changes import Changes
from headframe.base.quantities import DAY_US
from headframe.control.keeping import Keeping
from headframe.metering.defaults import default_meters
from headframe.metering.records import UsageEvent
from headframe.pricing.records import Charge

MIB = 1 << 20


def test_outputs_and_checkpoints_are_told_when_they_change_and_charged_by_the_day(house: House) -> None:
    house.control.run(lambda world, context: (Changes(default_meters(context.now_us)), None))
    house.ok("POST", "/v1/prices", json={"meter": "storage:outputs", "amount": "0.04 USD"})
    home = house.organization("keepers")["id"]
    admin = house.member(home, "admin")
    job = house.submit(admin, spec={"run": "run 1s; exit 0"})["id"]
    wait_for(lambda: house.ok("GET", f"/v1/jobs/{job}", admin)["state"] == "succeeded")
    folder = house.outputs.data / "jobs" / job
    house.outputs.put(job, "model.bin", b"x" * (3 * MIB))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "step-1").write_bytes(b"y" * MIB)
    (folder / "checkpoints" / "outside").symlink_to("/usr")
    now = house.clock.now_us

    def keeping() -> Keeping:
        return Keeping(house.store, house.outputs, house.control.take_in)

    first = keeping()
    assert first.look(now()) == 2
    told = {each.type: each.data for each in house.store.find(UsageEvent, organization_id=home)}
    mib = told["headframe.stored.outputs"]["mib"]
    assert told["headframe.stored.outputs"]["name"] == job
    assert mib in (3, 4)  # as the disk counts it
    assert told["headframe.stored.checkpoints"]["mib"] in (1, 2)
    assert first.look(now()) == 0
    assert keeping().look(now()) == 0, "a server that starts again tells nothing twice"
    house.clock.ahead_us += 2 * DAY_US

    def days() -> list[Charge]:
        found = house.store.find(Charge, organization_id=home, meter="storage:outputs")
        return [each for each in found if each.to_us - each.from_us == DAY_US]

    whole = wait_for(days)[0]
    assert whole.labels == {"name": job}
    wait_for(lambda: any(each.quantity == mib * 86_400 for each in days()))
    shutil.rmtree(folder)
    after = keeping()
    assert after.look(now()) == 2
    newest = house.store.find(UsageEvent, organization_id=home, type="headframe.stored.outputs", newest=True)[0]
    assert newest.data["mib"] == 0
    assert after.look(now()) == 0
