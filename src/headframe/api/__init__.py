"""HTTP in and out: routes, authentication, problem responses, idempotency, paging, streams.

Owns: what a request looks like (`wire`), what an error looks like (`problems`), what a record looks like outside
(`documents`), what is let in at all (`gate`), and the routes, one file per subject. Does not own: any rule; a route
asks a command or a question of `control`, which checks the caller's rights.
Invariants: every route under /v1 needs a live key and stands in the table of the authorization test; bad input is never
answered with 5xx; what belongs to another organization does not exist; no hash, sealed value or inside of a
failure leaves.
To add a route: a function in the file of its subject, its line in the table of `tests/api/test_authorization.py`.
"""
