"""What the tests of engines share: a place to run an engine, and a memory of what it said."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from headframe.cli.throwaway_slurm import SlurmCluster
from headframe.control.ports import Engine
from headframe.engines import agent_wire, registry
from headframe.engines.homes import Home
from headframe.engines.local import LocalEngine, LocalLogs
from headframe.engines.slurm import SlurmEngine
from headframe.fleet.engine_words import Forget, Launch, Observation, Report, Seen, Signal, Stop
from headframe.fleet.records import Cluster, Region, Share, Slice

DEADLINE = 20.0
Kind = TypeVar("Kind", bound=Engine)


def wait_until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE) -> Any:
    """The first true answer of `condition`, asked again and again until a deadline."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := condition():
            return answer
        time.sleep(0.005)
    raise AssertionError(f"not within {seconds} s: {what}")


class EnginePlace(Generic[Kind]):
    """One data folder with an engine; `restart` is a server that dies and comes back."""

    def __init__(self, data: Path, **settings: Any) -> None:
        self.data, self.settings = data, settings
        self.heard: list[Any] = []
        self.news = threading.Condition()
        self.engine = self._begin()
        self.logs = LocalLogs(data, self.engine)

    def make(self) -> Kind:
        """The engine, not yet started."""
        raise NotImplementedError

    def act(self, actions: Sequence[Launch | Stop | Signal | Forget]) -> None:
        self.engine.act(actions)

    def _begin(self) -> Kind:
        engine = self.make()
        engine.start(self._hear)
        self.wait_for(lambda seen: isinstance(seen, Report), "a first report")
        return engine

    def _hear(self, seen: Observation | Report) -> None:
        with self.news:
            self.heard.append(seen)
            self.news.notify_all()

    def wait_for(self, wanted: Callable[[Any], bool], what: str, after: int = 0, seconds: float = DEADLINE) -> Any:
        end = time.monotonic() + seconds
        with self.news:
            while True:
                for seen in self.heard[after:]:
                    if wanted(seen):
                        return seen
                if not self.news.wait(max(0.0, end - time.monotonic())):
                    told = [str(one)[:600] for one in self.heard[-3:]]
                    raise AssertionError(f"not heard within {seconds} s: {what}; heard {told}")

    def wait_seen(self, allocation_id: str, *states: Seen, after: int = 0, seconds: float = DEADLINE) -> Observation:
        def matches(seen: Any) -> bool:
            return isinstance(seen, Observation) and seen.allocation_id == allocation_id and seen.seen in states

        found = self.wait_for(matches, f"{allocation_id} {states}", after, seconds)
        assert isinstance(found, Observation)
        return found

    def report(self) -> Report:
        before = len(self.heard)
        self.engine.request_report()
        found = self.wait_for(lambda seen: isinstance(seen, Report), "a report", before)
        assert isinstance(found, Report)
        return found

    def run(self, name: str, run: str, **more: Any) -> Observation:
        """Launch a job and wait for its end."""
        self.act([launch(name, run, **more)])
        return self.wait_seen(f"alc_{name}", Seen.EXITED, Seen.FAILED, Seen.LOST)

    def text(self, name: str, *streams: str) -> str:
        pieces, _next = self.logs.read(f"job_{name}", 0, 1 << 30)
        return "".join(piece.text for piece in pieces if not streams or piece.stream in streams)

    def restart(self) -> None:
        """The server goes and comes back; what it started stays."""
        self.engine.close()
        self.heard.clear()
        self.engine = self._begin()
        self.logs = LocalLogs(self.data, self.engine)

    def stop_all(self) -> None:
        """End every allocation."""
        alive = [seen for seen in self.report().observations if seen.seen in (Seen.PREPARING, Seen.RUNNING)]
        self.act([Stop(seen.allocation_id, seen.generation, "test", "SIGKILL", 0) for seen in alive])
        for seen in alive:
            self.wait_seen(seen.allocation_id, Seen.EXITED, Seen.FAILED, Seen.LOST)

    def end(self) -> None:
        """End every allocation, then the engine."""
        self.stop_all()
        self.engine.close()


class Place(EnginePlace[LocalEngine]):
    """The engine of this machine, with its agent."""

    def make(self) -> LocalEngine:
        return LocalEngine(self.data, **self.settings)

    def agent_pid(self) -> int:
        return int(wait_until(lambda: self.engine.agent.get("pid"), "the agent's hello"))

    def kill_agent(self) -> int:
        """Kill it as hard as can be; returns the pid it had. The engine starts the next one."""
        pid, before = self.agent_pid(), len(self.heard)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.engine.agent.get("pid") != pid, "another agent")
        self.wait_for(lambda seen: isinstance(seen, Report), "the next agent's report", before)
        return pid

    def end(self) -> None:
        """End every allocation, then the agent."""
        self.stop_all()
        pid = self.agent_pid()
        self.engine.close()
        with agent_wire.connect(self.data / "agent") as wire:
            wire.sendall(agent_wire.encode({"leave": {}}))
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the agent's end")


STARTS = 'echo started >> "$HEADFRAME_OUTPUTS/starts"; '  # a command's first words, for `SlurmPlace.starts` to count
OVER = (Seen.EXITED, Seen.FAILED, Seen.LOST)


class SlurmPlace(EnginePlace[SlurmEngine]):
    """An engine on the throwaway Slurm. Tasks of a launch are dealt out over its nodes, two to each."""

    def __init__(self, data: Path, slurm: SlurmCluster, **settings: Any) -> None:
        self.slurm = slurm
        super().__init__(data, **settings)

    def make(self) -> SlurmEngine:
        cluster = Cluster("clu_lab", "reg_lab", "lab", "slurm")
        settings = {"conf": str(self.slurm.conf), "ear": "localhost", "poll": "300ms", "watch": "1s"}
        home = Home(cluster, Region("reg_lab", "lab"), self.data, settings | self.settings)
        engine = registry.FACTORIES["slurm"](home)
        assert isinstance(engine, SlurmEngine)
        return engine

    def node(self, number: int) -> str:
        return f"nod_lab_{self.slurm.nodes[number]}"

    def starts(self, name: str) -> int:
        """How often a job that begins with `STARTS` has begun."""
        path = self.data / f"jobs/job_{name}/outputs/starts"
        return path.read_text().count("started") if path.exists() else 0

    def act(self, actions: Sequence[Launch | Stop | Signal | Forget]) -> None:
        self.engine.act([self._placed(one) if isinstance(one, Launch) else one for one in actions])

    def _placed(self, one: Launch) -> Launch:
        slices = tuple(
            replace(piece, node_id=self.node(piece.rank // 2)) if piece.node_id == "nod_x" else piece
            for piece in one.slices
        )
        return replace(one, slices=slices)


def launch(
    name: str,
    run: str,
    *,
    generation: int = 1,
    tasks: int = 1,
    organization: int = 1,
    memory_mib: int = 256,
    cpu_milli: int = 1000,
    shares: tuple[Share, ...] = (),
    env: dict[str, str] | None = None,
    secrets: dict[str, str] | None = None,
    **work: Any,
) -> Launch:
    slices = tuple(Slice(rank, "nod_x", cpu_milli, memory_mib, 0, shares) for rank in range(tasks))
    return Launch(
        f"alc_{name}", generation, f"job_{name}", name, f"org_{organization}", organization, "prj_x", slices,
        {"run": run, **work}, env or {}, secrets or {},
    )  # fmt: skip
