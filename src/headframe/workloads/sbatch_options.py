"""The options of `#SBATCH` lines: their long and short forms, and how a line is taken apart into them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from headframe.base.errors import Invalid

# Short forms of options, and whether an option takes a value: always, never, or only behind `=`.
SHORT = {
    "A": "account", "B": "extra-node-info", "C": "constraint", "D": "chdir", "F": "nodefile", "G": "gpus", "H": "hold",
    "I": "immediate", "J": "job-name", "L": "licenses", "M": "clusters", "N": "nodes", "O": "overcommit", "Q": "quiet",
    "S": "core-spec", "W": "wait", "a": "array", "b": "begin", "c": "cpus-per-task", "d": "dependency", "e": "error",
    "h": "help", "i": "input", "k": "no-kill", "m": "distribution", "n": "ntasks", "o": "output", "p": "partition",
    "q": "qos", "s": "oversubscribe", "t": "time", "v": "verbose", "w": "nodelist", "x": "exclude",
}  # fmt: skip
FLAGS = frozenset({
    "contiguous", "hold", "ignore-pbs", "no-requeue", "overcommit", "oversubscribe", "parsable", "quiet", "reboot",
    "requeue", "spread-job", "test-only", "use-min-nodes", "verbose", "wait", "help", "share",
})  # fmt: skip
MAYBE = frozenset({"exclusive", "get-user-env", "nice", "no-kill", "propagate", "immediate", "kill-on-invalid-dep"})
# Other names of the same.
SAME = {"tasks-per-node": "ntasks-per-node", "workdir": "chdir", "share": "oversubscribe", "cluster": "clusters",
        "exclusive-user": "exclusive"}  # fmt: skip
KNOWN = frozenset(SHORT.values()) | FLAGS | MAYBE | frozenset({
    "acctg-freq", "bb", "bbf", "cluster-constraint", "comment", "container", "container-id", "container-image",
    "container-mounts", "container-name", "container-workdir", "cores-per-socket", "cpu-freq", "cpus-per-gpu",
    "deadline", "delay-boot", "export", "export-file", "extra", "gid", "gpu-bind", "gpu-freq", "gpus-per-node",
    "gpus-per-socket", "gpus-per-task", "gres", "gres-flags", "hint", "mail-type", "mail-user", "mcs-label", "mem",
    "mem-bind", "mem-per-cpu", "mem-per-gpu", "mincpus", "network", "ntasks-per-core", "ntasks-per-gpu",
    "ntasks-per-node", "ntasks-per-socket", "open-mode", "power", "prefer", "priority", "profile", "reservation",
    "signal", "sockets-per-node", "switches", "thread-spec", "threads-per-core", "time-min", "tmp", "tres-bind",
    "tres-per-task", "uid", "wait-all-nodes", "wckey", "wrap",
})  # fmt: skip
_LONG = re.compile(r"--([a-z][a-z-]*)(?:=(.*))?", re.DOTALL)


def options(text: str) -> Iterator[tuple[str, str, str]]:
    """(name, value, as written) of each option of a line's text; raises `Invalid` for a line that cannot be read."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise Invalid(f"The quotes of this line do not match: {error}.") from None
    words = words[: next((at for at, word in enumerate(words) if word.startswith("#")), len(words))]  # a remark
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        long = _LONG.fullmatch(word)
        if long is not None:
            name = full_name(long[1])
            value = long[2]
            if value is None and name not in FLAGS | MAYBE and place < len(words):
                value, place = words[place], place + 1
                word = f"{word} {value}"
            yield name, value or "", word
        elif word.startswith("-") and len(word) > 1 and word[1] in SHORT:
            name, value = SHORT[word[1]], word[2:].removeprefix("=")
            if name in FLAGS | MAYBE:
                yield name, value if name in MAYBE else "", word
                continue
            if not value and place < len(words):
                value, place = words[place], place + 1
                word = f"{word} {value}"
            yield name, value, word
        else:
            yield "", word, word


def full_name(written: str) -> str:
    """The name of a long option, which may be cut as long as it is one only."""
    name = SAME.get(written, written)
    if name in KNOWN:
        return name
    like = sorted(one for one in KNOWN if one.startswith(name))
    return like[0] if len(like) == 1 else name
