"""What is answered while no server decides: a page that looks again by itself, or a problem for programs."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Scope

from headframe.api.problems import RETRY_AFTER_S, problem
from headframe.base.errors import ChangingOver, NotFound
from headframe.base.ports import Clock, Ids
from headframe.console.assets import static
from headframe.console.page import HEADERS, TEMPLATES, THEME_COOKIE, THEMES


def changeover(clock: Clock, ids: Ids) -> Callable[[Scope, ChangingOver], ASGIApp]:
    """Makes the answer to a request out of why it cannot be carried out; styles and scripts are given all the same."""

    def refuse(scope: Scope, error: ChangingOver) -> Response:
        request = Request(scope)
        if request.url.path.startswith("/static/"):
            try:
                return static(request, *request.url.path.removeprefix("/static/").split("/", 1))
            except (NotFound, TypeError):
                return Response(status_code=404)
        if "text/html" not in request.headers.get("accept", ""):
            return problem(
                error.status, error.code, error.message, request_id=ids.new("req"), next_step=error.next_step
            )
        theme = request.cookies.get(THEME_COOKIE, "")
        content = TEMPLATES.get_template("changeover.html").render(
            title="Changing over", error=error, theme=theme if theme in THEMES else "system", request=request,
            now_us=clock.now_us(), looks=request.method == "GET",
        )  # fmt: skip
        headers = {**HEADERS, "Retry-After": str(RETRY_AFTER_S), "Cache-Control": "no-store"}
        return Response(content, error.status, headers, "text/html")

    return refuse
