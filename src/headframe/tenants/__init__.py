"""Who: organizations, projects, members and roles, keys, quotas, budgets, secrets' names.

Owns: who somebody is, what a role may do (`roles`), how a key is made and checked (`keys`), limits that bind
(`quotas`). Does not own: what is counted against a limit (allocations, charges).
Invariants: least privilege by default; a key can never do more than its member; secrets are kept as hashes, or
sealed, never in the clear.
To add a permission: one line in the table of `roles`.
"""
