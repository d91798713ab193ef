"""Seals secrets with a key that lies beside the store, in `vault.key`, readable by nobody but us."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from headframe.base.errors import StoreFailed


class Vault:
    """Implements `control.ports.Vault`. The key is made the first time, at once and whole: two that begin agree."""

    def __init__(self, data: Path) -> None:
        self._path = data / "vault.key"
        try:
            self._cipher = Fernet(self._key())
        except OSError as error:
            raise StoreFailed(
                f"The key of the secrets, {self._path}, cannot be used: {error.strerror or error}.",
                next_step="Make room on the disk, or check who may read and write there.",
            ) from error
        except ValueError as error:
            raise StoreFailed(
                f"The key of the secrets, {self._path}, is damaged.",
                next_step="Put it back from a backup; without it the stored secrets are lost.",
            ) from error

    def seal(self, text: str) -> str:
        return self._cipher.encrypt(text.encode()).decode()

    def unseal(self, sealed: str) -> str:
        """Raises `StoreFailed` when it was not sealed with this key, or was altered since."""
        try:
            return self._cipher.decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise StoreFailed(
                "A stored secret cannot be opened: it was altered, or sealed with another key.",
                next_step=f"Put {self._path} back from the backup that belongs to the store, or set the secret anew.",
            ) from error

    def _key(self) -> bytes:
        try:
            return self._read()
        except FileNotFoundError:
            pass
        handle, fresh = tempfile.mkstemp(prefix=".vault.", dir=self._path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(Fernet.generate_key())
                file.flush()
                os.fsync(file.fileno())
            # A link, unlike a rename, never replaces the key that another one has just put there.
            os.link(fresh, self._path)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(folder)
            os.close(folder)
        except FileExistsError:
            pass
        finally:
            os.unlink(fresh)
        return self._read()

    def _read(self) -> bytes:
        with open(self._path, "rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise StoreFailed(
                    f"{self._path} may be read by others.",
                    next_step=f"Run: chmod 600 {self._path}. If others use this machine, set the secrets anew.",
                )
            return file.read().strip()
