"""The ledger as beancount text, held against beancount itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from headframe.documents.beancount import account_name, beancount
from headframe.ledger.chain import Head, link
from headframe.ledger.records import Transfer
from headframe.ledger.trial import reverse


def check(place: Path, lines: list[str]) -> subprocess.CompletedProcess[str]:
    place.write_text("".join(lines))
    program = [str(Path(sys.executable).with_name("bean-check")), str(place)]
    return subprocess.run(program, capture_output=True, text=True, timeout=60)


def test_bean_check_takes_it_and_sees_what_does_not_balance(tmp_path: Path) -> None:
    first = Transfer(
        "trf_1", "receivable:org_1", "revenue:gpu:H100", 1_234_567_891, "EUR", 1_796_000_000_000_000, "usage", "chg_1",
        "org_1", note='a "note" with \\ and\nlines',
    )  # fmt: skip
    other = Transfer("trf_2", "cash", "wallet:org_2", 5, "CNY", 1_796_000_000_000_001, "credit_paid", "trf_2", "org_2")
    made = list(beancount(link([first, other, reverse(first, "trf_3", 1_796_100_000_000_000)], Head(), 7)))
    assert check(tmp_path / "good.beancount", made).returncode == 0
    broken = [line.replace("-1.234567891 EUR", "-1.234567890 EUR") for line in made]
    found = check(tmp_path / "bad.beancount", broken)
    assert found.returncode == 1
    assert "does not balance" in found.stderr + found.stdout


def test_no_two_accounts_have_one_name() -> None:
    names = ["revenue:gpu:H100", "revenue:gpu:h100", "revenue:gpu-H100", "receivable:org_1", "receivable:org-1", "cash"]
    assert len({account_name(name) for name in names}) == len(names)
