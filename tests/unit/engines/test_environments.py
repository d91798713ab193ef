"""What a job file may name as packages and Python, and where packages come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from headframe.base.errors import Invalid
from headframe.engines import environments, indexes, interpreters


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("numpy", "numpy"),
        ("  Scikit_Learn ", "scikit-learn"),
        ("torch==2.4.*", "torch==2.4.*"),
        ("a >= 1 , < 2", "a>=1,<2"),
        ("a[x, y]~=1.0", "a[x,y]~=1.0"),
        ("torch==2.1.0+cu121", "torch==2.1.0+cu121"),
        ("a>1; python_version < '3.12'", "a>1; python_version < '3.12'"),
        ("a @ https://example.org/a-1.whl", "a @ https://example.org/a-1.whl"),
        ("a @ git+https://example.org/a.git@main", "a @ git+https://example.org/a.git@main"),
    ],
)
def test_requirements_get_one_form(text: str, canonical: str) -> None:
    assert environments.requirements([text]) == (canonical,)


def test_requirements_are_sorted_and_stand_once() -> None:
    assert environments.requirements(["b", "a", "B"]) == ("a", "b")


@pytest.mark.parametrize(
    "text",
    ["-r x", "--index-url=https://evil", "-e .", "", " ", ".", "..", "./a", "/etc", "a/b", "a.whl", "a.tar.gz",
     "setup.py", "file:///etc/passwd", "a @ file:///etc", "a @ /etc", "https://example.org/a.whl", "git+ssh://x",
     "a @ git+ssh://x/y", "a b", "a;b;c", "a\n-r x", "a\0", "a==1 --hash=x", "a @ https://x/y --index-url z",
     "a @ https://-x", "a==", "$(id)", "a`id`", "a" * 600, "requirements.txt", "a;-r x\nb", "a==1,-r", "[x]", "a["],
)  # fmt: skip
def test_options_paths_and_other_tricks_are_refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        environments.requirements([text])
    assert caught.value.field == "packages"
    assert caught.value.next_step


@pytest.mark.parametrize(
    "text", ["a" + "-" * 499, "a[" + "b," * 249, "a" + "==1," * 120, "a" + " " * 400 + "$", "a==" + "1." * 240 + "$"]
)
def test_a_requirement_made_to_be_slow_to_judge_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        environments.requirements([text])


@pytest.mark.parametrize("asked", ["3", "2.7", "3.11; rm", "-3", "../python", "python3", "3.11.4.5", "", "3.11\n"])
def test_what_is_no_version_is_refused(asked: str) -> None:
    with pytest.raises(Invalid, match="not a version"):
        interpreters.find(asked)


def test_a_version_that_is_not_there_lists_those_that_are() -> None:
    here = interpreters.find(None)
    with pytest.raises(Invalid, match=r"no Python 3\.99") as caught:
        interpreters.find("3.99")
    assert str(here) in caught.value.allowed
    assert str(here) in caught.value.next_step
    assert interpreters.find(str(here)) == here


def test_settings_of_pip_are_put_into_words_of_uv(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://mirror/simple\nextra-index-url =\n  https://a/simple\n  file:///opt\n"
        "[install]\nfind-links = /opt/wheels\n"
    )
    said = indexes.settings(
        {
            "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
            "PIP_NO_INDEX": "0",
            "HOME": str(tmp_path),
            "XDG_CONFIG_DIRS": str(tmp_path),
            "HEADFRAME_SECRET": "x",
            "https_proxy": "http://proxy:1",
        }
    )
    assert said["UV_DEFAULT_INDEX"] == "https://mirror/simple"
    assert said["UV_INDEX"] == "https://a/simple file:///opt"
    assert said["UV_FIND_LINKS"] == "/opt/wheels"
    assert said["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert said["https_proxy"] == "http://proxy:1"
    assert "UV_NO_INDEX" not in said
    assert not any("HEADFRAME" in name for name in said)


def test_settings_of_uv_come_before_those_of_pip(tmp_path: Path) -> None:
    said = indexes.settings({"UV_INDEX_URL": "https://own", "PIP_INDEX_URL": "https://pip", "HOME": str(tmp_path)})
    assert said["UV_INDEX_URL"] == "https://own"
    assert "UV_DEFAULT_INDEX" not in said


def test_local_indexes_are_shown_to_builds(tmp_path: Path) -> None:
    (tmp_path / "mirror/simple").mkdir(parents=True)
    (tmp_path / "wheels").mkdir()
    paths = indexes.local_paths(
        {
            "UV_INDEX": f"https://a file://{tmp_path}/mirror/simple own=file://{tmp_path}/wheels",
            "UV_FIND_LINKS": f"/nowhere,{tmp_path}/wheels",
        }
    )
    assert paths == [tmp_path / "mirror", tmp_path / "wheels"]
