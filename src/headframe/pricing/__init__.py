"""What it costs: the effective-dated price book, and one module per price shape.

Owns: prices, how a usage record becomes charges (`rate`). Does not own: what was used, who owes it.
Invariants: prices are integers (nano-units per unit and hour); amounts are rounded once, half to even, in
`base.money`; at every moment at most one price answers for (meter, region, purchase, currency).
To add a price shape: `pricing/<shape>.py` and its registry line.
"""
