"""The Python SDK: `Client` calls a Headframe server as the command line does.

    from headframe.client import Client

    with Client() as cloud:
        job = cloud.submit({"run": "python train.py", "files": ".", "resources": {"gpu": "H100:8"}})
        for piece in cloud.logs(job["id"], follow=True):
            print(piece["text"], end="")
        print(cloud.wait(job["id"])["state"])

Answers are plain dicts with the fields of the HTTP API; errors are the classes of `headframe.base.errors`. Whatever is
called again after a lost connection is carried out once.

Owns: requests, their repeats after a lost connection, uploads and downloads, where an address and a key are kept.
Does not own: what a command prints (cli), any rule of the cloud.
Invariants: importing it loads no HTTP library; a repeated call carries the key of the first.
To add a group of calls: a file beside these, and a base of `Client`.
"""

from headframe.client.client import ENDED, Client, Job, Source, Unreachable

__all__ = ["ENDED", "Client", "Job", "Source", "Unreachable"]
