from __future__ import annotations

from browsing import Browser, text_of
from house import House


def test_a_key_signs_in_and_out(house: House) -> None:
    url = str(house.http.base_url)
    with Browser(url) as browser:
        assert browser.get("/").headers["location"] == "/sign-in"
        assert browser.get("/home").headers["location"] == "/sign-in?next=%2Fhome"
        assert "API key" in text_of(browser.page("/sign-in"))
    with Browser(url, house.key) as browser:
        assert browser.get("/").headers["location"] == "/home"
        assert "Home" in text_of(browser.page("/home"))
        assert "this browser" in text_of(browser.page("/account"))
