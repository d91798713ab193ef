"""The scripted engine on the machine's own clock: a pretended cluster inside a server, for trying things out.

Nothing runs there: a job's `run` line is its script (see `scripted`), its devices are marked as pretended, and what it
does is forgotten with the server. In the file of clusters:

    cloud: {engine: scripted, region: south, nodes: 2, gpus: "H100:8", cpu: 64, memory: 512GB}
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from headframe.base.quantities import GIB_MIB
from headframe.engines.agent_state import now_us
from headframe.engines.homes import Home
from headframe.engines.machine import pretended
from headframe.engines.scripted import Action, ScriptedEngine
from headframe.fleet.engine_words import Observation, Report
from headframe.fleet.records import Accelerator, Node
from headframe.workloads import readers


class _NoChance:
    """The least that is possible happens."""

    def below(self, limit: int) -> int:
        return 0


class Rehearsal:
    """See `control.ports.Engine`: a `ScriptedEngine` and the thread that lets its time go on."""

    name = ScriptedEngine.name

    def __init__(self, nodes: Sequence[Node], accelerators: Sequence[Accelerator]) -> None:
        self._turn = threading.Condition()
        self._closing = False
        self._inner = ScriptedEngine(nodes, accelerators, true_us=now_us, stamp_us=now_us, rng=_NoChance())
        self._thread = threading.Thread(target=self._drive, name="scripted-engine", daemon=True)

    @classmethod
    def at(cls, home: Home) -> Rehearsal:
        """The cluster that a file describes; raises `Invalid`."""
        given, place = home.known("nodes", "gpus", "cpu", "memory"), home.cluster.name
        count = int(str(readers.whole(1, 10_000)(given.get("nodes", 1), f"{place}.nodes")))
        cpu_milli = readers.cpu(given.get("cpu", 64), f"{place}.cpu")[0]
        memory_mib = readers.memory(given.get("memory", "512GB"), f"{place}.memory")[0]
        nodes, devices = list[Node](), list[Accelerator]()
        for number in range(1, count + 1):
            name = f"{place}-{number}"
            node = Node(f"nod_{name}", home.cluster.id, name, cpu_milli, memory_mib, 1024 * GIB_MIB, fake=True)
            nodes.append(node)
            devices += pretended(node.id, name, str(given.get("gpus", "")), 0, f"{place}.gpus")
        return cls(nodes, devices)

    def start(self, deliver: Callable[[Observation | Report], None]) -> None:
        with self._turn:
            self._inner.start(deliver)
        self._thread.start()

    def close(self) -> None:
        with self._turn:
            self._closing = True
            self._inner.close()
            self._turn.notify_all()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(5)

    def act(self, actions: Sequence[Action]) -> None:
        with self._turn:
            self._inner.act(actions)
            self._turn.notify_all()

    def request_report(self) -> None:
        with self._turn:
            self._inner.request_report()
            self._turn.notify_all()

    def _drive(self) -> None:
        with self._turn:
            while not self._closing:
                self._inner.advance()
                due_us = self._inner.next_due_us()
                self._turn.wait(None if due_us is None else max(due_us - now_us(), 0) / 1_000_000)
