"""Words that every subject shares: identities, clocks, money, quantities, changes and the error tree.

Owns: the protocols by which time, chance and identity are handed in (`ports`), exact money (`money`), parsing and
printing of sizes and spans (`quantities`), what a decision may alter (`changes`), the error tree (`errors`).
Does not own: any rule of the trade.
Invariants: nothing here reads a clock, draws a random number or touches the machine; money, time, memory and GPUs
are integers.
To add a word: put it in the module of its subject; a module that needs a second subject is two modules.
"""
