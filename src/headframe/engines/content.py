"""An open file as an iterator of pieces, closed when it ends or is let go of."""

from __future__ import annotations

import os

from headframe.base.errors import StoreFailed

_PIECE_BYTES = 1 << 20


class Content:
    """The bytes of a file as large as it was when opened: what is appended meanwhile is left out."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self.size = os.fstat(handle).st_size
        self._left = self.size

    def __iter__(self) -> Content:
        return self

    def __next__(self) -> bytes:
        if self._left == 0 or self._handle < 0:
            self.close()
            raise StopIteration
        try:
            piece = os.read(self._handle, min(_PIECE_BYTES, self._left))
        except OSError as error:
            self.close()
            raise StoreFailed(
                f"A file cannot be read on: {error.strerror}.", next_step="Check the machine's disk."
            ) from error
        if not piece:
            self.close()
            raise StoreFailed("A file became shorter while it was read.", next_step="Read it again.")
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __del__(self) -> None:
        self.close()
