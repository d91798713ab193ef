"""A repeat of a POST gets the answer of the first: stored in the same transaction as what the first one did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from headframe.base.changes import NOTHING, Changes
from headframe.base.errors import IdempotencyConflict
from headframe.control.context import Context
from headframe.control.records import Reply
from headframe.control.world import World


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that may come again. `show` turns the command's result into the body of the answer.

    `sealed` keeps the stored answer encrypted: it holds something that is shown once, such as a key.
    """

    key_id: str
    idempotency_key: str
    fingerprint: str
    status: int
    show: Callable[[Any], str]
    sealed: bool = False

    @property
    def id(self) -> str:
        return f"{self.key_id}:{self.idempotency_key}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back. `repeated` says that nothing was done this time."""

    status: int
    body: str
    repeated: bool = False


def once(
    world: World,
    context: Context,
    asked: Asked,
    command: Callable[..., tuple[Changes, Any]],
    *args: Any,
    **kwargs: Any,
) -> tuple[Changes, Answer]:
    """A command around a command: carries it out the first time, and answers from the record after that.

    Only success is recorded: a request that failed changed nothing and may be tried again under the same key.
    """
    stored = context.reads.get(Reply, asked.id)
    if stored is not None:
        if stored.fingerprint != asked.fingerprint:
            raise IdempotencyConflict(
                "This Idempotency-Key was used for another request.",
                next_step="Use a new Idempotency-Key for a new request; repeat one only with the very same request.",
                details={"idempotency_key": asked.idempotency_key},
            )
        body = context.vault.unseal(stored.body) if asked.sealed else stored.body
        return NOTHING, Answer(stored.status, body, repeated=True)
    changes, result = command(world, context, *args, **kwargs)
    body = asked.show(result)
    reply = Reply(
        id=asked.id,
        fingerprint=asked.fingerprint,
        status=asked.status,
        body=context.vault.seal(body) if asked.sealed else body,
        created_us=context.now_us,
    )
    return changes + Changes(rows=(reply,)), Answer(asked.status, body)
