"""What was used: allocations become usage records that tile them, gap-free; events of use become readings and records.

Owns: the cuts (at changes of state, at each UTC hour, at the end), the quantities, how events are read and counted.
Does not own: prices.
Invariants: the usage records of an allocation cover [held, released) without gap or overlap; a record never changes;
nothing that is held is sampled, the allocation's own moments are the meter. An event counts once, by its source and
id; the records of a window of events always add up to what its events come to, in whatever order they came.
To add a meter of what is held: one more quantity in `meter.quantities` and a price for it. To add one of events: define
it (`records.Meter`), no code is needed.
"""
