"""What was used: allocations become usage records that tile them, gap-free.

Owns: the cuts (at changes of state, at each UTC hour, at the end) and the quantities. Does not own: prices.
Invariants: the usage records of an allocation cover [held, released) without gap or overlap; a record never changes;
nothing here is sampled, the allocation's own moments are the meter.
To add a meter: one more quantity in `records.UsageRecord.quantities` and a price for it.
"""
