"""A browser without scripts, for tests of pages: it keeps cookies, follows nothing by itself, and reads forms."""

from __future__ import annotations

from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import httpx
from lxml import html


class Browser:
    """Somebody at the console. `get` and `post` give the answer; `page` its tree, for `xpath` and `cssselect`."""

    def __init__(self, url: str, key: str = "") -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=30, trust_env=False)
        self.token = ""
        if key:
            answer = self.post("/sign-in", key=key)
            assert answer.status_code == 303, answer.text
            self.page("/account")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.http.get(path, **more)

    def post(self, path: str, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        """Send a form as a page of the console does."""
        told = {"Origin": self.url, "Content-Type": "application/x-www-form-urlencoded"} | (headers or {})
        fields.setdefault("form_token", self.token)
        return self.http.post(path, content=urlencode(fields, doseq=True), headers=told)

    def page(self, path: str) -> html.HtmlElement:
        """The tree of a page that is there."""
        answer = self.get(path)
        assert answer.status_code == 200, (path, answer.status_code, answer.headers.get("location"), answer.text[:2000])
        tree = html.document_fromstring(answer.text)
        self.token = tree.body.get("data-form-token", self.token)
        return tree


def text_of(tree: html.HtmlElement) -> str:
    """What one reads, with single blanks."""
    return " ".join(" ".join(str(part) for part in tree.itertext()).split())
