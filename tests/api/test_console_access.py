"""The way in and out of the console, and what keeps others from using somebody's browser."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from browsing import Browser, text_of
from house import House, open_house

from headframe.base.quantities import DAY_US, HOUR_US
from headframe.console import assets, page
from headframe.console.page import own_path
from headframe.console.pages import SUBJECTS


@pytest.fixture
def url(house: House) -> str:
    return str(house.http.base_url)


def test_a_key_signs_in_and_out(house: House, url: str):
    with Browser(url) as browser:
        assert browser.get("/").headers["location"] == "/sign-in"
        assert browser.get("/home").headers["location"] == "/sign-in?next=%2Fhome"
        assert "API key" in text_of(browser.page("/sign-in"))
        answer = browser.post("/sign-in", key="hf_wrong")
        assert answer.status_code == 401
        assert "not known" in answer.text
    with Browser(url, house.key) as browser:
        assert browser.get("/").headers["location"] == "/home"
        assert "this browser" in text_of(browser.page("/account"))
        old = dict(browser.http.cookies)
        assert browser.post("/sign-out").status_code == 303
        assert browser.get("/home").status_code == 303
        browser.http.cookies.update(old)
        assert browser.get("/home").status_code == 303, "the session is over, not only forgotten by the browser"


def test_the_cookie_is_opaque_and_out_of_reach(house: House, url: str):
    with Browser(url) as browser:
        told = browser.post("/sign-in", key=house.key).headers["set-cookie"]
        assert told.startswith("headframe=")
        assert house.key.rpartition("_")[2] not in told
        assert "HttpOnly" in told
        assert "SameSite=lax" in told
        assert "Path=/" in told
    # Behind a proxy with TLS on this machine it is bound to the host and to TLS.
    headers = {"X-Forwarded-Proto": "https", "Host": "cloud.example", "Origin": "https://cloud.example"}
    answer = httpx.post(f"{url}/sign-in", content=f"key={house.key}", headers=headers, trust_env=False)
    assert answer.headers["set-cookie"].startswith("__Host-headframe=")
    assert "Secure" in answer.headers["set-cookie"]
    # Without TLS and not on this machine a key is not even taken.
    headers = {"Host": "cloud.example", "Origin": "http://cloud.example"}
    answer = httpx.post(f"{url}/sign-in", content=f"key={house.key}", headers=headers, trust_env=False)
    assert answer.status_code == 422
    assert "not encrypted" in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {},
    ],
)
def test_what_others_make_a_browser_send_does_nothing(house: House, url: str, headers: dict[str, str]):
    with Browser(url, house.key) as browser:
        body = f"name=forged&form_token={browser.token}"
        answer = browser.http.post("/admin/projects", content=body, headers=headers)
        assert answer.status_code == 403
        answer = browser.http.post("/v1/projects", json={"name": "forged"}, headers=headers)
        assert answer.status_code == 403
        assert answer.json()["code"] == "foreign_request"
        assert browser.http.post("/sign-in", content=f"key={house.key}", headers=headers).status_code == 403
    assert "forged" not in str(house.ok("GET", "/v1/projects"))


def test_a_form_needs_the_token_of_its_session(house: House, url: str):
    with Browser(url, house.key) as browser, Browser(url, house.key) as other:
        assert browser.post("/admin/projects", name="forged", form_token="").status_code == 403
        assert browser.post("/admin/projects", name="forged", form_token=other.token).status_code == 403
        own = {"Origin": url}
        assert browser.http.post("/v1/projects", json={"name": "forged"}, headers=own).status_code == 403
        told = {**own, "X-Headframe-Form": browser.token}
        assert browser.http.post("/v1/projects", json={"name": "by-a-page"}, headers=told).status_code == 201
        assert browser.http.get("/v1/whoami").status_code == 200, "reading needs none"


def test_pages_load_nothing_but_our_own_and_stand_in_no_frame(house: House, url: str):
    with Browser(url, house.key) as browser:
        for path in ("/sign-in", "/home", "/account", "/admin/keys", "/jobs/job_none"):
            answer = browser.get(path)
            policy = answer.headers["content-security-policy"]
            assert policy == page.CSP
            assert answer.headers.get_list("content-security-policy") == [policy]
            for part in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'self'"):
                assert part in policy
            assert "unsafe-inline" not in policy.replace("style-src-attr 'unsafe-inline'", "")
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|<style|javascript:", answer.text), path
            assert not re.search(r"""(?:src|href|action)=["'](?:https?:)?//""", answer.text), path
        assert browser.get("/v1/whoami").headers["content-security-policy"].startswith("default-src 'none'")


def test_sessions_end_by_themselves(tmp_path: Path):
    with open_house(tmp_path) as house:
        url = str(house.http.base_url)
        with Browser(url, house.key) as browser:
            house.clock.ahead_us += 11 * HOUR_US
            assert browser.get("/home").status_code == 200
            house.clock.ahead_us += 11 * HOUR_US
            assert browser.get("/home").status_code == 200, "it was used meanwhile"
            house.clock.ahead_us += 13 * HOUR_US
            assert browser.get("/home").status_code == 303, "idle for too long"
        with Browser(url, house.key) as browser:
            for _ in range(29):
                assert browser.get("/home").status_code == 200
                house.clock.ahead_us += DAY_US // 2 - HOUR_US
            house.clock.ahead_us += DAY_US
            assert browser.get("/home").status_code == 303, "too old, however busy"


def test_a_role_that_changes_changes_the_page(house: House, url: str):
    organization = house.organization("granary")["id"]
    owner = house.member(organization, "owner")
    key = house.member(organization, "admin", "anna")
    member = house.ok("GET", "/v1/whoami", key)["member"]["id"]
    with Browser(url, key) as browser:
        assert "New project" in text_of(browser.page("/admin/projects"))
        house.ok("PATCH", f"/v1/members/{member}", owner, json={"role": "viewer"})
        assert "New project" not in text_of(browser.page("/admin/projects"))
        assert browser.post("/admin/projects", name="late").status_code == 403
        house.ok("PATCH", f"/v1/members/{member}", owner, json={"disabled": True})
        assert browser.get("/home").status_code == 303


def test_the_way_back_never_leaves_the_console():
    for path in ("https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "", "/a\n/b"):
        assert own_path(path) == "/home"
    assert own_path("/jobs?sort=failed") == "/jobs?sort=failed"


def test_static_files_are_kept_for_ever_and_named_by_their_contents(url: str):
    with httpx.Client(base_url=url, trust_env=False) as http:
        address = assets.address("shell.js")
        answer = http.get(address)
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        assert answer.headers["content-encoding"] == "gzip"
        assert http.get(address, headers={"Accept-Encoding": "identity"}).text == answer.text
        old = http.get("/static/000000000000/shell.js")
        assert old.headers["cache-control"] == "no-store", "another version's address is answered, not to be kept"
        for path in ("/static/x/../page.py", "/static/x/%2e%2e/page.py", "/static/x/none.js"):
            assert http.get(path).status_code == 404


def test_what_is_not_there_is_a_page_for_a_browser_and_a_problem_for_a_program(url: str):
    with httpx.Client(base_url=url, trust_env=False) as http:
        page = http.get("/nosuch/%3Cscript%3E", headers={"Accept": "text/html,*/*"})
        assert (page.status_code, page.headers["content-type"][:9]) == (404, "text/html")
        assert "/nosuch/&lt;script&gt;" in page.text
        for path, accept in (("/nosuch", "*/*"), ("/v1/nosuch", "text/html")):
            assert http.get(path, headers={"Accept": accept}).json()["code"] == "not_found"


def test_every_page_asks_who_is_there(url: str):
    """Whatever a page is called: without a session it shows the way in, and its forms do nothing."""
    public = {"/", "/sign-in", "/static/{total}/{name:path}"}
    with httpx.Client(base_url=url, trust_env=False) as http:
        for subject in SUBJECTS:
            for route in subject.router.routes:
                path, methods = route.path, route.methods  # type: ignore[attr-defined]
                if path in public:
                    continue
                where = re.sub(r"\{[^}]*\}", "x", path)
                for method in methods - {"HEAD"}:
                    answer = http.request(method, where, headers={"Origin": url})
                    assert answer.status_code in (303, 403), (method, path, answer.status_code)
                    if answer.status_code == 303:
                        assert answer.headers["location"].startswith("/sign-in"), (method, path)
