"""What can be asked for: the job file, one module per kind of workload.

Owns: reading and checking a job file (`jobfile`, `gpu`), the normalized request (`spec`), the registry of kinds
(`registry`). Does not own: the life of a request (jobs) or where it runs (scheduling).
Invariants: a `Spec` that exists is valid in itself; a wrong file raises one `InvalidSpec` that names field, value, what
is allowed and the line; nothing is guessed about a bare number with no unit.
To add a kind: `workloads/<kind>.py` and its line in `registry`.
"""
