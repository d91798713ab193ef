"""Who gets what: capacity, order, limits, fit, gangs, and why a job waits.

Owns: what is free (`capacity`) and where it is (`where`), what each node could take and how good it is (`boards`),
which node is the best (`packing`), what is asked for lately (`demand`), who comes first (`queue`), what a gang
may hold and where it fits (`fit`), which limits bind (`limits`), one pass over the queue (`place`), the explanation
(`explain`).
Does not own: the life of a job, money.
Invariants: nothing is held twice; a gang is placed whole or not at all; the same input gives the same plan; what is
explained is what was decided, by the same code.
To add a policy: an order (`order.ORDERS`) or a score (`packing.PACKINGS`), and its registry line.
"""
