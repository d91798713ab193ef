"""The meters of events that a new cloud has."""

from __future__ import annotations

from headframe.metering.records import Aggregation, Meter, Window

TOKENS = "headframe.tokens"  # events of tokens: {"model": ..., "input": ..., "cached": ..., "output": ...}
STORED = "headframe.stored"  # events of what is kept, such as headframe.stored.outputs: {"name": ..., "mib": ...}


def default_meters(now_us: int) -> tuple[Meter, ...]:
    """Tokens by model, and what is kept by name. Datasets need no events: their records tell."""
    tokens = (
        Meter(f"tokens:{kind}", TOKENS, Aggregation.SUM, "token", kind, ("model",), created_us=now_us)
        for kind in ("cached", "input", "output")
    )
    stored = (
        Meter(
            f"storage:{what}",
            f"{STORED}.{what}",
            Aggregation.TIME_WEIGHTED,
            "MiB",
            "mib",
            ("name",),
            Window.DAY,
            now_us,
        )
        for what in ("checkpoints", "outputs")
    )
    return (*stored, *tokens)
