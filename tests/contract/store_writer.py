"""A program that writes changes to a store as fast as it can, until it is killed.

Change number n makes version n of one organization, ten jobs (each written twice) and three events, and prints n once
it is written: so what must be found afterwards can be told from the version alone.
"""

from __future__ import annotations

import dataclasses
import sys

from headframe.base.changes import Changes
from headframe.store.sql_store import SqlStore
from headframe.tenants.records import Organization
from tests.contract.store_worlds import event, job, organization

JOBS, EVENTS = 10, 3


def change(number: int) -> Changes:
    counter = dataclasses.replace(organization(1, "counter"), number=number, version=number)
    jobs = [job(number * JOBS + each) for each in range(JOBS)]
    updated = [dataclasses.replace(each, attempt=1, version=2) for each in jobs]
    events = tuple(event((number - 1) * EVENTS + each) for each in range(1, EVENTS + 1))
    return Changes((counter, *jobs, *updated), events)


def main() -> None:
    store = SqlStore(sys.argv[1])
    counter = store.get(Organization, "org_1")
    number = counter.version if counter is not None else 0
    while True:
        number += 1
        store.apply(change(number))
        print(number, flush=True)


if __name__ == "__main__":
    main()
