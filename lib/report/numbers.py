"""Numbers in print: digits that follow the interval, what a difference allows one to say, tables.

A *row* is what ``lib.evaluation.metrics`` gives: ``{"mean" or "difference": x, "low": l,
"high": h, ...}``, where an interval that is not known is None."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Metrics as a table names them.
METRICS = {
    "accuracy": "accuracy", "auc": "AUC",
    "rejection_50": "rejection at 50 %", "rejection_30": "rejection at 30 %",
    "mass_mae": "mass error (GeV)", "mass_rmse": "mass RMSE (GeV)", "mass_r2": "mass R²",
}
LOWER_IS_BETTER = ("mass_mae", "mass_mse", "mass_rmse", "loss")  # how their names begin


def decimals(low: float, high: float) -> int:
    """Decimals to show for a value with this interval: two digits of its half-width where they
    begin with 1 or 2, else one; one more where an end would look like zero and is not."""
    half = abs(high - low) / 2
    if not half or not math.isfinite(half):
        return 3
    digits = max(0, -math.floor(math.log10(half / 2.5)))
    return digits + any(round(x, digits + 1) and not round(x, digits) for x in (low, high))


def format_number(value: Any, digits: int | None = None) -> str:
    """A number as plain text: integers with thousands apart, others to four digits."""
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if digits is not None:
        return f"{round(value, digits) + 0.0:,.{digits}f}"  # + 0.0: no minus before a zero
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.4g}"
    return f"{value:.6f}".rstrip("0") if "e" in text and abs(value) < 1 else text


def entry(value: Any) -> tuple[Any, Any, Any] | None:
    """(value, low, high) of a row or of a plain value; None where a mapping is no row."""
    if not isinstance(value, Mapping):
        return value, None, None
    for name in ("mean", "value", "difference"):
        if name in value and not isinstance(value[name], Mapping):
            return value[name], value.get("low"), value.get("high")
    return None


def with_interval(row: Any) -> str:
    """``0.931 [0.925, 0.937]``, plain text; of what has no interval the value alone."""
    value, low, high = entry(row) or (None, None, None)
    if value is None or low is None or high is None:
        return format_number(value)
    digits = decimals(low, high)
    return "{} [{}, {}]".format(*(format_number(x, digits) for x in (value, low, high)))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown; a cell is text, a number, a row with an interval, or None."""
    lines = [head, ["---"] * len(head), *(map(with_interval, row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def verdict(row: Mapping[str, Any], ahead: str = "ahead", behind: str = "behind",
            even: str = "cannot be told apart") -> str:
    """What the interval of a difference a − b allows one to say of a. The row's ``metric`` says
    whether higher is better; a row without one is of a score."""
    if row["low"] <= 0 <= row["high"]:
        return even
    lower = str(row.get("metric")).startswith(LOWER_IS_BETTER)
    return ahead if (row["low"] > 0) != lower else behind


def chances(p: float, floor: float = 0.001) -> str:
    """A p-value in print; resampling says nothing below its floor."""
    return f"p < {floor:g}" if p < floor else f"p = {p:.2g}"


def against(found: Mapping[str, Any], b: str, metric: str = "auc") -> dict[str, Mapping]:
    """``{a: row}``: the differences a − b of an experiment in a metric."""
    return {row["a"]: row for row in found["comparisons"]
            if (row["b"], row["metric"]) == (b, metric)}


def gap(found: Mapping[str, Any], a: str, b: str) -> dict[str, Mapping]:
    """``{metric: row}``: the differences a − b of an experiment."""
    return {row["metric"]: row for row in found["comparisons"] if (row["a"], row["b"]) == (a, b)}
