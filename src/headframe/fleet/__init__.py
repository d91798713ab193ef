"""What exists: regions, clusters, nodes, accelerators; and who holds what since when (allocations).

Owns: the records of hardware, the life of an allocation, and the two words spoken with engines: actions (what to do)
and observations (what is). Does not own: who should get what (scheduling), what it costs (pricing).
Invariants: an accelerator's milli-units are never held beyond 1000; an allocation holds all of its slices or none; an
allocation's generation only grows, and an engine refuses an older one.
To add hardware of another vendor: an engine reports it as `Accelerator` rows; nothing here knows vendors.
"""
