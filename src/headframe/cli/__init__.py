"""The command line: a client of the API, and the commands that run a server, the simulator and the doctor.

Owns: what is typed and what is printed. Does not own: any rule; every command asks the server through `client`.
Invariants: tables by default, `--json` everywhere, ids whole, exit codes from one table (`exits`), colour and progress
only on a terminal, one line of cause and one of what to do next for every error.
To add a command: a function in the module of its subject and its line in `main.COMMANDS`; whatever loads slowly is
imported inside the function.
"""
