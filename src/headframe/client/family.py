"""What the jobs of an array or a schedule say, as one log."""

from __future__ import annotations

import heapq
import queue
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

from headframe.client.client import Client

AT_ONCE = 16  # logs that are followed at one moment; others wait until one of these has ended
MERGED = 200  # logs that are merged by time; a larger array comes in as many parts as it takes


def children_of(client: Client, parent: str) -> list[dict[str, Any]]:
    """The jobs of an array by index, those of a schedule by age."""
    found = client.jobs(limit=None, parent=parent)
    return sorted(found, key=lambda job: (job["array_index"] or 0, job["id"]))


def family_logs(client: Client, parent: str, *, follow: bool = False, tail: int | None = None) -> Iterator[Any]:
    """Pieces of the logs of all children, in order of time, each with the `index` of its job.

    In a schedule, whose jobs have no index, the job's name takes its place. With `follow` pieces come as they are
    written, until all children that are there now have ended; no more than 16 logs are followed at one moment.
    """
    children = children_of(client, parent)
    if follow:
        yield from _followed(client, children, tail)
        return
    for first in range(0, len(children), MERGED):
        some = children[first : first + MERGED]
        yield from heapq.merge(*(_said(client, job, False, tail) for job in some), key=lambda piece: piece["at_us"])


def _said(client: Client, job: dict[str, Any], follow: bool, tail: int | None) -> Iterator[Any]:
    index = job["name"] if job["array_index"] is None else job["array_index"]
    for piece in client.logs(job["id"], follow=follow, tail=tail, progress=True):
        yield {**piece, "job": job["id"], "index": index}


def _followed(client: Client, children: list[dict[str, Any]], tail: int | None) -> Iterator[Any]:
    """Threads that do not keep the program from ending: a reader may go away at any time."""
    pieces: queue.Queue[Any] = queue.Queue(maxsize=1000)
    waiting = deque(children)

    def follow() -> None:
        try:
            while True:
                for piece in _said(client, waiting.popleft(), True, tail):
                    pieces.put(piece)
        except IndexError:
            pieces.put(None)  # nobody is left to be followed
        except Exception as error:  # told where the pieces are read
            pieces.put(error)

    open_now = min(AT_ONCE, len(children))
    for _ in range(open_now):
        threading.Thread(target=follow, name="follow-log", daemon=True).start()
    while open_now:
        item = pieces.get()
        if isinstance(item, Exception):
            raise item
        if item is None:
            open_now -= 1
        else:
            yield item
