"""The life of a request: records, transition table, `advance`, retry rules, the story.

Owns: what state a job may move to and why. Does not own: where it runs or when (scheduling), what it costs.
Invariants: every move is in the table of `states`; every move is an event with a reason; an attempt ends exactly
once; a job with an open allocation is never ended.
To add a state or a move: one line in `states`, and the diagram in the docs is generated anew.
"""
