"""From results to tables: LaTeX for the report, Markdown for the README.

Every measured number in the report is ``\\result{experiment/name/metric}``, looked up in
``generated/results.tex``; a key that does not exist stops the build. ``\\resultvalue`` leaves the
interval out, ``\\resultpercent`` gives a fraction in per cent.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lib.files import write_text
from lib.models.vit import ViTConfig
from lib.profiles import ROOT, Profile
from lib.report import results
from lib.report.numbers import METRICS, decimals, entry, format_number, markdown_table
from lib.report.results import ResultsError
from lib.training.recipe import recipe

TABLES = ROOT / "paper" / "tables.toml"
KEYS = re.compile(r"\\result(?:value|percent)?\{([^}#]+)\}")
BLOCK = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
Table = tuple[list[str], list[list[Any]]]


# --- numbers --------------------------------------------------------------------------------------


def flatten(found: Mapping[str, Any]) -> dict[str, Any]:
    """Every number of an experiment by its key without the experiment's name: rows with or
    without interval, plain numbers, text."""
    keys: dict[str, Any] = {}
    for name, metrics in found["summary"].items():
        keys |= {f"{name}/{metric}": row for metric, row in metrics.items()}
        runs = [run for run in found["runs"] if run["name"] == name]
        keys[f"{name}/seeds"] = len(runs)
        for what in ("parameters", "labels", "test_jets"):
            if runs and runs[0].get(what) is not None:
                keys[f"{name}/{what}"] = runs[0][what]
        seconds = [run["train_seconds"] for run in runs if run.get("train_seconds") is not None]
        if seconds:
            keys[f"{name}/train_minutes"] = round(sum(seconds) / len(seconds) / 60, 1)
    for row in found["comparisons"]:
        keys[f"{row['a']}-{row['b']}/{row['metric']}"] = row

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping) and entry(value) is None:
            for key, inner in value.items():
                name = re.sub(r"[#$&~^\\{}]", "_", str(key).replace("%", "percent"))
                walk(f"{prefix}/{name}" if prefix else name, inner)
        elif isinstance(value, list):
            rows = [inner for inner in value if isinstance(inner, Mapping)]  # of the closure table
            keys.update({f"{prefix}/{slug(row['quantity'])}": row.get("measured")
                         for row in rows if "quantity" in row})
            if verdicts := [row["ok"] for row in rows if "ok" in row]:
                keys[f"{prefix}/within"], keys[f"{prefix}/total"] = sum(verdicts), len(verdicts)
        else:
            keys[prefix if "/" in prefix else f"values/{prefix}"] = value

    walk("", found["values"])
    for what in ("commit", "created", "machine", "profile", "data"):
        keys[f"meta/{what}"] = found[what]
    keys["meta/date"] = str(found["created"])[:10]
    return keys


def slug(text: str) -> str:
    """``Mean of m (GeV)`` → ``mean_of_m_gev``."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def numbers(profile: Profile) -> dict[str, Any]:
    """Every result of a profile by its full key ``experiment/name/metric``; its settings are
    ``profile/model/...`` and ``profile/train/...``."""
    found = {f"profile/{what}": getattr(profile, what) for what in ("labelled", "test", "name")}
    scratch = recipe("scratch", profile)
    settings = {"model": ViTConfig(**scratch.model), "train": scratch.fit}
    for what, values in settings.items():
        found |= {f"profile/{what}/{k}": v for k, v in asdict(values).items()
                  if isinstance(v, int | float | str)}
    for name in results.names(profile):
        for key, value in flatten(results.load(name, profile)).items():
            found[f"{name}/{key}"] = value
    return found


def check_keys(source: Path, profile: Profile) -> None:
    """Check that every ``\\result`` and every figure of a LaTeX file exists.

    Raises:
        ResultsError: names the key, and the notebook to run where a whole experiment is missing.
    """
    text = re.sub(r"(?<!\\)%.*", "", source.read_text())
    known = numbers(profile)
    for key in KEYS.findall(text):
        experiment = key.split("/")[0]
        if experiment not in ("profile", *results.names(profile)):
            results.load(experiment, profile)  # raises, and says what to run
        if key not in known:
            raise ResultsError(f"{source.name}: no result {key!r} in {experiment}.json")
    for name in re.findall(r"\\includegraphics(?:\[[^]]*\])?\{(\w+)\}", text):
        if not (profile.figures_dir / f"{name}.pdf").is_file():
            todo = results.how_to_make(name, profile)
            raise ResultsError(f"{source.name}: no figure {name}.pdf: {todo}")


# --- LaTeX ----------------------------------------------------------------------------------------

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "–": "--", "²": r"\textsuperscript{2}", "μ": r"$\mu$", "η": r"$\eta$", "φ": r"$\phi$",
    "−": "$-$", "≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$", "±": r"$\pm$", "·": r"$\cdot$",
}


def escape(text: str) -> str:
    """Plain text as LaTeX."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def tex_number(value: Any, interval: bool = True, scale: float = 1.0) -> str:
    """A value, with its interval where it has one, as LaTeX with siunitx's ``\\num``."""
    found = entry(value) if isinstance(value, Mapping) else (value, None, None)
    middle, low, high = found or (None, None, None)
    if middle is None:
        return "--"
    if isinstance(middle, bool | str):
        return escape(str(middle))
    digits = None if low is None or high is None else decimals(low * scale, high * scale)
    shown = [middle] if digits is None or not interval else [middle, low, high]
    # A factor of one would make a float of a whole number.
    numbers = [format_number(x if scale == 1.0 else x * scale, digits).replace(",", "")
               for x in shown]
    first, *bounds = (rf"\num{{{number}}}" for number in numbers)
    return f"{first}~[{bounds[0]},~{bounds[1]}]" if bounds else first


_MACROS = r"""% Generated from the results; not to be edited.
\makeatletter
\newcommand{\results@find}[2]{%
  \ifcsname #1@#2\endcsname\csname #1@#2\endcsname\else
    \PackageError{results}{There is no result '#2'}{Run the notebook that makes it.}\fi}
\DeclareRobustCommand{\result}[1]{\results@find{result}{#1}}
\DeclareRobustCommand{\resultvalue}[1]{\results@find{resultvalue}{#1}}
\DeclareRobustCommand{\resultpercent}[1]{\results@find{resultpercent}{#1}}
\newcommand{\results@set}[3]{\expandafter\gdef\csname #1@#2\endcsname{#3}}
"""


def write_latex(folder: Path, profile: Profile) -> None:
    """Write results.tex and the tables into ``folder``."""
    lines = [_MACROS]
    for key, value in sorted(numbers(profile).items()):
        lines.append(rf"\results@set{{result}}{{{key}}}{{{tex_number(value)}}}")
        lines.append(rf"\results@set{{resultvalue}}{{{key}}}{{{tex_number(value, False)}}}")
        inner = entry(value)[0] if isinstance(value, Mapping) and entry(value) else value
        if isinstance(inner, float) and 0 <= inner <= 1:
            percent = tex_number(value, False, 100)
            lines.append(rf"\results@set{{resultpercent}}{{{key}}}{{{percent}\,\%}}")
    lines.append("\\makeatother")
    write_text(folder / "results.tex", "\n".join(lines) + "\n")
    for name, (head, rows) in all_tables(profile).items():
        write_text(folder / f"{name}.tex", latex_table(head, rows))


def latex_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A booktabs table; the first column is text, the others are numbers or rows of results."""
    def cell(value: Any) -> str:
        return tex_number(value) if not isinstance(value, str) else escape(value)

    body = [" & ".join(cell(v) for v in row) + r" \\" for row in rows]
    return "\n".join([
        "% Generated from the results; not to be edited.",
        rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule",
        " & ".join(escape(h) for h in head) + r" \\", r"\midrule", *body, r"\bottomrule",
        r"\end{tabular}", "",
    ])


# --- the tables -----------------------------------------------------------------------------------


def specifications() -> dict[str, dict[str, Any]]:
    """The tables of ``paper/tables.toml`` by name."""
    return tomllib.loads(TABLES.read_text())


def all_tables(profile: Profile) -> dict[str, Table]:
    """Every table whose experiment has results: ``{name: (head, rows)}``."""
    made, present = {}, results.names(profile)
    for name, spec in specifications().items():
        experiment = spec.get("experiment")
        if experiment is None:
            made[name] = table(spec, {})
        elif experiment in present:
            made[name] = table(spec, results.load(experiment, profile))
    return made


def table(spec: Mapping[str, Any], found: Mapping[str, Any]) -> Table:
    """Head and rows of a table of ``paper/tables.toml``, which explains ``spec``.

    Args:
        found: the results of its experiment.
    """
    keys = flatten(found) if found else {}
    columns = [(*column, None)[:3] for column in spec.get("columns", ())]
    if "each" in spec:
        where, key = spec["each"]
        columns += [(name, key.replace("{column}", name), None) for name in _at(found, where)]

    def cell(row: str | Mapping[str, Any], key: str, rounded: str | None) -> Any:
        if isinstance(row, Mapping):
            value = row[key]
            return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
        values = (keys.get(one.replace("{row}", row)) for one in key.split("|"))
        value = next((value for value in values if value is not None), None)
        return value if value is None or rounded is None else float(format(value, rounded))

    rows = []
    for row, label in _rows(spec, found):
        cells = [cell(row, key, rounded) for _, key, rounded in columns]
        if any(value is not None for value in cells):
            rows.append([label, *cells])
    rows += [[label, keys.get(key)] for label, key in spec.get("last", ())]
    kept = [0, *(number for number in range(1, len(columns) + 1)
                 if any(row[number] is not None for row in rows))]
    lines = [[spec["head"], *(column[0] for column in columns)], *rows]
    head, *rows = [[line[number] for number in kept] for line in lines]
    return head, rows


def _rows(spec: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
    labels = METRICS | (found["curves"].get("labels", {}) if found else {})
    rows = spec["rows"]
    for row in _at(found, rows) if isinstance(rows, str) else rows:
        if isinstance(row, Mapping):
            yield row, row[spec["head"]]
        elif isinstance(row, str):
            yield row, labels.get(row, row)
        else:
            yield row[0], row[1]


def _at(found: Mapping[str, Any], where: str) -> Any:
    for part in where.split("/"):
        found = found[part]
    return found


# --- the README -----------------------------------------------------------------------------------


def write_readme(path: Path, profile: Profile) -> None:
    """Refresh the blocks between ``<!-- generated: name -->`` and ``<!-- end -->``.

    Raises:
        ResultsError: a marker names a table that the results do not give.
    """
    made, specs = all_tables(profile), specifications()

    def fill(match: re.Match[str]) -> str:
        if match[2] not in made:
            raise ResultsError(f"{path.name}: no results for the block {match[2]!r}")
        found = results.load(specs[match[2]]["experiment"], profile)
        return (f"{match[1]}\n{markdown_table(*made[match[2]])}\n"
                f"Profile {profile.name}, {profile.data} jets, commit {found['commit']}, "
                f"{str(found['created'])[:10]}, {found['machine']}.\n\n{match[3]}")

    write_text(path, BLOCK.sub(fill, path.read_text()))
