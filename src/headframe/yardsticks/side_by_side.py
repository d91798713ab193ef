"""Cases of yardsticks in processes of their own, as many at once as there are cores; the order of the rows is fixed.

What fails in one case is told and stands in the table as a number that is missed; the others go on.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from headframe.base.errors import HeadframeError, OurError
from headframe.sim.children import end_with_parent
from headframe.yardsticks.records import MUST, Options, Row
from headframe.yardsticks.registry import YARDSTICKS

NOT_MEASURED = "not measured"
Found = list[Row] | HeadframeError
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a yardstick: what is run in one go."""

    yardstick: str
    data: Path | None
    options: Options

    @property
    def text(self) -> str:
        return ", ".join(part for part in (self.yardstick, self.options.text) if part)

    @property
    def alone(self) -> bool:
        return YARDSTICKS[self.yardstick].alone


def rows_of(folders: Mapping[str, Path | None], options: Options, processes: int, say: Tell) -> list[Row]:
    """The rows of these yardsticks, each with its folder, in this order. `say` takes what failed.

    Raises the first error when nothing at all could be measured.
    """
    failed: dict[str, HeadframeError] = {}
    cases: list[Case] = []
    for name, data in folders.items():
        try:
            cases += [Case(name, data, each) for each in YARDSTICKS[name].cases(data, options)]
        except HeadframeError as error:
            failed[name] = error
            say(f"{name}: {error}")
    found = _run(cases, processes, options.tell, say)
    errors = [*failed.values(), *(one for one in found if isinstance(one, HeadframeError))]
    if errors and len(errors) == len(failed) + len(cases):
        raise errors[0]
    return [
        row
        for name, data in folders.items()
        for row in _table(name, data, failed.get(name), [pair for pair in zip(cases, found, strict=True)
                                                        if pair[0].yardstick == name])
    ]  # fmt: skip


def _table(name: str, data: Path | None, failed: HeadframeError | None, found: list[tuple[Case, Found]]) -> list[Row]:
    """The rows of one yardstick, those of failed cases in their place."""
    if failed is not None:
        return [_missing(name, "all", failed)]
    rows: list[Row] = []
    for case, one in found:
        rows += [_missing(name, case.options.text, one)] if isinstance(one, HeadframeError) else one
    return rows + YARDSTICKS[name].close(data, rows)


def _missing(name: str, case: str, error: HeadframeError) -> Row:
    return Row(name, case or "all", NOT_MEASURED, None, None, False, MUST, error.message)


def _run(cases: Sequence[Case], processes: int, tell: Tell, say: Tell) -> list[Found]:
    """What became of each case, in their order. The last are begun first: the long ones stand there.

    Those that measure time run at the end, one by one.
    """
    found: dict[int, Found] = {}

    def done(number: int, outcome: Found) -> None:
        found[number] = outcome
        if isinstance(outcome, HeadframeError):
            say(f"{cases[number].text}: {outcome}")
        tell(f"{len(found)} of {len(cases)} cases; the last: {cases[number].text}")

    together = [number for number, case in enumerate(cases) if not case.alone]
    tell(f"{len(cases)} cases in {processes} processes")
    _beside(cases, together, processes if len(cases) > 1 else 0, tell, done)
    _beside(cases, [number for number, case in enumerate(cases) if case.alone], 0, tell, done)
    tell("")
    return [found[number] for number in range(len(cases))]


def _beside(
    cases: Sequence[Case], pending: list[int], processes: int, tell: Tell, done: Callable[[int, Found], None]
) -> None:
    """Run these; with fewer than two processes here, one after the other, so that the progress of each is told."""
    if processes < 2:
        for number in pending:
            done(number, _case(replace(cases[number], options=replace(cases[number].options, tell=tell))))
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"headframe.yardsticks.{one.module}" for one in YARDSTICKS.values()])
    running: dict[Connection, tuple[int, BaseProcess]] = {}
    try:
        while pending or running:
            while pending and len(running) < processes:
                number = pending.pop()
                ours, theirs = context.Pipe(duplex=False)
                case = replace(cases[number], options=replace(cases[number].options, tell=_silent))
                child = context.Process(target=_child, args=(theirs, case), daemon=True)
                child.start()
                theirs.close()
                running[ours] = number, child
            for ready in wait(list(running)):
                assert isinstance(ready, Connection), "only pipes are waited for"
                done(running[ready][0], _received(ready, running.pop(ready)[1]))
    finally:
        for _, left in running.values():
            left.terminate()


def _received(pipe: Connection, child: BaseProcess) -> Found:
    """What a process has sent; an error when it ended before that."""
    try:
        found: Found = pipe.recv()
    except EOFError:
        child.join()
        return OurError(f"Its process ended with {child.exitcode} before it was done.", next_step="Is memory short?")
    finally:
        pipe.close()
    child.join()
    return found


def _child(pipe: Connection, case: Case) -> None:
    end_with_parent()
    with suppress(KeyboardInterrupt):  # whoever has started it says so
        pipe.send(_case(case))


def _case(case: Case) -> Found:
    """Run one case; whatever it raises is told, and is not the end of the others."""
    try:
        return YARDSTICKS[case.yardstick].rows(case.data, case.options)
    except HeadframeError as error:
        return error
    except Exception as error:
        return OurError(f"{type(error).__name__}: {error}.", next_step="Run this case by itself, or report it.")


def _silent(_line: str) -> None:
    """Nothing is told from within a process."""
