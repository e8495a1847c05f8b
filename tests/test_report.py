"""Results, tables and figures."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest

from course import freshness, paper, tables
from lib import profiles
from lib.evaluation import metrics
from lib.evaluation.metrics import Predictions
from lib.files import DataError, read_npz, write_npz
from lib.report import contract, numbers, results
from lib.training.recipe import recipe


@pytest.fixture
def profile(monkeypatch, tmp_path):
    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    return profiles.get("smoke")


def predictions(separation: float, jets: int = 400, seed: int = 0) -> Predictions:
    random = np.random.default_rng(3)
    y = (random.random(jets) > 0.5).astype(np.float32)
    m = random.normal(120 + 60 * y, 30).clip(40).astype(np.float32)
    noise = np.random.default_rng(seed)
    score = 1 / (1 + np.exp(-noise.normal(separation * (2 * y - 1))))
    m_hat = m + noise.normal(0, 10, jets)
    return Predictions(np.arange(jets), y, score.astype("f4"), m, m_hat.astype("f4"))


def experiment(profile, name: str = "07_finetune") -> results.Experiment:
    made = results.Experiment(name, profile)
    for seed in (0, 1):
        made.add_run("scratch", predictions(1.5, seed=seed), seed=seed, parameters=1234,
                     labels=300, train_seconds=90.0)
    made.add_run("mass_only", predictions(0.7, seed=9), metrics=["accuracy", "auc"])
    made.compare("scratch", "mass_only", ["auc"])
    made.values = {"half": 0.5, "nothing": float("nan"), "shift": {"+5 %": 0.1}, "closure": [
        {"quantity": "m: mean (GeV)", "published": 142.8, "measured": np.float32(150.0),
         "tolerance": "±7%", "ok": True}]}
    made.curves["roc"] = {"signal": np.linspace(0, 1, 3)}
    return made


def test_published_metrics_can_be_recomputed_from_predictions(profile):
    experiment(profile).save()
    found = results.load("07_finetune", profile)
    saved = results.load_predictions("07_finetune", profile)
    for run, kept in zip(found["runs"], (*saved["scratch"], *saved["mass_only"]), strict=True):
        assert kept.score.dtype == np.float32
        again = metrics.evaluate(kept)
        assert run["metrics"] == pytest.approx({k: again[k] for k in run["metrics"]}, rel=1e-5)
    assert found["summary"]["scratch"]["auc"]["seeds"] == 2
    assert found["summary"]["mass_only"].keys() == {"accuracy", "auc"}
    row = found["comparisons"][0]
    assert (row["a"], row["b"], row["metric"]) == ("scratch", "mass_only", "auc")
    assert row["low"] < row["difference"] < row["high"]
    assert found["values"]["nothing"] is None
    assert found["machine"]
    assert found["commit"]


def test_saving_again_leaves_no_predictions_of_runs_that_are_gone(profile):
    experiment(profile).save()
    smaller = results.Experiment("07_finetune", profile)
    smaller.add_run("scratch", predictions(1.0))
    smaller.save()
    [left] = profile.results_dir.glob("*.npz")
    assert [left.name] == results.load("07_finetune", profile)["predictions"]
    assert list(results.load_predictions("07_finetune", profile)) == ["scratch"]


def test_what_runs_share_is_stored_once_and_what_was_swapped_is_noticed(profile):
    """Labels and masses of the test jets are those of every run; a column is known by content."""
    made = results.Experiment("07_finetune", profile)
    shared, seeds = predictions(1.0), 30
    for seed in range(seeds):
        made.add_run("one", dataclasses.replace(shared, score=predictions(1.0, seed=seed).score),
                     seed=seed)
    made.save()
    first, second = (profile.results_dir / file
                     for file in results.load("07_finetune", profile)["predictions"])
    columns = read_npz(first, "")
    assert len(columns | read_npz(second, "")) == len(shared.columns()) - 1 + seeds
    again = results.load_predictions("07_finetune", profile)["one"]
    assert again[-1].score.tolist() == predictions(1.0, seed=seeds - 1).score.tolist()
    path = first
    first, second, *_ = columns
    write_npz(path, columns | {first: columns[second]})
    with pytest.raises(DataError, match="not what its name says"):
        results.load_predictions("07_finetune", profile)


@pytest.mark.parametrize("writes", range(4))
def test_a_result_and_its_predictions_change_together_or_not_at_all(profile, monkeypatch, writes):
    """Stopped after any number of files, it is the result before, whole."""
    experiment(profile).save()
    before = results.load("07_finetune", profile)
    kept = [p.score.tolist() for p in results.load_predictions("07_finetune", profile)["scratch"]]
    after = results.Experiment("07_finetune", profile)
    for seed in range(12):  # scores and masses of each: two files
        after.add_run("scratch", predictions(2.0 + seed, seed=seed), seed=seed)

    done, replace = [], os.replace

    def stopped(*places):
        if len(done) == writes:
            raise KeyboardInterrupt
        done.append(replace(*places))

    monkeypatch.setattr(os, "replace", stopped)
    if writes < 3:
        with pytest.raises(KeyboardInterrupt):
            after.save()
        assert results.load("07_finetune", profile) == before
        now = results.load_predictions("07_finetune", profile)["scratch"]
        assert [p.score.tolist() for p in now] == kept
        monkeypatch.setattr(os, "replace", replace)
    after.save()
    assert len(list(profile.results_dir.glob("*.npz"))) == 2
    assert len(results.load("07_finetune", profile)["runs"]) == 12


def test_the_laptop_shows_a_grid_of_one_gpu_until_it_has_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    laptop, full = profiles.get("laptop"), profiles.get("full")
    for name in ("07_finetune", "07_finetune_grid"):
        made = results.Experiment(name, full)
        made.add_run("scratch", predictions(1.0))
        made.save()
    assert results.names(laptop) == ["07_finetune_grid"]  # what a notebook itself shows is its own
    assert results.grid("07_finetune", laptop)[0] is None
    shown, said = results.grid("07_finetune_grid", laptop)
    assert "full-simulated" in said
    assert results.load_predictions("07_finetune_grid", laptop)["scratch"]
    assert tables.numbers(laptop)["07_finetune_grid/meta/profile"] == "full"
    own = results.Experiment("07_finetune_grid", laptop)
    own.add_run("scratch", predictions(2.0))
    own.save()
    assert "laptop-simulated" in results.grid("07_finetune_grid", laptop)[1]
    assert results.load("07_finetune_grid", full) == shown


def test_missing_and_damaged_results_say_what_to_run(profile):
    with pytest.raises(results.ResultsError, match=r"--profile smoke --only 01$"):
        results.load("01_collisions", profile)
    profile.results_dir.mkdir(parents=True)
    (profile.results_dir / "01_collisions.json").write_text('{"experiment":')
    with pytest.raises(results.ResultsError, match="damaged"):
        results.load("01_collisions", profile)
    path = experiment(profile).save()
    endless = f'"train_seconds": 9{"0" * 400}'
    path.write_text(path.read_text().replace('"train_seconds": 90.0', endless))
    with pytest.raises(results.ResultsError, match="damaged"):
        results.load("07_finetune", profile)


# --- is it still true? ----------------------------------------------------------------------------

CELL = """# ---
# title: a notebook
# ---

# %% [markdown]
# Prose.

# %%
from lib.training.runs import train

# %% tags=["parameters"]
PROFILE = "smoke"

# %%
def measure(x):
    \"\"\"Doc.\"\"\"
    name = f"{x!r:>{8}} {{it's}} {'a' + 'b'}"  # why
    print(name)
    return [x + 1,
            name]


found = measure(2)

# %% tags=["figure"]
fig = draw(found)
"""


@pytest.fixture
def published(profile, monkeypatch, tmp_path):
    """A result of a clean commit and the source of its notebook."""
    source = tmp_path / "07_finetune.py"
    source.write_text(CELL)
    monkeypatch.setattr(results.measuring_cells, "__defaults__", (tmp_path,))
    monkeypatch.setattr(results.provenance, "commit", lambda: "abc")
    monkeypatch.setattr(freshness, "is_past", lambda made: made == "abc")
    experiment(profile, "07_finetune_grid").save()
    assert freshness.check(profile) == []
    return source


@pytest.mark.parametrize(("old", "new"), [
    ("Prose", "Better prose"),
    ("lib.training.runs", "lib.runs"),  # a module was renamed
    ("from lib.training.runs import train", "from lib import runs\nfrom lib.fit import train"),
    ("  # why", ""),
    ("Doc.", "Documentation."),
    ("print(name)", "print(name, x)"),
    ("[x + 1,\n            name]", "[\n        x + 1, name]"),
    ('"smoke"', '"laptop"'),
    ("fig = draw(found)", "fig = draw(found, colour=1)"),
    ('\n# %% tags=["figure"]', '\n# %%\n# More.\n\n# %% tags=["figure"]'),
])
def test_what_does_not_measure_makes_nothing_stale(published, profile, old, new):
    assert old in CELL
    published.write_text(CELL.replace(old, new))
    assert freshness.check(profile) == []


@pytest.mark.parametrize(("old", "new"), [
    ("x + 1", "x + 2"), ("measure(2)", "measure(3)"), ("{8}", "{9}"), ("it's", "it is"),
    ("    return", "        return"),
])
def test_a_cell_that_measures_makes_its_grid_stale(published, profile, old, new):
    published.write_text(CELL.replace(old, new))
    found = freshness.check(profile)
    assert found == ["smoke-simulated/07_finetune_grid: stale, a cell of notebook 07 that measures "
                     "has changed since"]


def test_a_new_field_of_a_profile_makes_nothing_stale(published, profile):
    @dataclasses.dataclass(frozen=True)
    class Wider(profiles.Profile):
        colour: str = "blue"

    assert freshness.check(Wider(**vars(profile))) == []


def test_cells_have_the_same_hash_in_every_python(published):
    """The number was computed with 3.11; 3.12 and later cut f-strings into pieces."""
    assert results.measuring_cells("07_finetune") == "de74c1fe923c423b"
    function = inspect.getsource(results.statements)
    code = "import io, tokenize\nfrom typing import Iterator\n" + function
    code += f"print(list(statements({CELL!r})))"
    wanted = repr(list(results.statements(CELL)))
    for version in range(10, 16):
        if python := shutil.which(f"python3.{version}"):
            run = subprocess.run([python, "-c", code], capture_output=True, text=True)
            assert run.returncode != 0 or run.stdout.strip() == wanted, python


def test_a_raised_version_is_named_by_the_results_that_used_it(profile, monkeypatch):
    results.Experiment("01_collisions", profile, uses=["encoding", "augment.f*"]).save()
    experiment(profile).save()
    known = contract.golden()
    known["fit"]["version"] += 1
    del known["shifts"]
    monkeypatch.setattr(contract, "golden", lambda: known)
    found = "\n".join(freshness.check(profile))
    assert "07_finetune: stale, changed since: fit (version 1, now 2), shifts (v" in found
    assert "01_collisions: stale" not in found


def test_a_grid_of_an_earlier_simulation_says_so_and_is_not_stale(published, profile, monkeypatch):
    known = contract.golden()
    known["sample.top_qcd"]["version"] += 1
    monkeypatch.setattr(contract, "golden", lambda: known)
    experiment(profile).save()
    assert freshness.check(profile) == []
    known["sample.top_qcd"]["version"] += 1  # new jets, after both were made
    known["fit"]["version"] += 1
    found = results.load("07_finetune_grid", profile)
    assert "sample.top_qcd" in results.earlier(found)
    assert "of an earlier simulation" in results.whence(found)
    assert tables.flatten(found)["meta/jets"] == "an earlier simulation"
    (problem,) = freshness.check(profile)
    assert "07_finetune: stale, changed since: fit (version 1, now 2), sample.top_qcd" in problem
    (profile.results_dir / found["predictions"][0]).unlink()
    said = "\n".join(freshness.check(profile))
    assert found["predictions"][0] in said
    assert "missing" in said


def test_check_finds_uncommitted_code_and_predictions_that_say_something_else(profile):
    path = experiment(profile).save()
    content = json.loads(path.read_text())
    content["commit"] += "-dirty"
    content["runs"][1]["metrics"]["auc"] += 1e-3
    path.write_text(json.dumps(content))
    found = "\n".join(freshness.check(profile))
    assert "uncommitted code" in found
    assert "scratch, seed 1: predictions give another auc" in found
    damaged = profile.results_dir / content["predictions"][0]
    whole = damaged.read_bytes()
    damaged.unlink()
    assert f"{damaged.name}: is missing" in "\n".join(freshness.check(profile))
    for size in (0, 10, 300):
        damaged.write_bytes(whole[:size])
        assert f"{damaged.name}: is damaged" in "\n".join(freshness.check(profile))
    (profile.results_dir / "02_sparsity.json").write_text("{")
    assert "02_sparsity.json: is damaged" in "\n".join(freshness.check(profile))


def test_a_shallow_clone_knows_what_it_can(tmp_path, monkeypatch):
    def git(*arguments, cwd):
        run = subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@x", *arguments],
                             cwd=cwd, capture_output=True, text=True, check=True)
        return run.stdout.strip()

    whole, shallow = tmp_path / "whole", tmp_path / "shallow"
    git("init", "-q", str(whole), cwd=tmp_path)
    commits = []
    for number in range(3):
        git("commit", "-q", "--allow-empty", "-m", str(number), cwd=whole)
        commits.append(git("rev-parse", "--short=12", "HEAD", cwd=whole))
    git("clone", "-q", "--depth=1", whole.as_uri(), str(shallow), cwd=tmp_path)
    for folder, unknown in ((whole, False), (shallow, True)):
        monkeypatch.setattr(results.provenance, "ROOT", folder)
        assert freshness.is_past(commits[0])
        assert freshness.is_past(commits[2])
        assert freshness.is_past("0123456789ab") == unknown


# --- numbers and tables ---------------------------------------------------------------------------


@pytest.mark.parametrize(("row", "text"), [
    ({"mean": 0.93123, "low": 0.9251, "high": 0.9371}, "0.931 [0.925, 0.937]"),
    ({"mean": 0.93123, "low": 0.9298, "high": 0.9326}, "0.9312 [0.9298, 0.9326]"),
    ({"difference": -0.00001, "low": -0.02, "high": 0.02}, "0.000 [-0.020, 0.020]"),
    ({"mean": 251.7, "low": 180.2, "high": 320.1}, "252 [180, 320]"),
    ({"difference": 0.61, "low": -0.027, "high": 1.253}, "0.61 [-0.03, 1.25]"),
    ({"difference": 0.61, "low": 0.0, "high": 1.22}, "0.6 [0.0, 1.2]"),
    ({"mean": 0.5, "low": None, "high": None}, "0.5"),
])
def test_digits_follow_the_interval(row, text):
    assert numbers.with_interval(row) == text


def test_numbers_are_plain():
    shown = [numbers.format_number(x) for x in (12345, 12345.0, 0.00001234, 0.98797, None, True)]
    assert shown == ["12,345", "12,345", "0.000012", "0.988", "–", "True"]


@pytest.mark.parametrize(("metric", "low", "high", "said"), [
    ("auc", 0.1, 0.2, "ahead"), ("auc", -0.2, -0.1, "behind"), ("auc", -0.1, 0.1, "cannot"),
    ("mass_mae", 0.1, 0.2, "behind"), ("loss_class", -0.2, -0.1, "ahead"),
    (None, 0.1, 0.2, "ahead"),
    ("auc", 0.0, 0.2, "cannot"),
])
def test_a_verdict_follows_the_interval_and_what_is_better(metric, low, high, said):
    row = {"low": low, "high": high} | ({"metric": metric} if metric else {})
    assert numbers.verdict(row).startswith(said)


def test_differences_are_found_by_system_and_by_metric():
    rows = [{"a": a, "b": b, "metric": m} for a, b, m in (
        ("x", "ours", "auc"), ("x", "ours", "mass_mae"), ("y", "ours", "auc"), ("y", "x", "auc"))]
    found = {"comparisons": rows}
    assert numbers.against(found, "ours") == {"x": rows[0], "y": rows[2]}
    assert numbers.gap(found, "x", "ours") == {"auc": rows[0], "mass_mae": rows[1]}


def test_keys_reach_every_number(profile):
    experiment(profile).save()
    found = tables.numbers(profile)
    for key in ("scratch/auc", "scratch/parameters", "scratch/train_minutes", "scratch/test_jets",
                "values/half",
                "scratch-mass_only/auc", "closure/m_mean_gev", "closure/within", "meta/commit"):
        assert f"07_finetune/{key}" in found
    assert found["profile/model/dim"] == recipe("scratch", profile).model["dim"]


def test_unknown_key_is_found_before_latex(profile, tmp_path):
    experiment(profile).save()
    text = tmp_path / "main.tex"
    text.write_text("\\result{07_finetune/scratch/auc} % \\result{07_finetune/no/auc}\n")
    assert tables.check_keys(text, profile) == ["07_finetune/scratch/auc"]
    text.write_text("\\resultvalue{07_finetune/scratch/acu}\n")
    with pytest.raises(results.ResultsError, match="no result '07_finetune/scratch/acu'"):
        tables.check_keys(text, profile)
    text.write_text("\\result{02_sparsity/values/zeros}\n")
    with pytest.raises(results.ResultsError, match="--only 02"):
        tables.check_keys(text, profile)
    text.write_text("\\includegraphics[width=1cm]{07_roc}\n")
    with pytest.raises(results.ResultsError, match=r"no figure 07_roc\.pdf"):
        tables.check_keys(text, profile)


@pytest.mark.skipif(not paper.has_latex(), reason="LaTeX is not installed")
@pytest.mark.parametrize(("key", "good"), [("07_finetune/scratch/auc", True), ("a/b/c", False)])
def test_unknown_key_stops_latex(profile, tmp_path, key, good):
    experiment(profile).save()
    tables.write_latex(tmp_path / "generated", profile, {"07_finetune/scratch/auc"})
    body = f"\\result{{{key}}} \\input{{generated/systems}}"
    text = (paper.SOURCE / "main.tex").read_text()
    macros = re.search(r"\\makeatletter.*?\\makeatother", text, re.DOTALL)[0]
    (tmp_path / "t.tex").write_text(
        f"\\documentclass{{article}}\\usepackage{{siunitx,booktabs}}{macros}"
        f"\\input{{generated/results}}\\begin{{document}}{body}\\end{{document}}"
    )
    run = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
                         cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode == 0) == good
    assert good or "There is no result 'a/b/c'" in run.stdout


def test_latex_missing_leaves_tables_and_says_the_command(profile, monkeypatch):
    experiment(profile).save()
    monkeypatch.setattr(paper, "has_latex", lambda: False)
    monkeypatch.setattr(tables, "check_keys", lambda *_: [])
    monkeypatch.setenv("JETS_LATEX_COMMAND", "sudo apt-get install latexmk")
    with pytest.raises(paper.LatexMissing, match=r"^sudo apt-get install latexmk$"):
        paper.build(profile)
    assert (profile.paper_dir / "generated/systems.tex").exists()


def test_names_do_not_break_latex(profile):
    """A per cent sign in a key would comment out the rest of its line."""
    experiment(profile).save()
    keys = tables.numbers(profile)
    assert keys["07_finetune/shift/+5 percent"] == 0.1
    assert not [key for key in keys if set(key) & set("#$&~^\\{}%")]


def test_text_is_escaped_for_latex():
    assert tables.escape("50 % of a_b & ±2") == r"50 \% of a\_b \& $\pm$2"
    table = tables.latex_table(["x", "n"], [["a_b", {"mean": 0.5, "low": 0.4, "high": 0.6}]])
    assert r"a\_b & \num{0.50}~[\num{0.40},~\num{0.60}] \\" in table


def test_readme_blocks_are_refreshed_and_unknown_ones_refused(profile, tmp_path):
    experiment(profile).save()
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- generated: systems -->\nold\n<!-- end -->\nb\n")
    tables.write_readme(readme, profile)
    tables.write_readme(readme, profile)
    text = readme.read_text()
    assert text.startswith("a\n<!-- generated: systems -->\n")
    assert text.endswith("<!-- end -->\nb\n")
    assert "old" not in text
    assert text.count("| AUC |") == 1
    readme.write_text("<!-- generated: nonsense -->\n<!-- end -->\n")
    with pytest.raises(results.ResultsError, match="nonsense"):
        tables.write_readme(readme, profile)
