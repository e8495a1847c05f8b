"""From results to tables: LaTeX for the report, Markdown for the README.

Every measured number in the report is ``\\result{experiment/name/metric}``, looked up in
``generated/results.tex``; a key that does not exist stops the build. ``\\resultvalue`` leaves the
interval out, ``\\resultpercent`` gives a fraction in per cent."""

import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import reduce
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
GENERATED = "% Generated from the results; not to be edited."
Table = tuple[list[str], list[list[Any]]]


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
        if seconds := [run["train_seconds"] for run in runs if run.get("train_seconds")]:
            keys[f"{name}/train_minutes"] = round(sum(seconds) / len(seconds) / 60, 1)
    keys |= {f"{row['a']}-{row['b']}/{row['metric']}": row for row in found["comparisons"]}
    keys |= _values("", found["values"])
    keys |= {f"meta/{k}": found[k] for k in ("commit", "created", "machine", "profile", "data")}
    jets = "an earlier simulation" if results.earlier(found) else "the present simulation"
    return keys | {"meta/date": str(found["created"])[:10], "meta/jets": jets}


def _values(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What an experiment keeps as ``values``, by its place."""
    if entry(value) is None:
        for key, inner in value.items():
            name = re.sub(r"[#$&~^\\{}]", "_", str(key).replace("%", "percent"))
            yield from _values(f"{prefix}/{name}" if prefix else name, inner)
    elif isinstance(value, list):
        rows = [inner for inner in value if isinstance(inner, Mapping)]  # of the closure table
        for row in rows:
            if "quantity" in row:  # ``Mean of m (GeV)`` → ``mean_of_m_gev``
                name = re.sub(r"[^a-z0-9]+", "_", row["quantity"].lower()).strip("_")
                yield f"{prefix}/{name}", row.get("measured")
        if verdicts := [row["ok"] for row in rows if "ok" in row]:
            yield from {f"{prefix}/within": sum(verdicts), f"{prefix}/total": len(verdicts)}.items()
    else:
        yield prefix if "/" in prefix else f"values/{prefix}", value


def numbers(profile: Profile) -> dict[str, Any]:
    """Every result of a profile by its full key ``experiment/name/metric``; its settings are
    ``profile/model/...`` and ``profile/train/...``."""
    found = {f"profile/{what}": getattr(profile, what) for what in ("labelled", "test", "name")}
    scratch = recipe("scratch", profile)
    for what, settings in ("model", ViTConfig(**scratch.model)), ("train", scratch.fit):
        found |= {f"profile/{what}/{k}": v for k, v in asdict(settings).items()
                  if isinstance(v, int | float | str)}
    for name in results.names(profile):
        keys = flatten(results.load(name, profile))
        found |= {f"{name}/{key}": value for key, value in keys.items()}
    return found


def check_keys(source: Path, profile: Profile) -> list[str]:
    """The keys of a LaTeX file's ``\\result``. ResultsError for one, or a figure, that does not
    exist; it names the key, and the notebook to run where a whole experiment is missing."""
    text, known = re.sub(r"(?<!\\)%.*", "", source.read_text()), numbers(profile)
    for key in (keys := KEYS.findall(text)):
        experiment = key.split("/")[0]
        if key not in known:
            if experiment != "profile":
                results.load(experiment, profile)  # if missing, raises and says what to run
            raise ResultsError(f"{source.name}: no result {key!r} in {experiment}.json")
    for name in re.findall(r"\\includegraphics(?:\[[^]]*\])?\{(\w+)\}", text):
        if not (profile.figures_dir / f"{name}.pdf").is_file():
            todo = results.how_to_make(name, profile)
            raise ResultsError(f"{source.name}: no figure {name}.pdf: {todo}")
    return keys


_SPECIAL = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "–": "--", "²": r"\textsuperscript{2}", "μ": r"$\mu$", "η": r"$\eta$", "φ": r"$\phi$",
    "−": "$-$", "≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$", "±": r"$\pm$", "·": r"$\cdot$",
})


def escape(text: str) -> str:
    """Plain text as LaTeX; a hyphen that begins a number is a minus."""
    return re.sub(r"(?<![\w.-])-(?=\d)", "−", text).translate(_SPECIAL)


def tex_number(value: Any, interval: bool = True, scale: int = 1, stacked: bool = False) -> str:
    """A value, with its interval where it has one, as LaTeX with siunitx's ``\\num``; stacked: the
    interval below the value, by the report's ``\\stacked``."""
    middle, low, high = found = entry(value) or (None, None, None)
    if middle is None:
        return "--"
    if isinstance(middle, bool | str):
        return escape(str(middle))
    digits = None if low is None or high is None else decimals(low * scale, high * scale)
    first, *bounds = (rf"\num{{{format_number(x * scale, digits).replace(',', '')}}}"
                      for x in ((middle,) if digits is None or not interval else found))
    if bounds and stacked:
        return rf"\stacked{{{first}}}{{{bounds[0]}}}{{{bounds[1]}}}"
    return f"{first}~[{bounds[0]},~{bounds[1]}]" if bounds else first


def write_latex(folder: Path, profile: Profile, keys: set[str]) -> None:
    """Write results.tex, which knows the results of ``keys``, and the tables into ``folder``."""
    lines = [GENERATED, r"\makeatletter"]
    for key, value in sorted((k, v) for k, v in numbers(profile).items() if k in keys):
        lines.append(rf"\results@set{{result}}{{{key}}}{{{tex_number(value)}}}")
        lines.append(rf"\results@set{{resultvalue}}{{{key}}}{{{tex_number(value, False)}}}")
        inner = (entry(value) or [None])[0]
        if isinstance(inner, float) and 0 <= inner <= 1:
            percent = tex_number(value, False, 100)
            lines.append(rf"\results@set{{resultpercent}}{{{key}}}{{{percent}\,\%}}")
    lines += [rf"\newcommand{{\grids}}{{{grids(profile)}}}", "\\makeatother"]
    write_text(folder / "results.tex", "\n".join(lines) + "\n")
    made = all_tables(profile)
    for old in folder.glob("*.tex"):  # of an experiment that is no longer there
        if old.stem not in {"results", *made}:
            old.unlink()
    for name, (head, rows) in made.items():
        write_text(folder / f"{name}.tex", latex_table(head, rows))


def grids(profile: Profile) -> str:
    """How long the training of each grid took: ``54 minutes for the 37 runs of 05_mae_grid, ...``;
    a grid whose runs do not say it is left out, and a run with two names counts once."""
    said = []
    for name in results.names(profile):
        runs = {(run["seed"], run["train_seconds"]) for run in results.load(name, profile)["runs"]
                if run.get("train_seconds")}
        minutes = sum(seconds for _, seconds in runs) / 60
        if name.endswith("_grid") and minutes >= 1:
            took = f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"
            said.append(f"{took} for the {len(runs)} runs of {escape(name)}")
    return ", ".join(said) or "no time: there are none in this profile"


def latex_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A booktabs table; the first column is text, the others are numbers or rows of results. With
    more than five columns intervals go below their values, and where columns besides the first are
    long texts all such are wrapped, or the table would leave the page."""
    rows = list(rows)
    long = [any(isinstance(v, str) and len(v) > 24 for v in column)
            for column in zip(*rows, strict=True)] or [False]
    form = "".join(
        r">{\raggedright\arraybackslash}p{0.18\linewidth}" if wrapped and any(long[1:]) else side
        for wrapped, side in zip(long, "l" + "r" * (len(head) - 1), strict=False))

    def line(row: Sequence[Any]) -> str:
        return " & ".join(escape(v) if isinstance(v, str) else tex_number(
            v, stacked=len(head) > 5) for v in row) + r" \\"

    return "\n".join([GENERATED, rf"\begin{{tabular}}{{{form}}}", r"\toprule", line(head),
                      r"\midrule", *map(line, rows), r"\bottomrule", r"\end{tabular}", ""])


def specifications() -> dict[str, dict[str, Any]]:
    """The tables of ``paper/tables.toml`` by name."""
    return tomllib.loads(TABLES.read_text())


def all_tables(profile: Profile) -> dict[str, Table]:
    """Every table for which there are results, or that needs none: ``{name: (head, rows)}``."""
    known = {name: results.load(name, profile) for name in results.names(profile)} | {None: {}}
    made = {name: table(spec, known[spec.get("experiment")])
            for name, spec in specifications().items() if spec.get("experiment") in known}
    return {name: (head, rows) for name, (head, rows) in made.items() if rows}


def table(spec: Mapping[str, Any], found: Mapping[str, Any]) -> Table:
    """Head and rows of a table of ``paper/tables.toml``, which explains ``spec``; ``found`` are the
    results of its experiment."""
    keys = flatten(found) if found else {}
    columns = [(*column, None)[:3] for column in spec.get("columns", ())]
    if "each" in spec:
        where, key = spec["each"]
        names = sorted(_at(found, where), key=lambda n: int(n) if n.isdigit() else math.inf)
        columns += [(name, key.replace("{column}", name), None) for name in names]

    def cell(row: str | Mapping[str, Any], key: str, rounded: str | None) -> Any:
        if isinstance(row, Mapping):
            value = row.get(key)
            return ("no", "yes")[value] if isinstance(value, bool) else value
        values = (keys.get(one.replace("{row}", row)) for one in key.split("|"))
        value = next((value for value in values if value is not None), None)
        return value if value is None or rounded is None else float(format(value, rounded))

    labels = METRICS | (found["curves"].get("labels", {}) if found else {})
    rows = []
    for row in _at(found, spec["rows"]) if isinstance(spec["rows"], str) else spec["rows"]:
        if isinstance(row, Mapping):
            label = row[spec["head"]]
        else:
            row, label = (row, labels.get(row, row)) if isinstance(row, str) else row
        cells = [cell(row, key, rounded) for _, key, rounded in columns]
        if any(value is not None for value in cells):
            rows.append([label, *cells])
    rows += [[label, keys.get(key)] for label, key in spec.get("last", ())]
    kept = [0, *(number for number in range(1, len(columns) + 1)
                 if any(row[number] is not None for row in rows))]
    lines = [[spec["head"], *(column[0] for column in columns)], *rows]
    head, *rows = [[line[number] for number in kept] for line in lines]
    return head, rows


def _at(found: Mapping[str, Any], where: str) -> Any:
    return reduce(lambda inner, key: inner.get(key, {}), where.split("/"), found)


def write_readme(path: Path, profile: Profile) -> None:
    """Refresh the blocks between ``<!-- generated: name -->`` and ``<!-- end -->``; a ResultsError
    for a marker that names a table which the results do not give."""
    made, specs = all_tables(profile), specifications()

    def fill(match: re.Match[str]) -> str:
        start, name, end = match.groups()
        if name not in made:
            raise ResultsError(f"{path.name}: no results for the block {name!r}")
        found = results.load(specs[name]["experiment"], profile)
        return (f"{start}\n{markdown_table(*made[name])}\n"
                f"Profile {found['profile']}, {found['data']} jets, commit {found['commit']}, "
                f"{str(found['created'])[:10]}, {found['machine']}"
                f"{', on jets of an earlier simulation' * bool(results.earlier(found))}.\n\n{end}")

    write_text(path, BLOCK.sub(fill, path.read_text()))
