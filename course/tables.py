"""From results to tables: LaTeX for the report, Markdown for the README.

Every measured number in the report is ``\\result{experiment/name/metric}``, looked up in
``generated/results.tex``; a key that does not exist stops the build. ``\\resultvalue`` leaves the
interval out, ``\\resultpercent`` gives a fraction in per cent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from course import tables_pretraining
from lib.files import write_text
from lib.models.vit import ViTConfig
from lib.profiles import Profile
from lib.report import results
from lib.report.numbers import METRICS, decimals, entry, format_number, markdown_table
from lib.report.results import ResultsError
from lib.training.optim import FitSettings

KEYS = re.compile(r"\\result(?:value|percent)?\{([^}#]+)\}")
BLOCK = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

# Columns and rows of the main table.
SYSTEMS = {
    "scratch": "JetViT, from scratch",
    "boosted_trees": "boosted trees",
    "mass_only": "jet mass alone",
    "mean": "mean mass",
}

# Published results on the 10,000 labelled jets of the public set: one seed each, no interval.
# Source of each row: a citation key of paper/references.bib.
PUBLISHED = [
    ("L2ViT with LCM, SimCLR pretraining", "bastille2026linearvit", "0.9060", "0.9656", "15.83"),
    ("L2ViT with LCM, from scratch", "bastille2026linearvit", "0.8910", "0.9578", "17.20"),
    ("L2ViT with LCM, MAE pretraining", "bastille2026linearvit", "0.8605", "–", "–"),
    ("ResNet-15, 3.2 million jets", "andrews2021top", "–", "0.9824", "–"),
]


# --- numbers --------------------------------------------------------------------------------------


def flatten(found: Mapping[str, Any]) -> dict[str, Any]:
    """Every number of an experiment by its key without the experiment's name: rows with or
    without interval, plain numbers, text."""
    keys: dict[str, Any] = {}
    for name, metrics in found["summary"].items():
        for metric, row in metrics.items():
            keys[f"{name}/{metric}"] = row
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
            for inner in value:  # rows such as those of the closure table
                if isinstance(inner, Mapping) and "quantity" in inner:
                    keys[f"{prefix}/{slug(inner['quantity'])}"] = inner.get("measured")
            verdicts = [x["ok"] for x in value if isinstance(x, Mapping) and "ok" in x]
            if verdicts:
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
    settings = {"model": ViTConfig(**profile.model), "train": FitSettings(**profile.train)}
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


def _tex(value: Any, digits: int | None = None) -> str:
    if value is None:
        return "--"
    if isinstance(value, bool | str):
        return escape(str(value))
    return rf"\num{{{format_number(value, digits).replace(',', '')}}}"


def tex_number(value: Any, interval: bool = True, scale: float = 1.0) -> str:
    """A value, with its interval where it has one, as LaTeX with siunitx's ``\\num``."""
    found = entry(value) if isinstance(value, Mapping) else (value, None, None)
    middle, low, high = found or (None, None, None)
    if scale != 1.0 and isinstance(middle, int | float):
        middle, low, high = (None if x is None else x * scale for x in (middle, low, high))
    if low is None or high is None:
        return _tex(middle)
    digits = decimals(low, high)
    if not interval:
        return _tex(middle, digits)
    return rf"{_tex(middle, digits)}~[{_tex(low, digits)},~{_tex(high, digits)}]"


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
    folder.mkdir(parents=True, exist_ok=True)
    lines = [_MACROS]
    for key, value in sorted(numbers(profile).items()):
        lines.append(rf"\results@set{{result}}{{{key}}}{{{tex_number(value)}}}")
        lines.append(rf"\results@set{{resultvalue}}{{{key}}}{{{tex_number(value, False)}}}")
        inner = entry(value)[0] if isinstance(value, Mapping) and entry(value) else value
        if isinstance(inner, float) and 0 <= inner <= 1:
            percent = tex_number(value, False, 100)
            lines.append(rf"\results@set{{resultpercent}}{{{key}}}{{{percent}\,\%}}")
    lines.append("\\makeatother")
    _write(folder / "results.tex", "\n".join(lines) + "\n")
    for name, (head, rows) in all_tables(profile).items():
        _write(folder / f"{name}.tex", latex_table(head, rows))


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


def all_tables(profile: Profile) -> dict[str, tuple[list[str], list[list[Any]]]]:
    """Every table whose experiment has results: ``{name: (head, rows)}``."""
    found: dict[str, tuple[list[str], list[list[Any]]]] = {}
    present = results.names(profile)
    if "01_collisions" in present:
        found["closure"] = closure_table(results.load("01_collisions", profile))
    if "07_finetune" in present:
        found["systems"] = systems_table(results.load("07_finetune", profile))
    if "08_comparison_grid" in present:
        grid = results.load("08_comparison_grid", profile)
        found["comparison"], found["ingredients"] = comparison_table(grid), ingredients_table(grid)
    found |= tables_pretraining.tables(profile)
    found["published"] = (
        ["system", "accuracy", "AUC", "mass MAE (GeV)"],
        [[name, *values] for name, _, *values in PUBLISHED],
    )
    if results.TIMES in present:
        values = results.load(results.TIMES, profile)["values"]
        found["times"] = (["notebook", "minutes"], [
            *([name, round(minutes, 1)] for name, minutes in values["minutes"].items()),
            ["together", values["total_minutes"]],
        ])
    return found


def closure_table(found: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Published against simulated, one row a quantity."""
    rows = [
        [row["quantity"], row["published"], row["measured"], str(row["tolerance"]),
         "yes" if row["ok"] else "no"]
        for row in found["values"]["closure"]
    ]
    return ["quantity", "published", "simulated", "tolerance", "within"], rows


def systems_table(found: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Metrics against systems, value with interval; what a system cannot say is a dash. Arms that
    start from a pretrained backbone (``finetune_…``) are left to tables of their own."""
    summary = found["summary"]
    chosen = [name for name in SYSTEMS if name in summary]
    chosen += [name for name in summary if name not in SYSTEMS and "finetune" not in name]
    metrics = [m for m in METRICS if any(m in summary[name] for name in chosen)]
    rows = [[METRICS[m], *(summary[name].get(m) for name in chosen)] for m in metrics]
    return ["", *(SYSTEMS.get(name, name) for name in chosen)], rows


def _against_ours(found: Mapping[str, Any], name: str, metric: str) -> Mapping[str, Any] | None:
    """The one comparison of a system: with ours, or with ours after as many updates."""
    for row in found["comparisons"]:
        if (row["a"], row["metric"]) == (name, metric):
            return row
    return None


def comparison_table(found: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Systems of the grid: size, price of a training step, quality, difference to ours."""
    rows = []
    for name in found["curves"]["systems"]:
        cost = found["values"]["cost"].get(name, {})
        metrics = found["summary"][name]
        rows.append([
            found["curves"]["labels"][name], cost.get("parameters"),
            *(None if x is None else float(f"{x:.2g}") for x in map(cost.get, ("gflop", "ratio"))),
            metrics["auc"], metrics.get("mass_mae"), _against_ours(found, name, "auc")])
    return ["system", "parameters", "GFLOP / jet", "speed", "AUC", "mass MAE (GeV)",
            "AUC − ours"], rows


def ingredients_table(found: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """What a change to our model does, paired."""
    rows = [[found["curves"]["labels"][name],
             *(_against_ours(found, name, metric) for metric in ("auc", "mass_mae"))]
            for name in found["curves"]["changes"]]
    return ["change", "AUC − ours", "mass MAE − ours (GeV)"], rows


# --- the README -----------------------------------------------------------------------------------


def is_published(profile: Profile) -> bool:
    """Whether README and report quote this profile: the default one."""
    return profile.tag == "laptop-simulated" and profile.paper_dir.parent == results.ROOT


def readme_blocks(profile: Profile) -> dict[str, str]:
    """The generated parts of the README by the name in their marker."""
    blocks = {}
    for name, (head, rows) in all_tables(profile).items():
        blocks[name] = markdown_table(head, rows)
        source = {"systems": "07_finetune", "closure": "01_collisions", "times": results.TIMES,
                  "comparison": "08_comparison_grid", "ingredients": "08_comparison_grid",
                  **{k: v for k, (v, _) in tables_pretraining.MAKERS.items()}}
        if name in source:
            found = results.load(source[name], profile)
            blocks[name] += (
                f"\nProfile {profile.name}, {profile.data} jets, commit {found['commit']}, "
                f"{str(found['created'])[:10]}, {found['machine']}.\n"
            )
    return blocks


def write_readme(path: Path, profile: Profile) -> None:
    """Refresh the blocks between ``<!-- generated: name -->`` and ``<!-- end -->``.

    Raises:
        ResultsError: a marker names a table that the results do not give.
    """
    blocks = readme_blocks(profile)

    def fill(match: re.Match[str]) -> str:
        if match[2] not in blocks:
            raise ResultsError(f"{path.name}: no results for the block {match[2]!r}")
        return match[1] + "\n" + blocks[match[2]] + "\n" + match[3]

    _write(path, BLOCK.sub(fill, path.read_text()))


def _write(path: Path, text: str) -> None:
    if path.is_file() and path.read_text() == text:
        return
    write_text(path, text)
