"""Results, tables and figures."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest

from course import paper, tables
from lib import profiles
from lib.evaluation import metrics
from lib.evaluation.metrics import Predictions
from lib.report import numbers, results


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
    for run in found["runs"]:
        kept = Predictions.load(profile.results_dir / run["predictions"])
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
    assert [p.name for p in profile.results_dir.glob("*.npz")] == ["07_finetune.scratch.0.npz"]


def test_missing_and_damaged_results_say_what_to_run(profile):
    with pytest.raises(results.ResultsError, match=r"--profile smoke --only 01$"):
        results.load("01_collisions", profile)
    profile.results_dir.mkdir(parents=True)
    (profile.results_dir / "01_collisions.json").write_text('{"experiment":')
    with pytest.raises(results.ResultsError, match="damaged"):
        results.load("01_collisions", profile)


def test_check_finds_stale_results_and_uncommitted_code(profile):
    path = experiment(profile).save()
    content = json.loads(path.read_text())
    content["commit"] += "-dirty"
    content["code"]["lib.evaluation.metrics"] = "another"
    (profile.results_dir / content["runs"][0]["predictions"]).unlink()
    path.write_text(json.dumps(content))
    found = "\n".join(results.check(profile))
    assert "uncommitted code" in found
    assert "stale, changed since: lib.evaluation.metrics" in found
    assert "07_finetune.scratch.0.npz is missing" in found


def test_comments_and_docstrings_do_not_make_a_result_stale(tmp_path):
    one, other, changed = (tmp_path / f"{n}.py" for n in "abc")
    one.write_text('"""Old."""\ndef f(x):\n    """Doc."""\n    return x + 1\n')
    other.write_text("def f(x):\n    # why\n    return (x + 1)\n")
    changed.write_text("def f(x):\n    return x + 2\n")
    assert results._hash_file(one) == results._hash_file(other) != results._hash_file(changed)


# --- numbers and tables ---------------------------------------------------------------------------


@pytest.mark.parametrize(("row", "text"), [
    ({"mean": 0.93123, "low": 0.9251, "high": 0.9371}, "0.931 [0.925, 0.937]"),
    ({"mean": 0.93123, "low": 0.9298, "high": 0.9326}, "0.9312 [0.9298, 0.9326]"),
    ({"difference": -0.00001, "low": -0.02, "high": 0.02}, "0.000 [-0.020, 0.020]"),
    ({"mean": 251.7, "low": 180.2, "high": 320.1}, "252 [180, 320]"),
    ({"mean": 0.5, "low": None, "high": None}, "0.5"),
])
def test_digits_follow_the_interval(row, text):
    assert numbers.with_interval(row) == text


def test_numbers_are_plain():
    shown = [numbers.format_number(x) for x in (12345, 12345.0, 0.00001234, 0.98797, None, True)]
    assert shown == ["12,345", "12,345", "0.000012", "0.988", "–", "True"]


def test_keys_reach_every_number(profile):
    experiment(profile).save()
    found = tables.numbers(profile)
    for key in ("scratch/auc", "scratch/parameters", "scratch/train_minutes", "scratch/test_jets",
                "values/half",
                "scratch-mass_only/auc", "closure/m_mean_gev", "closure/within", "meta/commit"):
        assert f"07_finetune/{key}" in found
    assert found["profile/model/dim"] == profile.model["dim"]


def test_unknown_key_is_found_before_latex(profile, tmp_path):
    experiment(profile).save()
    text = tmp_path / "main.tex"
    text.write_text("\\result{07_finetune/scratch/auc} % \\result{07_finetune/no/auc}\n")
    tables.check_keys(text, profile)
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
    tables.write_latex(tmp_path / "generated", profile)
    body = f"\\result{{{key}}} \\input{{generated/systems}}"
    (tmp_path / "t.tex").write_text(
        "\\documentclass{article}\\usepackage{siunitx,booktabs}\\input{generated/results}"
        f"\\begin{{document}}{body}\\end{{document}}"
    )
    run = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
                         cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode == 0) == good
    assert good or "There is no result 'a/b/c'" in run.stdout


def test_latex_missing_leaves_tables_and_says_the_command(profile, monkeypatch):
    experiment(profile).save()
    monkeypatch.setattr(paper, "has_latex", lambda: False)
    monkeypatch.setattr(tables, "check_keys", lambda *_: None)
    monkeypatch.setenv("JETS_LATEX_COMMAND", "sudo apt-get install latexmk")
    with pytest.raises(paper.LatexMissing) as caught:
        paper.build(profile)
    assert caught.value.command == "sudo apt-get install latexmk"
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
