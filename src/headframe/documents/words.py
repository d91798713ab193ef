"""What is printed on invoices, in the languages of their buyers, and how amounts, quantities and days are written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from headframe.base.money import EXPONENTS, NANO
from headframe.base.quantities import SECOND_US
from headframe.ledger.records import InvoiceLine
from headframe.pricing.units import default_unit, is_held, size_of

LANGUAGES = ("en", "zh")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
LABELS: dict[str, tuple[str, str]] = {
    "invoice": ("Invoice", "账单"),
    "credit_note": ("Credit note", "贷记单"),
    "debit_note": ("Debit note", "借记单"),
    "draft": ("Draft", "草稿"),
    "number": ("Number", "编号"),
    "date": ("Date", "开具日期"),
    "due": ("Due", "付款期限"),
    "period": ("Period", "计费周期"),
    "billed_to": ("Billed to", "客户"),
    "reference": ("Your reference", "客户参考号"),
    "corrects": ("Corrects", "更正账单"),
    "reason": ("Reason", "原因"),
    "description": ("Description", "项目"),
    "quantity": ("Quantity", "数量"),
    "unit_price": ("Unit price", "单价"),
    "amount": ("Amount", "金额"),
    "project": ("Project", "项目组"),
    "contracts": ("Contracts", "合约"),
    "exchange": ("Exchange rates", "汇率"),
    "net": ("Total without tax", "不含税合计"),
    "tax": ("Tax", "税额"),
    "total": ("Total", "合计"),
    "prepaid": ("Paid in advance", "已预付"),
    "payable": ("Amount due", "应付金额"),
    "refund": ("Credited to you", "贷记金额"),
    "payment": ("Payment", "付款方式"),
    "account": ("Account holder", "账户名称"),
    "bank": ("Bank", "开户银行"),
    "iban": ("IBAN / account", "银行账号"),
    "quote": ("Please quote", "付款附言"),
    "tax_id": ("Tax number", "税号"),
    "registration": ("Registration", "注册号"),
    "page": ("Page", "页"),
    "rate": ("Rate", "税率"),
    "basis": ("on", "计税金额"),
    "nothing_due": ("Nothing is left to pay.", "无需付款。"),
    "embedded": (
        "This document carries the invoice as data (Factur-X, EN 16931).",
        "本文件内嵌电子账单数据（Factur-X，EN 16931）。",
    ),
}
_METERS = {
    "cpu": ("CPU cores", "CPU 核"),
    "memory": ("Memory", "内存"),
    "disk": ("Disk", "磁盘"),
    "credit": ("Credit", "补偿"),
    "electricity": ("Electricity", "电力"),
}
_FAMILIES = {"storage": ("Storage", "存储"), "tokens": ("Tokens", "词元")}
_HELD = ("gpu", "cpu", "memory", "disk")
_KINDS = {
    "minimum": ("least running time", "最短计费时长"),
    "covered": ("covered by contract", "合约覆盖"),
    "unused": ("committed, not used", "已承诺未使用"),
    "tier": ("tier adjustment", "阶梯调整"),
    "fee": ("fee", "费用"),
    "credit": ("credit", "补偿"),
    "correction": ("correction", "更正"),
    "goodwill": ("goodwill", "优惠补偿"),
}
_PURCHASES = {"on-demand": ("on-demand", "按需"), "spot": ("spot", "竞价"), "reserved": ("reserved", "预留")}
_UNITS = {
    "gpu-hour": ("GPU-hours", "GPU·小时"),
    "core-hour": ("core-hours", "核·小时"),
    "GiB-hour": ("GiB-hours", "GiB·小时"),
    "GiB-month": ("GiB-months", "GiB·月"),
    "kWh": ("kWh", "千瓦时"),
    "one": ("", ""),
    "thousand": ("thousand", "千"),
    "million": ("million", "百万"),
}
CATEGORIES = {
    "S": ("Tax", "税"),
    "Z": ("Zero-rated", "零税率"),
    "E": ("Exempt", "免税"),
    "AE": ("Reverse charge", "反向征税"),
    "K": ("Intra-community supply", "欧盟内供应"),
    "G": ("Export", "出口"),
    "O": ("Not subject to tax", "不征税"),
}


def language_of(name: str) -> int:
    """The place of a language in the pairs of this module: English unless it is known."""
    return LANGUAGES.index(name) if name in LANGUAGES else 0


def labels(language: int) -> dict[str, str]:
    return {name: pair[language] for name, pair in LABELS.items()}


def moment(us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


def day(us: int, language: int) -> str:
    """`2 December 2026`, `2026年12月2日` (UTC)."""
    at = moment(us)
    return f"{at.year}年{at.month}月{at.day}日" if language else f"{at.day} {_MONTHS[at.month - 1]} {at.year}"


def number(value: Decimal, least: int, most: int) -> str:
    """`1,234.5`: with at least `least` and at most `most` digits behind the point, half to even."""
    text = f"{round(value, most):,f}".replace("-", "−")
    whole, _, part = text.partition(".")
    part = part.rstrip("0").ljust(least, "0")
    return f"{whole}.{part}" if part else whole


def amount(nano: int, currency: str) -> str:
    """An amount that can be paid: `1,234.50`."""
    digits = EXPONENTS.get(currency, 2)
    return number(Decimal(nano) / NANO, digits, 9)


def units_of(line: InvoiceLine) -> Decimal:
    """How many of its units a line is about, exactly as far as 28 digits go."""
    unit = unit_of(line)
    if line.kind in ("fee", "credit", "goodwill"):
        return Decimal(1)
    size = size_of(line.meter, unit)
    return Decimal(line.quantity * (SECOND_US if is_held(line.meter) and is_timed(unit) else 1)) / size


def unit_of(line: InvoiceLine) -> str:
    return line.unit or default_unit(line.meter)


def is_timed(unit: str) -> bool:
    """Whether quantities in it are kept as levels times seconds."""
    return unit.endswith(("-hour", "-month"))


def unit_words(line: InvoiceLine, language: int) -> str:
    if line.kind in ("fee", "credit", "goodwill"):
        return ""
    unit = unit_of(line)
    return _UNITS.get(unit, (unit, unit))[language]


def describe(line: InvoiceLine, language: int) -> str:
    """`H100 GPU, on-demand`, `Reserved 16 x H100: committed, not used`."""
    family, _, rest = line.meter.partition(":")
    if family == "gpu":
        text = f"{rest} GPU"
    elif family in _FAMILIES:
        text = f"{_FAMILIES[family][language]}{'：' if language else ': '}{rest}"
    else:
        text = _METERS.get(line.meter, (line.meter, line.meter))[language]
    comma = "，" if language else ", "
    if line.contract_id or (line.note and line.kind in ("fee", "credit", "goodwill")):
        text = line.note or text
    elif line.purchase in _PURCHASES and line.kind in ("usage", "minimum") and family in _HELD:
        text += comma + _PURCHASES[line.purchase][language]
    if line.kind in _KINDS and not (line.note and (line.kind == "goodwill" or not line.contract_id)):
        text += comma + _KINDS[line.kind][language]
    return text
