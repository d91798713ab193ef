"""The sum over all tasks of a gang (an all-reduce), with nothing but sockets: rank 0 gathers, adds and answers."""

import os
import socket
import time

RANK, WORLD_SIZE = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
MASTER = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
PATIENCE_S = 60


def all_reduce(value: int) -> int:
    """The sum of the values of all tasks, the same in each of them."""
    if RANK == 0:
        with socket.create_server(MASTER, reuse_port=True) as meeting:
            meeting.settimeout(PATIENCE_S)
            others = [meeting.accept()[0] for _ in range(WORLD_SIZE - 1)]
            total = value + sum(int(other.makefile().readline()) for other in others)
            for other in others:
                other.sendall(f"{total}\n".encode())
                other.close()
            return total
    with meet() as wire:
        wire.sendall(f"{value}\n".encode())
        return int(wire.makefile().readline())


def meet() -> socket.socket:
    """A connection to rank 0, which may not listen yet."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return socket.create_connection(MASTER, timeout=PATIENCE_S)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


total = all_reduce(RANK + 1)
print(f"rank {RANK} of {WORLD_SIZE}: the sum of 1 to {WORLD_SIZE} is {total}")
assert total == WORLD_SIZE * (WORLD_SIZE + 1) // 2
