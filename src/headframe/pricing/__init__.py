"""What it costs: the effective-dated price book, one module per shape of price and of contract.

Owns: prices, exchange rates, contracts, how a usage record becomes charges (`rate`), what contracts cover (`cover`) and
ask for (`fees`), what a late price corrects (`rerate`). Does not own: what was used, who owes it.
Invariants: prices are integers (nano-units per unit); amounts are rounded once, half to even, in `base.money`; at every
moment at most one price answers for a meter and a buyer; what is split adds up to the whole.
To add a shape: `pricing/<shape>.py` and its line in `registry`.
"""
