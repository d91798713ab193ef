"""What every page stands on: who looks, how a template becomes a response, what an error looks like in a browser.

A page looks like this:

    router = page_router()

    @router.get("/things")
    def things(page: Signed) -> Response:
        return page.show("things.html", section="fleet", title="Things", things=page.ask(all_things))

    @router.post("/things")
    def make(page: Signed, form: Sent) -> Response:
        try:
            made = page.run(create_thing, name=form.text("name"))
        except CallerError as error:
            return page.show("things.html", section="fleet", title="Things", form=form, error=error, ...)
        return page.go("/things", said=f"The thing {made.name} was made.")
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import RedirectResponse, Response

from headframe.api.origin import TOKEN_FIELD, cookie_name, cookie_of
from headframe.api.problems import request_id_of
from headframe.api.wire import Call, Serving
from headframe.base.changes import Changes
from headframe.base.errors import CallerError, HeadframeError, Invalid, StoreFailed, TooBusy, Unauthenticated
from headframe.console import words
from headframe.console.assets import address
from headframe.console.forms import EMPTY, Form
from headframe.control.commands_sessions import note_seen
from headframe.control.queries_map import sees_all
from headframe.control.queries_tenancy import authenticate_session
from headframe.tenants.records import Member, Organization, Session
from headframe.tenants.roles import Caller, Permission
from headframe.tenants.sessions import SEEN_EVERY_US, form_token

if TYPE_CHECKING:
    from headframe.control.driver import Control
    from headframe.control.world import World

THEMES = ("system", "light", "dark")
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data:; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
# `no-referrer` would make browsers hide the origin of our own forms, too.
HEADERS = {
    "Content-Security-Policy": CSP,
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
SAID_COOKIE, THEME_COOKIE = "headframe-said", "headframe-theme"
SECTIONS = (  # (name, title, address, the key behind `g`)
    ("home", "Home", "/home", "h"),
    ("fleet", "Fleet", "/fleet", "f"),
    ("jobs", "Jobs", "/jobs", "j"),
    ("queue", "Queue", "/queue", "q"),
    ("usage", "Usage and cost", "/usage", "u"),
    ("admin", "Admin", "/admin", "a"),
)
_log = logging.getLogger("headframe.console")

TEMPLATES = Environment(
    loader=PackageLoader("headframe.console", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
TEMPLATES.filters.update(words.FILTERS)
TEMPLATES.globals.update(
    static=address, sections=SECTIONS, token_field=TOKEN_FIELD, states=words.STATES, Permission=Permission,
    as_milli=words.milli, as_mib=words.mib,
)  # fmt: skip


def page_router() -> APIRouter:
    """A router whose errors are pages and whose routes are no part of the API's description."""
    return APIRouter(route_class=PageRoute, include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Page:
    """One request of somebody who is signed in."""

    call: Call
    session: Session
    secret: str  # of the session
    sequence: int  # the last event before anything was looked up: what comes behind it may not be on the page

    @property
    def request(self) -> Request:
        return self.call.request

    @property
    def caller(self) -> Caller:
        return self.call.caller

    @property
    def control(self) -> Control:
        return self.call.control

    @property
    def world(self) -> World:
        """Look rows up by id here; whoever wants more must `ask`."""
        return self.call.control.world

    @property
    def now_us(self) -> int:
        return self.call.serving.clock.now_us()

    def ask(self, question: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The result of `question(world, context, caller, *args, **kwargs)`.

        Where that is to read the store itself (a question that returns `read(reads)`), give it `page.control.reads`.
        """
        return self.call.ask(question, *args, **kwargs)

    def together(self, *questions: Callable[..., Any]) -> list[Any]:
        """The results of several questions (`partial` gives them their arguments), asked in one turn of the loop.

        Those that are to read the store do so here. Each turn is a pass of the loop: ask for a page's things at once.
        """

        def each(world: World, context: Any, caller: Caller) -> list[Any]:
            return [question(world, context, caller) for question in questions]

        found: list[Any] = self.ask(each)
        return [one(self.control.reads) if callable(one) else one for one in found]

    def run(self, command: Callable[..., tuple[Changes, Any]], *args: Any, **kwargs: Any) -> Any:
        """Carry out `command(world, context, caller, *args, **kwargs)`; on record when this returns."""
        return self.control.run(command, self.caller, *args, **kwargs)

    def may(self, permission: Permission, organization_id: str | None = None, project_id: str | None = None) -> bool:
        """Whether to offer something at all; the command checks again."""
        caller = self.caller
        return caller.may(permission, organization_id or caller.organization_id, project_id or caller.project_id)

    @property
    def house(self) -> str | None:
        """Whose things are shown when the page names no organization: None is everybody's, for the operator."""
        return None if sees_all(self.caller) else self.caller.organization_id

    def show(
        self, template: str, *, section: str, title: str, form: Form = EMPTY, error: CallerError | None = None,
        status: int = 0, **values: Any,
    ) -> Response:  # fmt: skip
        """The page. With an `error` its form is shown again, what was typed still in it, and the error's status."""
        status = status or (error.status if error is not None else 200)
        member: Member | None = self.world.get(Member, self.caller.member_id)
        organization: Organization | None = self.world.get(Organization, self.caller.organization_id)
        known = {
            "page": self, "caller": self.caller, "member": member, "organization": organization, "now_us": self.now_us,
            "form_token": form_token(self.secret), "form": form, "error": error, "section": section, "title": title,
            "sequence": self.sequence,
        }  # fmt: skip
        return render(self.request, template, status, known | values)

    def go(self, where: str, said: str = "") -> Response:
        """After a form: the page to see next, with one sentence on what was done."""
        answer = RedirectResponse(where, 303, HEADERS)
        if said:
            answer.set_cookie(SAID_COOKIE, quote(said), max_age=60, httponly=True, samesite="strict")
        return answer


async def _signed(request: Request) -> Page:
    """Who looks: the session behind the cookie. Raises `Unauthenticated`, which becomes the way to the sign-in page."""
    serving: Serving = request.app.state.serving
    cookie = cookie_of(request)
    if cookie is None:
        raise Unauthenticated("You are not signed in.", next_step="Sign in first.")
    now_us = serving.clock.now_us()
    caller, session, secret = authenticate_session(serving.control.world, now_us, cookie)
    if now_us - session.seen_us >= SEEN_EVERY_US:
        serving.control.note(note_seen, [session.id])
    return Page(Call(request, serving, caller), session, secret, serving.control.recorded_seq)


Signed = Annotated[Page, Depends(_signed)]


def render(request: Request, template: str, status: int, values: Mapping[str, Any]) -> Response:
    """A template as a response, with the theme that was chosen and the sentence that the page before left."""
    theme = request.cookies.get(THEME_COOKIE, "")
    said = request.cookies.get(SAID_COOKIE, "")
    now_us = request.app.state.serving.clock.now_us()
    theme = theme if theme in THEMES else "system"
    known = {"theme": theme, "said": unquote(said)[:500], "request": request, "now_us": now_us}
    answer = Response(TEMPLATES.get_template(template).render({**known, **values}), status, HEADERS, "text/html")
    if said:
        answer.delete_cookie(SAID_COOKIE, httponly=True, samesite="strict")
    return answer


class PageRoute(APIRoute):
    """A route whose errors are told in a page."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await answer(request)
            except Unauthenticated as error:
                return sign_in_first(request, error)
            except RequestValidationError:
                return failure(request, Invalid("The address holds something that this page does not understand."))
            except HeadframeError as error:
                return failure(request, error)

        return told


def sign_in_first(request: Request, error: Unauthenticated) -> Response:
    """To the sign-in page and from there back here. A cookie that is good for nothing goes."""
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    where = "/sign-in" + (f"?{urlencode({'next': back})}" if request.method == "GET" and back != "/" else "")
    answer = RedirectResponse(where, 303, HEADERS)
    if cookie_of(request) is not None:
        answer.delete_cookie(cookie_name(request), secure=request.url.scheme == "https", httponly=True, samesite="lax")
        answer.set_cookie(SAID_COOKIE, quote(error.message), max_age=60, httponly=True, samesite="strict")
    return answer


def failure(request: Request, error: HeadframeError) -> Response:
    """An error as a page: what is wrong, what to do next, and for ours the number under which the log has it."""
    if error.status >= 500:
        _log.error("request %s failed: %s", request_id_of(request), error, exc_info=error)
    ours = error.status >= 500 and not isinstance(error, TooBusy | StoreFailed)
    told = {
        "title": {403: "Not allowed", 404: "Not found"}.get(error.status, "That did not work"),
        "error": None if ours else error,
        "request_id": request_id_of(request),
        "status": error.status,
    }
    return render(request, "failure.html", error.status, told)


def own_path(text: str, default: str = "/home") -> str:
    """A path of this console that a request names as the next one; anything else is not followed."""
    parts = urlsplit(text)
    plain = text.startswith("/") and not text.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return text if plain and text.isprintable() and "\\" not in text else default
