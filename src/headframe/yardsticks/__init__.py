"""Published results of others, run again through our own scheduling and put beside what was published.

Owns: for each yardstick how its data is read, the method by which its numbers were made, what counts as passed
(`fgd`, `muri`, `gavel`, `shockwave`, `kueue`), the one list of them (`registry`), the row that each yields (`records`).
Does not own: any decision of who gets what (`scheduling`), nor the virtual clock that jobs of a trace live on (`sim`).
Invariants: nothing published is repeated here that the data folder holds; no rule looks at the name of a file to do
better on it; the same data gives the same rows under any PYTHONHASHSEED.
To add a yardstick: a module with a function of (folder, options) that yields rows, and its registry line.
"""
