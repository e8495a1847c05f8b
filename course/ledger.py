"""The ledger: every claim of the four documents beside what was found here, by
``paper/ledger.toml``, which explains itself. Answers follow from intervals: yes or no where all of
it lies on one side of the bound, else "not decidable"."""

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from course.tables import escape, numbers
from lib.profiles import ROOT, Profile
from lib.report.numbers import entry, format_number, markdown_table, with_interval

LEDGER = ROOT / "paper" / "ledger.toml"
HEAD = ["", "claim", "claimed", "found here", "conditions", "holds"]
WIDTHS = (0.03, 0.21, 0.14, 0.25, 0.2, 0.08)  # of the columns, in parts of the line
ABSENT = "not measured here"
PLACE = re.compile(r"\{(100 )?([^{}]+)\}")  # {KEY}, or {100 KEY}: a hundred times as much


def claims() -> list[dict[str, Any]]:
    """The claims in order; `keys` are the results that each names, alternatives parted by "|"."""
    found = tomllib.loads(LEDGER.read_text())["claim"]
    for claim in found:
        claim["sides"] = claim.get("holds", [])[::2]
        said = PLACE.findall(claim["found"] + claim.setdefault("conditions", ""))
        claim["keys"] = [k for _, k in said] + [k for k in claim["sides"] if isinstance(k, str)]
    return found


def markdown(profile: Profile, *sources: str) -> str:
    """The ledger for a notebook, of all documents or of some."""
    return markdown_table(HEAD, rows(profile, *sources))


def latex(profile: Profile) -> str:
    """The ledger for the report: a table that goes on over pages."""
    columns = "".join(rf">{{\raggedright\arraybackslash}}p{{{w}\linewidth}}" for w in WIDTHS)
    head, *body = (" & ".join(map(escape, row)) + r" \\" for row in [HEAD, *rows(profile)])
    return "\n".join([r"\begingroup\footnotesize\setlength{\tabcolsep}{3pt}",
                      rf"\begin{{longtable}}{{@{{}}{columns}@{{}}}}", r"\toprule", head,
                      r"\midrule\endhead", *body, r"\bottomrule\end{longtable}\endgroup", ""])


def rows(profile: Profile, *sources: str) -> list[list[str]]:
    """Cells as in ``HEAD``, plain text, of the claims of all documents or of some."""
    known = numbers(profile)

    def find(key: Any) -> Any:
        return key if not isinstance(key, str) else next(
            (known[one] for one in key.split("|") if known.get(one) is not None), None)

    def filled(text: str) -> str:
        return PLACE.sub(lambda match: _text(find(match[2]), 100 if match[1] else 1), text)

    def row(claim: Mapping[str, Any]) -> list[str]:
        if all(find(key) is None for key in claim["keys"]):
            return [ABSENT, "", "–"]
        said = filter(None, [filled(claim["conditions"]), *_run(claim["keys"], known)])
        return [filled(claim["found"]), ", ".join(said), claim.get("answer") or _answer(
            *map(_interval, map(find, claim["sides"])), claim["holds"][1] == ">")]

    return [[claim["source"], claim["claim"], claim["claimed"], *row(claim)] for claim in claims()
            if not sources or claim["source"] in sources]


def _text(value: Any, scale: int) -> str:
    found = entry(value)
    if found is None or found[0] is None:
        return ABSENT
    scaled = [x if x is None else x * scale for x in found]
    return with_interval(dict(zip(("value", "low", "high"), scaled))).replace("-", "−")


def _run(keys: list[str], known: Mapping[str, Any]) -> list[str]:
    """Labels, seeds and test images of the first run that a claim names."""
    for key in "|".join(keys).split("|"):
        experiment, name, *_ = (*key.split("/"), "")
        for place in (f"{experiment}/{name}/", f"{experiment}/{name.split('-')[0]}/"):
            if f"{place}seeds" in known:
                old = known.get(f"{experiment}/meta/jets") == "an earlier simulation"
                words = {"labels": "labels", "test_jets": "test images",
                         "seeds": "seed" if known[f"{place}seeds"] == 1 else "seeds"}
                return [f"{format_number(known[place + what])} {words[what]}"
                        for what in ("labels", "seeds", "test_jets") if place + what in known
                        ] + ["jets of an earlier simulation"] * old
    return []


def _interval(value: Any) -> tuple[float, float] | None:
    """What a result may be; of a null two standard deviations each way."""
    middle, low, high = entry(value) or (None, None, None)
    spread = 2 * value.get("std", 0) if isinstance(value, Mapping) else 0
    return None if middle is None else (
        (middle - spread, middle + spread) if low is None else (low, high))


def _answer(left: Any, right: Any, above: bool) -> str:
    """yes, no or "not decidable": whether ``left`` lies above (or below) ``right``."""
    if left is None or right is None:
        return "–"
    (low, high), (least, most) = (left, right) if above else (right, left)
    return "yes" if low > most else "no" if high <= least else "not decidable"
