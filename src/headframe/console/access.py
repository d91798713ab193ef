"""Sign in and out, and the devices that are signed in."""

from __future__ import annotations

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from headframe.api.origin import check_origin, cookie_name, cookie_of, is_loopback
from headframe.api.wire import Serving, count_failure
from headframe.base.errors import CallerError, Invalid, TooManyFailures, Unauthenticated
from headframe.console.forms import EMPTY, Form, Sent, read_form
from headframe.console.page import HEADERS, Signed, own_path, page_router, render
from headframe.control.commands_sessions import end_session, sign_in
from headframe.control.queries_tenancy import authenticate, authenticate_session
from headframe.tenants.records import Key, Session

router = page_router()


@router.get("/")
async def front(request: Request) -> Response:
    """Home, or the way in."""
    return RedirectResponse("/home" if _is_signed_in(request) else "/sign-in", 303, HEADERS)


@router.get("/sign-in")
async def show_sign_in(request: Request) -> Response:
    """The form that takes a key."""
    if _is_signed_in(request):
        return RedirectResponse(own_path(request.query_params.get("next", "")), 303, HEADERS)
    return _sign_in_page(request)


@router.post("/sign-in")
async def take_key(request: Request) -> Response:
    """A session for the key, if it is live."""
    check_origin(request)
    form, serving = read_form(await request.body()), _serving(request)
    try:
        if request.url.scheme != "https" and not is_loopback(request):
            raise Invalid(
                "The connection is not encrypted: a key sent over it could be read on the way.",
                next_step="Open the console over https, through a proxy with TLS, or through an SSH tunnel.",
            )
        caller = authenticate(serving.control.world, serving.clock.now_us(), form.text("key"))
    except Unauthenticated:
        error = Unauthenticated(
            "The key is not known, has expired or was revoked.",
            next_step="Check that it is whole, or ask an admin of your organization for another one.",
        )
        try:
            count_failure(request, serving)
        except TooManyFailures as slower:
            return _sign_in_page(request, form, slower)
        return _sign_in_page(request, form, error)
    except Invalid as error:
        return _sign_in_page(request, form, error)
    device, address = request.headers.get("user-agent", ""), request.client.host if request.client else ""
    session, text = await run_in_threadpool(serving.control.run, sign_in, caller, device=device, address=address)
    answer = RedirectResponse(own_path(form.text("next")), 303, HEADERS)
    secure = request.url.scheme == "https"
    seconds = (session.expires_us - session.created_us) // 1_000_000
    answer.set_cookie(
        cookie_name(request), text, max_age=seconds, path="/", secure=secure, httponly=True, samesite="lax"
    )
    return answer


@router.post("/sign-out")
def sign_out(page: Signed, form: Sent) -> Response:
    """End this session."""
    page.run(end_session, page.session.id)
    answer = page.go("/sign-in", said="You are signed out.")
    secure = page.request.url.scheme == "https"
    answer.delete_cookie(cookie_name(page.request), path="/", secure=secure, httponly=True, samesite="lax")
    return answer


@router.get("/account")
def account(page: Signed) -> Response:
    """Who one is here, what one may do, and where one is signed in."""
    sessions = page.control.reads.find(
        Session, member_id=page.caller.member_id, ended_us=None, newest=True, limit=200
    )  # fmt: skip
    return page.show(
        "account.html", section="account", title="You", key=page.world.get(Key, page.caller.key_id), sessions=sessions
    )


@router.post("/account/sessions/{session_id}/end")
def end(page: Signed, session_id: str, form: Sent) -> Response:
    """Sign another device out."""
    page.run(end_session, session_id)
    return page.go("/account", said="That device is signed out.")


def _serving(request: Request) -> Serving:
    serving = request.app.state.serving
    assert isinstance(serving, Serving)
    return serving


def _is_signed_in(request: Request) -> bool:
    serving, cookie = _serving(request), cookie_of(request)
    if cookie is None:
        return False
    try:
        authenticate_session(serving.control.world, serving.clock.now_us(), cookie)
    except Unauthenticated:
        return False
    return True


def _sign_in_page(request: Request, form: Form = EMPTY, error: CallerError | None = None) -> Response:
    following = own_path(form.text("next") or request.query_params.get("next", ""))
    told = {"title": "Sign in", "error": error, "form": form, "following": following,
            "ended": cookie_of(request) is not None and error is None}  # fmt: skip
    return render(request, "sign_in.html", error.status if error else 200, told)
