"""Who owes whom: accounts, balanced transfers, credits, invoices.

Owns: how a charge is booked (`post`), the balance of an account, how a month is closed (`close`).
Does not own: how an amount came about (pricing).
Invariants: a transfer moves one positive amount of one currency from one account to another, so every currency sums to
zero by construction; transfers are never changed or deleted; an invoice's total is the sum of its lines.
To add a kind of booking: one function in `post` that returns transfers.
"""
