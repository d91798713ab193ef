"""A world made of seeds: virtual clock, seeded chance, arrivals, faults, checkers, an auditor and a report.

Owns: the adapters that put the real loop and the real store into a world without machines (`clock`, `run`), what
happens in that world (`arrivals`, `faults`, `scenarios`), what must hold in it (`checkers`, `auditor`), what is said of
it (`report`, `main`). Does not own: any rule of jobs, scheduling or money: the simulator has no logic of its own, and
the engine it drives is `engines.scripted`.
Invariants: nothing here reads a real clock or an unseeded source of chance; the same seed and scenario give the same
digest of all rows and events under any PYTHONHASHSEED; the auditor shares no code with metering, pricing and ledger but
their records.
To add a scenario: one line in `scenarios`. To add a checker: a function in `checkers` and its line there, with a
mutation in the tests that it catches.
"""
