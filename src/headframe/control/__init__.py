"""The only place where subjects meet: ports, the warm world, commands, queries, the loop and its dispatch.

Owns: the ports through which adapters are handed in (`ports`), what the loop keeps in memory (`world`), what people may
ask for (`commands`), what they may see (`queries`), the loop (`loop`) and the thread that drives it (`driver`).
Does not own: any rule of one subject, any wire.
Invariants: decide, then do: a stage returns `Changes`, the store writes them in one transaction, only then do engines
act; one thread alone decides; the warm world equals the reloaded one; a crash anywhere resumes at the next tick.
To add a command: a pure function in `commands` and a route in the API.
"""
