"""Tables of paper/tables.toml: rows that exist, differences to the right arm, dashes elsewhere."""

import re

import pytest

from course import tables
from lib.profiles import ROOT

SPECS = tables.specifications()
EMPTY = dict.fromkeys(("commit", "created", "machine", "profile", "data"), "") | {
    "runs": [], "summary": {}, "comparisons": [], "values": {}, "curves": {}}


def row(x):
    return {"mean": x, "low": x - 0.01, "high": x + 0.01}


def gap(a, b, x, metric="auc"):
    return {"a": a, "b": b, "metric": metric, "difference": x, "low": x - 0.01, "high": x + 0.01}


def test_claims_are_rows_with_budget_and_answer():
    claim = {"claim": "SimCLR adds 1.5 points", "published": 0.015, "matters": 0.0075,
             "budget": "one pass, 3 seeds", "interval": "0.001 [-0.004, 0.006]", "answer": "no"}
    head, rows = tables.table(SPECS["claims"], EMPTY | {"values": {"claims": [claim]}})
    assert head == ["claim", "R1", "would matter", "budget", "ours", "answer"]
    assert rows == [list(claim.values())]
    assert tables.latex_table(head, rows).count(r"\\") == 2


def test_efficiency_has_a_column_for_each_number_of_labels():
    curves = {"scratch": {"all": {"auc": row(0.9)}, "1000": {"auc": row(0.85)},
                          "100": {"auc": row(0.8)}}, "linear": {"100": {"auc": row(0.85)}}}
    found = EMPTY | {"values": {
        "labels": {"all": 5400, "1000": 1000, "100": 100}, "curves": curves,
        "gains": {"simclr": {"all": {"auc": gap("", "", 0.01)}}}}}
    head, rows = tables.table(SPECS["efficiency"], found)
    assert head == ["labels", "100", "1000", "all"]  # however the results list them
    assert rows[1][1:] == [row(0.8), row(0.85), row(0.9)]
    assert rows[0][2] is None
    assert tables.table(SPECS["gains"], found)[1] == [["SimCLR, our views", gap("", "", 0.01)]]


def test_probes_are_set_against_the_reference_named_in_the_head():
    found = {"summary": {"random": {"auc": row(0.8)}, "e": {"auc": row(0.85)}},
             "comparisons": [gap("e", "random", 0.05), gap("e", "a", 0.01)]}
    head, rows = tables.table(SPECS["masked"], EMPTY | found)
    assert head[-1] == "minus random weights"
    assert [r[2] and r[2]["difference"] for r in rows] == [None, 0.05]


def test_systems_are_columns_and_those_without_results_are_left_out():
    summary = {name: {"auc": {"mean": 0.9, "low": None, "high": None}}
               for name in ("finetune_mae", "scratch", "mean")}
    assert tables.table(SPECS["systems"], EMPTY | {"summary": summary}) == (
        ["", "JetViT, from scratch", "mean mass"],
        [["AUC", summary["scratch"]["auc"], summary["mean"]["auc"]]])


def test_the_closure_table_says_yes_and_no():
    quantity = {"quantity": "zeros", "kind": "fitted", "published": 0.99, "measured": 0.98,
                "tolerance": "±0.02", "pull": -1.0}
    _, rows = tables.table(SPECS["closure"], EMPTY | {"values": {"closure": [
        {**quantity, "ok": True}, {**quantity, "ok": False}]}})
    assert [r[-1] for r in rows] == ["yes", "no"]
    assert rows[0][:4] == ["zeros", "fitted", 0.99, 0.98]


def test_a_new_table_is_one_entry(monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "TABLES", tmp_path / "tables.toml")
    tables.TABLES.write_text("""
        [toy]
        experiment = "06_toy"
        head = "arm"
        rows = [["a", "first arm"], ["b", "second arm"]]
        columns = [["AUC", "{row}/auc"]]
    """)
    found = EMPTY | {"summary": {"a": {"auc": row(0.8)}}}
    assert tables.table(tables.specifications()["toy"], found) == (
        ["arm", "AUC"], [["first arm", row(0.8)]])


@pytest.mark.parametrize("text", ["README.md", "paper"])
def test_every_table_in_use_has_an_entry(text):
    if text == "README.md":
        used = re.findall(r"<!-- generated: (\S+) -->", (ROOT / text).read_text())
    else:
        sources = [ROOT / "paper/main.tex", *(ROOT / "paper/sections").glob("*.tex")]
        used = re.findall(r"\\input\{generated/(\w+)\}",
                          "".join(path.read_text() for path in sources))
    assert used
    assert set(used) - {"results", "ledger"} <= set(SPECS)  # those have code of their own


def test_wide_tables_put_intervals_below_values():
    rows = [["a", *[row(0.9)] * 5]]
    wide = tables.latex_table(list("abcdef"), rows)
    assert wide.count(r"\stacked{") == 5
    assert r"\stacked" not in tables.latex_table(list("abcde"), [rows[0][:5]])
    assert r"\newcommand{\stacked}[3]" in (ROOT / "paper/main.tex").read_text()


def test_the_report_says_how_long_each_grid_took(monkeypatch):
    found = {"05_mae_grid": [(0, 60.0), (1, 60.0), (0, 60.0), (0, None)],  # the third: the first
             "08_comparison_grid": [(0, 7200.0)], "07_finetune": [(0, 60.0)],
             "04_simclr_grid": [(0, None)]}
    monkeypatch.setattr(tables.results, "names", lambda profile: list(found))
    monkeypatch.setattr(tables.results, "load", lambda name, profile: {
        "runs": [{"seed": seed, "train_seconds": seconds} for seed, seconds in found[name]]})
    assert tables.grids(None) == (r"2 minutes for the 2 runs of 05\_mae\_grid, "
                                  r"2.0 hours for the 1 runs of 08\_comparison\_grid")
