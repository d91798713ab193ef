"""Keys: made, read, checked; nothing about them can be learnt from how long an answer takes."""

from __future__ import annotations

import hmac
from dataclasses import replace

import pytest

from headframe.base.errors import Invalid
from headframe.tenants import keys
from headframe.tenants.keys import is_key, is_live, key_text, read_key, secret_hash
from headframe.tenants.names import label, secret_name, slug
from headframe.tenants.records import Key

SECRET = "s3cret-with_all-kinds_of_characters"
KEY = Key("key_0123456789abcdef", "org_1", "mem_1", "laptop", secret_hash(SECRET), 1)


def test_a_key_is_read_back_as_it_was_made():
    text = key_text(KEY.id, SECRET)
    assert text == f"hf_0123456789abcdef_{SECRET}"
    assert read_key(text) == (KEY.id, SECRET)
    assert is_key(KEY, SECRET)
    assert SECRET not in repr(KEY)


@pytest.mark.parametrize(
    "text",
    ["", "hf_", "hf__", "hf_0123456789abcdef_short", "hf_0123456789abcdef", "HF_0123456789abcdef_" + SECRET,
     "hf_0123456789abcdef_" + SECRET + "\n", "hf_0123456789abcde!_" + SECRET, "hf_0123456789abcdef_" + "x" * 200,
     "hf_0123456789abcdef_" + SECRET + "\0", "\ud800", "hf_\u0660\u06611234567890abcd_" + SECRET],
)  # fmt: skip
def test_what_is_not_a_key_is_not_read(text):
    assert read_key(text) is None


def test_a_wrong_secret_and_an_unknown_key_cost_the_same(monkeypatch):
    compared = []

    def compare(one, other):
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(keys, "compare_digest", compare)
    assert not is_key(KEY, SECRET + "x")
    assert not is_key(None, SECRET)
    assert not is_key(None, "")
    assert len(set(compared)) == 1, "each compares two hashes of one length"


def test_a_key_lives_until_it_expires_or_is_revoked():
    assert is_live(KEY, 10**18)
    assert is_live(replace(KEY, expires_us=100), 99)
    assert not is_live(replace(KEY, expires_us=100), 100)
    assert not is_live(replace(KEY, revoked_us=5), 4)


@pytest.mark.parametrize("text", ["a", "team-1", "0", "a" * 63])
def test_names_that_are_allowed(text):
    assert slug(text, field="name") == text


@pytest.mark.parametrize("text", ["", "-a", "a-", "A", "a_b", "a b", "a/b", "..", "a\n", "a" * 64, "é", "\ud800"])
def test_names_that_are_not(text):
    with pytest.raises(Invalid) as caught:
        slug(text, field="name")
    assert caught.value.field == "name"
    assert caught.value.allowed


def test_labels_and_secret_names():
    assert label(" Ada <ada@example.org> ", field="name") == "Ada <ada@example.org>"
    assert secret_name("hf-token", field="name") == "hf-token"
    for text in ("", " ", "a\nb", "a\0", "x" * 201):
        with pytest.raises(Invalid):
            label(text, field="name")
    for text in ("", "1a", "-a", "a.b", "a b", "A" * 64, "LD=1"):
        with pytest.raises(Invalid):
            secret_name(text, field="name")
