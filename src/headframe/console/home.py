"""What needs attention first, then totals, the fleet in small, and spend to date against budget."""

from __future__ import annotations

from starlette.responses import Response

from headframe.console.page import Signed, page_router

router = page_router()


@router.get("/home")
def home(page: Signed) -> Response:
    """The page that one lands on."""
    return page.show("home.html", section="home", title="Home")
