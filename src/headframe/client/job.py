"""Job documents of the SDK: where they come from, checked before anything is sent, and the body of a submission."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headframe.base.errors import HeadframeError, Invalid, InvalidSpec

_PLACEHOLDER = "sha256:" + "0" * 64


@dataclass(frozen=True, slots=True)
class Source:
    """A job document, the line of each of its fields, and the folder that its paths are relative to.

    `name` is the file's name for errors; `chosen` says that the caller named the folder in `files` himself.
    """

    document: dict[str, Any]
    lines: Mapping[str, int]
    base: Path
    name: str = ""
    chosen: bool = False

    @staticmethod
    def of(job: Source | Mapping[str, Any] | str | Path) -> Source:
        """A document as it is, or the job file at a path ("-" is standard input)."""
        if isinstance(job, Source):
            return job
        if isinstance(job, Mapping):
            return Source(dict(job), {}, Path.cwd())
        from headframe.workloads import jobfile

        path = Path(job)
        text = sys.stdin.read() if str(job) == "-" else _text(path)
        try:
            document, lines = jobfile.read(text)
        except InvalidSpec as error:
            error.details["file"] = str(path)
            raise
        base = Path.cwd() if str(job) == "-" else path.resolve().parent
        return Source(document, lines, base, str(path))

    def with_files(self, folder: str | Path | None) -> Source:
        """The same job with another folder (relative to the current one) as its files."""
        if folder is None:
            return self
        document = {**self.document, "files": str(folder)}
        return Source(document, self.lines, Path.cwd(), self.name, chosen=True)

    def check(self, env: Mapping[str, str]) -> None:
        """Raise `InvalidSpec` with file and line when the job is wrong in itself; a folder as `files` is let pass."""
        from headframe.workloads import jobfile

        shown = dict(self.document)
        folder = shown.get("files")
        if isinstance(folder, str) and folder.strip() and "\0" not in folder:
            shown["files"] = _PLACEHOLDER if self.folder() is not None else folder
        try:
            jobfile.parse(shown, env=env, lines=self.lines)
        except InvalidSpec as error:
            if self.name:
                error.details["file"] = self.name
            raise

    @contextmanager
    def told(self) -> Iterator[None]:
        """What the server finds wrong with a field is told with file and line, as is what is found here."""
        try:
            yield
        except HeadframeError as error:
            place = str(error.details.get("field", ""))
            if self.name and place:
                error.details.setdefault("file", self.name)
                while place and place not in self.lines:
                    place = place.rpartition(".")[0]
                if place:
                    error.details.setdefault("line", self.lines[place])
            raise

    def folder(self) -> Path | None:
        """The folder to upload, if there is one. What a job file names lies in its own folder or in the current one."""
        folder = self.document.get("files")
        if not isinstance(folder, str) or folder.startswith("sha256:"):
            return None
        place = (self.base / folder).resolve()
        if self.chosen or place.is_relative_to(self.base.resolve()) or place.is_relative_to(Path.cwd()):
            return place
        raise InvalidSpec(
            f"files is {folder!r}, which leads out of the job file's folder.",
            field="files", value=folder, allowed="a folder in it or in the current folder",
            line=self.lines.get("files"),
            next_step="Allowed: a folder in it or in the current folder; --files uploads any other.",
        )  # fmt: skip

    def body(self, project: str | None, env: Mapping[str, str], files: str | None) -> dict[str, Any]:
        """The body of a submission or plan; `files` is the uploaded hash that stands for the folder."""
        spec = {name: value for name, value in self.document.items() if name != "project"}
        if files is not None:
            spec["files"] = files
        elif self.folder() is not None:
            spec.pop("files")
        return {"spec": spec, "project": project or self.document.get("project"), "env": dict(env)}


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        why = "does not exist"
    except PermissionError:
        why = "may not be read"
    except (OSError, UnicodeDecodeError):
        why = "is not a text file"
    raise Invalid(
        f"The job file {path} {why}.", field="file", value=str(path), next_step="Name a job file such as job.yaml."
    )
