"""The engines by name: one line each. A factory takes the data folder and the engine's own settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headframe.control.ports import Engine
from headframe.engines.local import LocalEngine
from headframe.engines.scripted import ScriptedEngine

FACTORIES: dict[str, Callable[..., Engine]] = {
    LocalEngine.name: LocalEngine,
    ScriptedEngine.name: ScriptedEngine,
}


def build(name: str, *arguments: Any, **settings: Any) -> Engine:
    """An engine, not yet started; raises `KeyError` for an unknown name."""
    return FACTORIES[name](*arguments, **settings)
