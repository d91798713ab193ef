"""The description of the API, and the routes for machines."""

from __future__ import annotations

import re

from house import House

from headframe.api.app import all_routes


def test_every_route_is_described(house: House):
    document = house.call("GET", "/openapi.json", "").json()
    described = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }  # fmt: skip
    assert described == {(method, re.sub(r":\w+}", "}", path)) for method, path in all_routes()}
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], path
            assert operation["description"], path
            assert "4XX" in operation["responses"], path
            assert operation["security"] == ([{"key": []}] if path.startswith("/v1/") else []), path
            headers = {each["name"] for each in operation.get("parameters", []) if each["in"] == "header"}
            if method == "post":
                assert "Idempotency-Key" in headers, path
    ids = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids))


def test_nothing_secret_is_described(house: House):
    text = house.call("GET", "/openapi.json", "").text
    assert "secret_sha256" not in text
    assert "sealed" not in text


def test_there_are_no_pages_about_the_api(house: House):
    for path in ("/docs", "/redoc"):
        assert house.call("GET", path, "").status_code == 404


def test_figures(house: House):
    house.submit()
    text = house.call("GET", "/metrics", "").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values["headframe_gpus_total"]) == 8
    assert float(values["headframe_memory_bytes"]) > 1 << 20
    assert float(values["headframe_ticks_total"]) > 0
    assert any(name.startswith('headframe_http_requests_total{method="POST"') for name in values)
    assert any(name.startswith('headframe_jobs{state="') for name in values)


def test_ready_and_alive(house: House):
    assert house.ok("GET", "/healthz", "") == {"status": "ok", "role": "decides"}
    assert house.ok("GET", "/readyz", "") == {"status": "ok", "role": "decides"}
