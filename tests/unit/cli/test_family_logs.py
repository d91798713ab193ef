"""The logs of an array's jobs as one: by time when they are read, as they come when they are followed."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from headframe.base.errors import NotFound
from headframe.client import Client
from headframe.client.family import AT_ONCE, family_logs

CHILDREN = 2 * AT_ONCE + 3


def piece(index: int, number: int) -> dict[str, Any]:
    """The `number`-th piece of a job; those of all jobs take turns."""
    return {
        "offset": number, "next": number + 1, "at_us": 100 * number + index, "attempt": 1, "rank": 0,
        "stream": "stdout", "text": f"{index}.{number}\n",
    }  # fmt: skip


def cloud(*, gone: str = "") -> Client:
    """A pretended server with an array of jobs of two pieces each."""
    jobs = [{"id": f"job_{n:03d}", "name": f"a-{n}", "array_index": n} for n in range(CHILDREN)]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/jobs":
            assert request.url.params["parent"] == "job_p"
            return httpx.Response(200, json={"items": jobs[::-1], "next": None})
        name = request.url.path.split("/")[3]
        if name == gone:
            return httpx.Response(404, json={"code": "not_found", "detail": "gone"})
        if request.url.path.endswith("/follow"):
            return httpx.Response(200, content=b"id: 2\nevent: end\ndata: {}\n\n")
        offset = int(request.url.params["offset"])
        pieces = [piece(int(name[4:]), number) for number in range(offset, 2)]
        return httpx.Response(200, json={"pieces": pieces, "next": 2, "ended": not pieces})

    return Client("http://cloud.test", "hf_k_s", transport=httpx.MockTransport(answer))


def test_logs_are_merged_by_time_and_know_their_index() -> None:
    found = list(family_logs(cloud(), "job_p"))
    assert [one["text"] for one in found] == [f"{n}.{k}\n" for k in range(2) for n in range(CHILDREN)]
    assert {(one["index"], one["job"]) for one in found} == {(n, f"job_{n:03d}") for n in range(CHILDREN)}


def test_more_logs_than_are_followed_at_once_all_come_whole() -> None:
    found = list(family_logs(cloud(), "job_p", follow=True))
    for index in range(CHILDREN):
        assert [one["text"] for one in found if one["index"] == index] == [f"{index}.0\n", f"{index}.1\n"]


def test_an_error_of_one_is_told() -> None:
    with pytest.raises(NotFound):
        list(family_logs(cloud(gone="job_005"), "job_p", follow=True))
