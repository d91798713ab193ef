"""What wakes a coroutine: from any thread, and once, however often it is rung meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Bell:
    """Made and waited for on the event loop's thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()
        self._pending = False

    def ring(self, *_: object) -> None:
        """Wake whoever waits; from any thread."""
        if self._pending:
            return
        self._pending = True
        with suppress(RuntimeError):  # the server has stopped: nobody waits any more
            self._loop.call_soon_threadsafe(self._rung.set)

    def set(self) -> None:
        """The same from the event loop's thread, without a detour."""
        self._rung.set()

    async def wait(self, seconds: float | None = None) -> None:
        """Return when rung, or after `seconds`."""
        if seconds is None:
            await self._rung.wait()
        elif seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._rung.wait()
        else:
            await asyncio.sleep(0)
        self._pending = False
        self._rung.clear()
