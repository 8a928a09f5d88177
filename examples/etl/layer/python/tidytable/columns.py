"""Kinds of columns: each reads a cell, or raises a ``ValueError`` that says what is wrong with it."""

import re
from datetime import UTC, date, datetime
from decimal import Decimal

DAY_FORMATS = ("%Y-%m-%d", "%d %b %Y", "%d.%m.%Y")


def text(cell: str) -> str:
    """Read any text but the empty one, with single spaces between its words."""
    if not cell:
        message = "is empty"
        raise ValueError(message)
    return " ".join(cell.split())


def email(cell: str) -> str:
    """Read an e-mail address; capitals make no difference."""
    if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", cell):
        message = f"is no e-mail address: {cell!r}"
        raise ValueError(message)
    return cell.lower()


def count(cell: str) -> int:
    """Read a whole number above zero."""
    if not re.fullmatch(r"[0-9]{1,9}", cell) or not int(cell):
        message = f"is no count: {cell!r}"
        raise ValueError(message)
    return int(cell)


def money(cell: str) -> Decimal:
    """Read an amount of money with two decimals; a currency sign and commas between thousands are left out."""
    digits = cell.lstrip("€$£ ").replace(",", "")
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,2})?", digits):
        message = f"is no amount of money: {cell!r}"
        raise ValueError(message)
    return Decimal(digits).quantize(Decimal("0.01"))


def day(cell: str) -> date:
    """Read a date such as ``2026-02-01``, ``1 Feb 2026`` or ``1.2.2026``."""
    for day_format in DAY_FORMATS:
        try:
            return datetime.strptime(cell, day_format).replace(tzinfo=UTC).date()
        except ValueError:
            continue
    message = f"is no date: {cell!r}"
    raise ValueError(message)
