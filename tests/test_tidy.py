"""The rules of the house, held against the source."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from headframe.base import errors
from headframe.settings import Settings, meanings

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "headframe"
SOURCES = sorted(PACKAGE.rglob("*.py"))
FILE_LINES, FUNCTION_LINES = 500, 70

# Time, chance and identity are handed in. Where they come from is declared here, file by file.
BANNED = re.compile(
    r"time\.(time|time_ns|localtime|gmtime)|(datetime\.)?(datetime|date)\.(now|utcnow|today)|uuid\..+|random\..+|secrets\..+"
    r"|os\.urandom|(numpy|np)\.random\..+"
)
EDGES = {
    "compose.py": {"time.time_ns", "secrets.randbits", "secrets.token_urlsafe"},  # the clock and the identities
    "engines/agent_state.py": {"time.time_ns"},  # the agent stamps what it sees with the machine's time
    "report.py": {"time.time_ns"},  # a job stamps what it reports
    "cli/printing.py": {"time.time_ns", "time.localtime"},  # how long ago something was, and in whose time zone
    "client/wire.py": {"secrets.token_hex"},  # the key by which a repeat is known
    "engines/slurm.py": {"secrets.token_hex"},  # the word by which leaders are known, and a cloud's jobs in a queue
    "engines/slurm_prepare.py": {"secrets.token_bytes", "secrets.token_hex"},  # the half of a job's secrets
    "cli/throwaway_slurm.py": {"os.urandom"},  # the keys of a Slurm that is thrown away
}
# Who may speak on standard output or error, besides cli/ and sim/.
SPEAKERS = {"compose.py", "serving.py", "engines/agent.py", "engines/agent_spawn.py", "report.py"}
MONEY = ("base/money.py", "pricing/", "ledger/", "metering/")
AVOID = re.compile(r"manager|handler|helper|util|common|service|(^|_)data($|_)|(^|_)info($|_)", re.IGNORECASE)
# Words of others that cannot be called otherwise: (file, name).
LOANS: set[tuple[str, str]] = set()
# Where this checkout lies, and registries that are not everybody's: neither belongs into a file of the project.
FOREIGN = re.compile(
    rf"{re.escape(str(ROOT))}\b|files\.pythonhosted\.org/|https?://(?!pypi\.org)[\w.-]*(artifactory|nexus|jfrog)"
)


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an expression that is one, else ""."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        front = dotted(node.value)
        return f"{front}.{node.attr}" if front else ""
    return ""


def imported(module: ast.Module) -> dict[str, str]:
    """Local name -> what it stands for, for everything that is imported."""
    names = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for one in node.names:
                local = one.asname or one.name.split(".")[0]
                names[local] = one.name if one.asname else local
        elif isinstance(node, ast.ImportFrom) and node.module:
            for one in node.names:
                names[one.asname or one.name] = f"{node.module}.{one.name}"
    return names


def mentioned(path: Path) -> Iterator[tuple[int, str]]:
    """(line, full name) of everything that is used by a dotted name, or imported by one."""
    module = tree(path)
    names = imported(module)
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.lineno, f"{node.module}.{one.name}") for one in node.names)
        elif isinstance(node, ast.Attribute):
            first, _, rest = dotted(node).partition(".")
            if first in names and rest:
                yield node.lineno, f"{names[first]}.{rest}"


def constant(node: ast.expr) -> bool:
    """Whether a text is put together from nothing but constants of the module."""
    parts = [part for part in ast.walk(node) if isinstance(part, ast.Name | ast.Attribute | ast.Call)]
    return all(isinstance(part, ast.Name) and part.id.isupper() for part in parts)


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_files_are_short() -> None:
    long = {name_of(path): count for path in SOURCES if (count := len(path.read_text().splitlines())) > FILE_LINES}
    assert not long


def test_functions_are_short() -> None:
    long = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES
    ]
    assert not long


def test_every_folder_says_what_it_owns_and_every_file_what_it_is() -> None:
    for folder in sorted({path.parent for path in SOURCES if path.parent.parent == PACKAGE}):
        text = ast.get_docstring(tree(folder / "__init__.py")) or ""
        assert "Owns" in text, folder
        assert "Invariant" in text, folder
        assert "To add" in text, folder
    assert not [name_of(path) for path in SOURCES if path.read_text().strip() and not ast.get_docstring(tree(path))]


def test_nothing_is_deeper_than_folder_and_file() -> None:
    deep = [name_of(path) for path in SOURCES if name_of(path).count("/") > 1]
    assert not [name for name in deep if not name.startswith("store/migrations/")]


def test_time_chance_and_identity_are_handed_in() -> None:
    found: dict[str, set[str]] = {}
    for path in SOURCES:
        used = {name for _, name in mentioned(path) if BANNED.fullmatch(name)}
        if used:
            found[name_of(path)] = used
    assert found == EDGES


def test_sql_is_never_put_together_from_texts() -> None:
    """`text()` and its like take literals; tables' own columns are the only thing that is composed."""
    wrong = []
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            last = dotted(node.func).rpartition(".")[2]
            risky = isinstance(node.args[0], ast.JoinedStr | ast.BinOp) and not constant(node.args[0])
            calls_format = isinstance(node.args[0], ast.Call) and dotted(node.args[0].func).endswith(".format")
            if last in ("text", "exec_driver_sql", "DDL", "executescript") and (risky or calls_format):
                wrong.append(f"{name_of(path)}:{node.lineno}")
    assert not wrong


def test_only_the_command_line_and_its_like_print() -> None:
    loud = {
        name_of(path)
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and dotted(node.func) == "print"
    }
    assert {name for name in loud if not name.startswith(("cli/", "sim/"))} <= SPEAKERS


def test_names_say_what_a_thing_is() -> None:
    vague = set()
    for path in SOURCES:
        if AVOID.search(path.stem):
            vague.add((name_of(path), path.stem))
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef) and AVOID.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", node.name)):
                vague.add((name_of(path), node.name))
    assert vague == LOANS


def test_money_has_no_floats() -> None:
    wrong = []
    for path in SOURCES:
        if not name_of(path).startswith(MONEY):
            continue
        asked = {
            id(part)
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Call) and dotted(node.func) == "isinstance"
            for part in ast.walk(node)
        }
        for node in ast.walk(tree(path)):
            is_float = (
                (isinstance(node, ast.Name) and node.id == "float")
                or (isinstance(node, ast.Constant) and isinstance(node.value, float))
                or (isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div))
            )
            if is_float and id(node) not in asked:
                wrong.append(f"{name_of(path)}:{node.lineno}")
    assert not wrong


def test_every_dependency_is_accounted_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    wanted += [one for extra in project["project"]["optional-dependencies"].values() for one in extra]
    names = {re.split(r"[\[<>=~ ]", one)[0] for one in wanted}
    rows = re.findall(r"^\| `([\w.-]+)` \|(.+)\|(.+)\|(.+)\|$", (ROOT / "docs" / "dependencies.md").read_text(), re.M)
    assert {row[0] for row in rows} == names, "docs/dependencies.md names each dependency once, and no other"
    assert len(rows) == len(names)
    assert all(cell.strip() for row in rows for cell in row)


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text()
    told = meanings()
    assert set(told) == {one.name for one in fields(Settings)}
    for name, meaning in told.items():
        assert meaning.endswith("."), name
        assert meaning in page, name


def test_every_error_code_is_its_own_and_listed() -> None:
    page = (ROOT / "docs" / "reference" / "errors.md").read_text()
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.HeadframeError)]
    codes: dict[str, type[errors.HeadframeError]] = {}
    for kind in kinds:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)
        assert f"| `{kind.code}` | {kind.status} |" in page
        other = codes.setdefault(kind.code, kind)
        assert other is kind or {other, kind} == {errors.HeadframeError, errors.OurError}, f"{kind} and {other}"
    raised = {
        (name_of(path), item.value.value)
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and any(dotted(base).endswith("Error") for base in node.bases)
        for item in node.body
        if isinstance(item, ast.Assign)
        and dotted(item.targets[0]) == "code"
        and path.name != "errors.py"
        and isinstance(item.value, ast.Constant)
    }
    assert not raised, "codes are given out in base/errors.py"


def test_nothing_tracked_knows_the_machine_it_was_made_on() -> None:
    found = []
    for path in tracked():
        if path == Path(__file__) or not path.is_file():
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in FOREIGN.finditer(text)]
    assert not found
