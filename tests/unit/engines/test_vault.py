"""Secrets are sealed so that neither a look nor a change goes unnoticed."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from headframe.base.errors import StoreFailed
from headframe.engines.vault import Vault


def test_sealed_text_comes_back_after_a_restart(tmp_path: Path) -> None:
    sealed = Vault(tmp_path).seal("hunter2\n√")
    assert "hunter2" not in sealed
    assert Vault(tmp_path).unseal(sealed) == "hunter2\n√"
    assert (tmp_path / "vault.key").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["vault.key"]


@pytest.mark.parametrize("place", [0, 12, 40, -3])
def test_a_changed_secret_is_noticed(tmp_path: Path, place: int) -> None:
    vault = Vault(tmp_path)
    sealed = vault.seal("x" * 40)
    letters = list(sealed)
    letters[place] = "A" if letters[place] != "A" else "B"
    with pytest.raises(StoreFailed, match="altered"):
        vault.unseal("".join(letters))


def test_another_key_does_not_open_it(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(StoreFailed):
        Vault(tmp_path / "other").unseal(Vault(tmp_path).seal("x"))


def test_two_that_begin_at_once_agree_on_the_key(tmp_path: Path) -> None:
    vaults: list[Vault] = []
    threads = [threading.Thread(target=lambda: vaults.append(Vault(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sealed = vaults[0].seal("x")
    assert [vault.unseal(sealed) for vault in vaults] == ["x"] * 8


def test_a_key_that_others_may_read_or_that_is_damaged_is_refused(tmp_path: Path) -> None:
    Vault(tmp_path)
    key = tmp_path / "vault.key"
    key.chmod(0o644)
    with pytest.raises(StoreFailed, match="read by others"):
        Vault(tmp_path)
    key.chmod(0o600)
    key.write_bytes(key.read_bytes()[:10])
    with pytest.raises(StoreFailed, match="damaged"):
        Vault(tmp_path)
