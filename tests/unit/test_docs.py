"""What the documents show is what there is: commands and their options, links, job files, Python."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from headframe.cli.main import root
from headframe.workloads import jobfile

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/guides/*.md"), *ROOT.glob("docs/decisions/*.md"),
     *ROOT.glob("examples/*.md")]
)  # fmt: skip
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def _fences(page: Path, *kinds: str) -> Iterator[str]:
    for kind, text in _FENCE.findall(page.read_text("utf-8")):
        if kind in kinds:
            yield text


def _typed(text: str) -> Iterator[str]:
    """The commands of a console or shell block, without prompts and with continued lines joined."""
    prompted = "\n$ " in f"\n{text}"
    for line in text.replace("\\\n", " ").splitlines():
        if prompted and not line.startswith("$ "):
            continue
        yield line.removeprefix("$ ")


def _commands(page: Path) -> Iterator[str]:
    """Every `headframe ...` that a reader is told to type."""
    for block in _fences(page, "console", "sh"):
        for line in _typed(block):
            plain = re.sub(r"'[^']*'|\"[^\"]*\"", _without_operators, line)
            for part in re.split(r"\s(?:&&|\|\||\||;)\s|\$\(", plain):
                if part.strip().startswith("headframe "):
                    yield part.strip().partition(" #")[0].rstrip(")")


def _without_operators(quoted: re.Match[str]) -> str:
    return re.sub(r"[|;&$()#]", "_", quoted.group())


def _check(line: str) -> None:
    """Parse a command line with the command's own parser, without running it."""
    words = [word for word in shlex.split(line.partition(" > ")[0].partition(" < ")[0])[1:] if word != "&"]
    _parse(root, words, None)


def _parse(command: click.Command, words: list[str], parent: click.Context | None) -> None:
    context = command.make_context(command.name or "headframe", list(words), parent=parent)
    try:
        if isinstance(command, click.Group):
            _, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            assert found is not None
            _parse(found, rest, context)
    finally:
        context.close()  # and the files that an option opened


COMMANDS = [(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in _commands(page)]


def test_the_pages_show_commands() -> None:
    shown = {page for page, _ in COMMANDS}
    assert {"README.md", "docs/tutorial.md", "docs/guides/operators.md", "docs/guides/finance.md"} <= shown


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_command_exists_with_its_options(
    page: str, line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ada.key", "key.txt"):  # files that the reader has made by then
        (tmp_path / name).write_text("hf_a_b\n")
    (tmp_path / "wiki").mkdir()
    _check(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text("utf-8"))
    for target in _LINK.findall(text):
        if "://" in target or target.startswith(("#", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        place = page.parent / path
        assert place.exists(), f"{target} is not there"
        if anchor:
            heads = re.findall(r"^#+ (.*)$", place.read_text("utf-8"), re.MULTILINE)
            names = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in names, f"{target} has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_job_file_is_one_and_every_python_compiles(page: Path) -> None:
    for text in _fences(page, "yaml"):
        document, lines = jobfile.read(text)
        missing = {name: "x" for name, value in (document.get("env") or {}).items() if value is None}
        if "files" in document:
            document["files"] = "sha256:" + "0" * 64
        jobfile.parse(document, env=missing, lines=lines)
    for number, text in enumerate(_fences(page, "python")):
        compile(text, f"{page.name}:{number}", "exec")
