"""Manifests: what they sum up to, and what is refused."""

from __future__ import annotations

import json

import pytest

from headframe.base.errors import Invalid
from headframe.workloads.manifest import content_hash, read_manifest

A, B = "a" * 64, "b" * 64


def _manifest(*entries):
    return json.dumps({"files": entries}).encode()


def _file(path, sha256=A, size=3, mode=0o644):
    return {"path": path, "sha256": sha256, "size": size, "mode": mode}


def test_a_manifest_is_summed_up():
    found = read_manifest(_manifest(_file("a", B), _file("b/c", A), _file("b/d", A), {"path": "x", "link": "b/c"}))
    assert found.hashes == (A, B)
    assert (found.files, found.size_bytes) == (4, 9)
    assert read_manifest(_manifest()).files == 0


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{}", b'{"files":{}}', b'{"files":[1]}', b"\xff", b"[" * 100_000,
        _manifest(_file("../a")), _manifest(_file("/a")), _manifest(_file("a//b")), _manifest(_file("a/./b")),
        _manifest(_file("")), _manifest(_file("a\0")), _manifest(_file("b"), _file("a")),
        _manifest(_file("a"), _file("a")), _manifest(_file("a", "A" * 64)), _manifest(_file("a", size=-1)),
        _manifest(_file("a", size=1.5)), _manifest(_file("a", size=True)), _manifest(_file("a", size=1 << 60)),
        _manifest(_file("a", mode=0o4755)), _manifest({**_file("a"), "owner": 0}),
        _manifest({"path": "a", "link": "/etc/passwd"}), _manifest({"path": "a", "link": "../x"}),
        _manifest({"path": "a/b", "link": "../../x"}), _manifest({"path": "a", "link": ""}),
        _manifest({"path": "a", "link": 5}),
    ],
)  # fmt: skip
def test_a_manifest_that_cannot_be_used_is_refused(content):
    with pytest.raises(Invalid, match="manifest cannot be used"):
        read_manifest(content)


def test_content_hashes():
    assert content_hash(f"sha256:{A}", field="manifest") == A
    assert content_hash(A, field="manifest") == A
    for text in ("", "sha256:", A[:-1], A + "a", A.upper(), f"md5:{A}", A + "\n"):
        with pytest.raises(Invalid):
            content_hash(text, field="manifest")
