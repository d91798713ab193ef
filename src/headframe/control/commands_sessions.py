"""What people may ask for about sessions of browsers: sign in with a key, stay, sign out, end one on another device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from headframe.base.changes import NOTHING, Changes
from headframe.control.commands_tenancy import event
from headframe.control.context import Context
from headframe.control.queries_tenancy import seen
from headframe.control.world import World
from headframe.tenants.keys import secret_hash
from headframe.tenants.records import Key, Session
from headframe.tenants.roles import Caller, Permission
from headframe.tenants.sessions import LONGEST_US, SEEN_EVERY_US, cookie_text, is_open

DEVICE_LIMIT = 200  # characters that are kept of what a browser calls itself


def sign_in(
    world: World, context: Context, caller: Caller, *, device: str = "", address: str = ""
) -> tuple[Changes, tuple[Session, str]]:
    """A session for whom a key speaks, and what the browser keeps of it. It ends with the key at the latest."""
    key: Key = world.all(Key)[caller.key_id]
    secret = context.ids.secret()
    ends_us = context.now_us + LONGEST_US
    session = Session(
        id=context.ids.new("ses"),
        organization_id=caller.organization_id,
        member_id=caller.member_id,
        key_id=caller.key_id,
        secret_sha256=secret_hash(secret),
        created_us=context.now_us,
        seen_us=context.now_us,
        expires_us=ends_us if key.expires_us is None else min(ends_us, key.expires_us),
        device=device[:DEVICE_LIMIT],
        address=address[:DEVICE_LIMIT],
    )
    over = tuple(
        _ended(each, context.now_us, "expired")
        for _, each in sorted(world.all(Session).items())
        if each.member_id == caller.member_id and not is_open(each, context.now_us)
    )
    told = event(context, "signed_in", session, "Signed in to the console.", by=caller)
    return Changes((*over, session), (told,)), (session, cookie_text(session.id, secret))


def note_seen(world: World, context: Context, session_ids: Sequence[str]) -> tuple[Changes, None]:
    """Keep that sessions were used just now, if that is not known exactly enough."""
    rows = []
    for session_id in session_ids:
        found: Session | None = world.get(Session, session_id)
        if found is not None and is_open(found, context.now_us) and context.now_us - found.seen_us >= SEEN_EVERY_US:
            rows.append(replace(found, seen_us=context.now_us, version=found.version + 1))
    return Changes(tuple(rows)), None


def expire_sessions(world: World, context: Context) -> tuple[Changes, None]:
    """End the sessions that are over by age or idleness, of which nobody has signed in again."""
    over = (each for _, each in sorted(world.all(Session).items()) if not is_open(each, context.now_us))
    return Changes(tuple(_ended(each, context.now_us, "expired") for each in over)), None


def end_session(world: World, context: Context, caller: Caller, session_id: str) -> tuple[Changes, Session]:
    """Sign a device out at once. One's own need no right; those of others need that over members."""
    found = world.get(Session, session_id)
    if found is None or found.member_id != caller.member_id or found.organization_id != caller.organization_id:
        found = seen(world, caller, Session, session_id, Permission.MEMBERS_WRITE)
    if found.ended_us is not None:
        return NOTHING, found
    gone = _ended(found, context.now_us, "signed_out")
    told = event(context, "signed_out", gone, "A session of the console was ended.", by=caller)
    return Changes((gone,), (told,)), gone


def _ended(session: Session, now_us: int, reason: str) -> Session:
    return replace(session, ended_us=now_us, reason=reason, version=session.version + 1)
