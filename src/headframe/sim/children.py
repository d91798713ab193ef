"""Processes that run cases beside each other, and end with the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """Let this process end as soon as the one that started it is gone, killed or not: nobody waits for it any more."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True, name="ends-with-parent").start()


def _watch(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)  # without a word: there is nobody to tell
