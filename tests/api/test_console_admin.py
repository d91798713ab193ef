"""Admin pages: what they show to whom, and that their forms do what the API's commands do, no more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browsing import Browser, text_of
from house import House

PAGES = ("organizations", "projects", "members", "keys", "quotas", "prices", "clusters", "sessions", "audit")
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def operator(house: House) -> Iterator[Browser]:
    with Browser(str(house.http.base_url), house.key) as browser:
        yield browser


@pytest.fixture(scope="module")
def owner(house: House) -> str:
    return house.member(house.organization("mill")["id"], "owner", "olga")


@pytest.fixture(scope="module")
def customer(house: House, owner: str) -> Iterator[Browser]:
    with Browser(str(house.http.base_url), owner) as browser:
        yield browser


def test_every_page_is_there_for_the_operator(operator: Browser):
    assert operator.get("/admin").headers["location"] == "/admin/organizations"
    for name in PAGES:
        tree = operator.page(f"/admin/{name}")
        assert len(tree.xpath("//h1")) == 1
        assert tree.xpath("//nav[@class='subnav']/a[@aria-current='page']")[0].get("href") == f"/admin/{name}"


def test_a_customer_sees_its_own_only(house: House, customer: Browser, operator: Browser):
    house.organization("rival")
    assert customer.get("/admin").headers["location"] == "/admin/projects"
    for name in PAGES:
        assert "rival" not in text_of(customer.page(f"/admin/{name}"))
    assert customer.get("/admin/members?organization=rival").status_code == 404
    assert "rival" in text_of(operator.page("/admin/organizations"))
    assert customer.post("/admin/organizations", name="second").status_code == 403


def test_projects_members_and_quotas_are_made(house: House, owner: str, customer: Browser):
    assert customer.post("/admin/projects", name="Bad Name").status_code == 422
    assert customer.post("/admin/projects", name="rye").status_code == 303
    answer = customer.post("/admin/projects", name="rye")
    assert answer.status_code == 409
    assert "There is a project &#39;rye&#39; already." in answer.text
    assert 'value="rye"' in answer.text, "what was typed is still there"
    assert "The project rye was made." not in text_of(customer.page("/admin/projects"))
    project = next(one for one in house.ok("GET", "/v1/projects", owner)["items"] if one["name"] == "rye")
    customer.post(f"/admin/projects/{project['id']}/archive", archived="yes")
    assert "The project rye is archived." in text_of(customer.page("/admin/projects"))

    assert customer.post("/admin/members", name="max", role="viewer").status_code == 303
    member = next(one for one in house.ok("GET", "/v1/members", owner)["items"] if one["name"] == "max")
    assert customer.post(f"/admin/members/{member['id']}", role="admin").status_code == 303
    assert customer.post(f"/admin/members/{member['id']}", disabled="yes").status_code == 303
    assert "max is admin, shut out." in text_of(customer.page("/admin/members"))

    fields = {"scope": f"member {member['id']}", "gpu_milli": "1.5", "memory_mib": "2GB", "jobs": "7"}
    assert customer.post("/admin/quotas", **fields).status_code == 303
    assert "0 of 1.5" in text_of(customer.page("/admin/quotas"))
    assert customer.post("/admin/quotas", **{**fields, "gpu_milli": "many"}).status_code == 422


def test_a_key_is_shown_once_and_ends_with_its_sessions(house: House, owner: str, customer: Browser):
    answer = customer.post("/admin/keys", name=HOSTILE, lives="30d")
    assert answer.status_code == 200
    assert HOSTILE not in answer.text
    key = next(word for word in answer.text.split('"') if word.startswith("hf_") and len(word) > 40)
    assert key not in customer.get("/admin/keys").text
    assert house.ok("GET", "/v1/whoami", key)["member"]["name"] == "olga"
    with Browser(str(house.http.base_url), key) as other:
        assert "Projects" in text_of(other.page("/admin/projects"))
        made = house.ok("GET", "/v1/whoami", key)["key"]["id"]
        assert customer.post(f"/admin/keys/{made}/revoke").status_code == 303
        assert other.get("/admin/projects").status_code == 303, "its session is over"


def test_viewers_change_nothing(house: House, owner: str):
    home = house.ok("GET", "/v1/whoami", owner)["organization"]["id"]
    with Browser(str(house.http.base_url), house.member(home, "viewer")) as viewer:
        for name in PAGES[1:]:
            assert not viewer.page(f"/admin/{name}").xpath("//main//form[@method='post']"), name
        for path in ("projects", "members", "keys", "quotas", "prices"):
            answer = viewer.post(f"/admin/{path}", name="x", role="viewer", scope=f"organization {home}")
            assert answer.status_code in (403, 404), path


def test_prices_have_versions_that_say_what_changed(operator: Browser):
    assert operator.post("/admin/prices", meter="gpu:H100", amount="2 USD", unit="").status_code == 303
    assert operator.post("/admin/prices", meter="gpu:H100", amount="3 USD", unit="").status_code == 303
    told = text_of(operator.page("/admin/prices"))
    assert "2.00 USD 3.00 USD +50.0 %" in told
    answer = operator.post("/admin/prices", meter="gpu:H100", amount="lots")
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in answer.text


def test_the_audit_log_says_who_did_what(operator: Browser, customer: Browser):
    told = text_of(customer.page("/admin/audit?kind=member_changed"))
    assert "max is admin" in told
    assert "olga" in told
    assert "Nothing on record fits" in text_of(customer.page("/admin/audit?kind=nothing"))
    assert "signed in" in text_of(operator.page("/admin/audit?kind=signed_in"))


def test_browsers_are_listed_and_sent_away(house: House, owner: str, customer: Browser):
    with Browser(str(house.http.base_url), owner) as other:
        answer = house.ok("GET", "/v1/sessions", owner)["items"]
        newest = max(one["id"] for one in answer)
        assert all("secret_sha256" not in one for one in answer)
        assert customer.post(f"/admin/sessions/{newest}/end").status_code == 303
        assert other.get("/home").headers["location"].startswith("/sign-in")


def test_a_cluster_is_declared_lost_by_its_name_and_not_while_it_answers(operator: Browser, customer: Browser):
    (cluster,) = operator.page("/admin/clusters").xpath("//tbody/tr/td[1]/strong/text()")
    address = f"/admin/clusters/{cluster}/lost"
    assert "This cannot be undone." in text_of(operator.page(address))
    answer = operator.post(address, confirm="other", reason="sold")
    assert answer.status_code == 422
    assert 'value="sold"' in answer.text, "what was typed is still there"
    answer = operator.post(address, confirm=cluster, reason="sold")
    assert (answer.status_code, "answers" in answer.text) == (409, True)
    assert customer.get(address).status_code == 403
    assert customer.post(address, confirm=cluster, reason="sold").status_code == 403
