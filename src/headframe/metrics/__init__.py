"""What was measured over time, kept small however long it goes on.

Owns: points and the series they make, the names of what machines measure, how a series is thinned with age.
Does not own: sampling (engines), keeping (store), who may look (control, api). No bill is made of any of it.
Invariants: the points of a series stand in the order of time; a series never holds more than `thin.MOST` of them; the
lowest and highest of what was measured stays true through all thinning.
To add a name: a line in `names.KNOWN`, and the engine that measures it.
"""
