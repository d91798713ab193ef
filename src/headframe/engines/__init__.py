"""Where work runs: one module per engine, one line each in `registry`.

Owns: how actions become tasks on machines and how what happens there becomes observations, logs and files. Does not
own: what should run where (scheduling), what a job's state is (jobs).
Invariants: actions are idempotent by (allocation, generation), an older generation is refused; a task outlives every
one of our programs and is found again with the same pid, exact end and exit code; no byte of a log is lost or doubled;
secrets are never written to disk or to a command line; a tenant sees nothing of another tenant.

The local engine: `local` lives in the server and speaks over a unix socket with the agent (`agent`, `agent_tasks`,
`agent_prepare`, `agent_state`, `agent_wire`), one small long-lived program for each data folder, which starts tasks in
a `sandbox` and in `cgroups`, and writes their output with `joblog`. The agent imports the standard library alone.
The Slurm engine: `slurm` (port and thread), `slurm_care` (how allocations begin, are stopped, lost and end),
`slurm_prepare` and `slurm_leader.bash` (what runs on nodes), `slurm_held` (what is kept, what leaders write),
`slurm_fleet`, `slurm_log` and `slurm_output`, and ways to a cluster: `slurm_calls`, `slurm_reach`, `slurm_rest`.
To add an engine: `engines/<name>.py` with `control.ports.Engine`, its line in `registry`; the contract tests run over
the registry.
"""
