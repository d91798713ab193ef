"""What a job says of itself: `import headframe; headframe.log(step=1, loss=0.3)`.

Each call adds a line to `metrics.jsonl` in the job's outputs, which Headframe reads along; no network is needed. Jobs
find this very file on their path, without the rest of Headframe: it imports the standard library alone.
"""

import os
import sys
import time

_file = -1
_silent = False


def log(step: "int | None" = None, **values: float) -> None:
    """Report figures of this moment: numbers, or what `float()` takes (a tensor of one element, a NumPy scalar).

    `step` is the job's own count, by which charts can be drawn. Ranks above 0 report as such. Outside of a job it does
    nothing; it never raises for want of room, so that no training ends by it.
    """
    global _file, _silent  # noqa: PLW0603  one file for the whole program
    import json

    folder = os.environ.get("HEADFRAME_OUTPUTS")
    if not folder or _silent:
        return
    row = {"at": time.time_ns() / 1e9, **({} if step is None else {"step": int(step)})}
    rank = os.environ.get("RANK", "0")
    if rank.isdigit() and int(rank) > 0:
        row["rank"] = int(rank)
    row.update((name, float(value)) for name, value in values.items())
    line = (json.dumps(row) + "\n").encode()
    try:
        if _file < 0:
            _file = os.open(
                os.path.join(folder, "metrics.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            )
        os.write(_file, line)
    except OSError as problem:
        _silent = True  # said once
        print(f"headframe.log: {problem}: nothing more is reported", file=sys.stderr)
