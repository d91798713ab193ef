"""Who gets what: capacity, order, limits, fit, gangs, and why a job waits.

Owns: what is free (`capacity`), who comes first (`queue`), what a gang may hold and where it fits (`fit`), which
limits bind (`limits`), one pass over the queue (`place`), the explanation (`explain`).
Does not own: the life of a job, money.
Invariants: nothing is held twice; a gang is placed whole or not at all; the same input gives the same plan; what is
explained is what was decided, by the same code.
To add a policy: a module with an order or a score, and its registry line.
"""
