"""Tables of pretraining: rows that exist, differences to the right arm, dashes elsewhere."""

from course import tables, tables_pretraining
from lib.report import numbers


def row(x):
    return {"mean": x, "low": x - 0.01, "high": x + 0.01}


def gap(a, b, x, metric="auc"):
    return {"a": a, "b": b, "metric": metric, "difference": x, "low": x - 0.01, "high": x + 0.01}


def test_finetuned_arms_are_set_against_scratch_of_their_own_recipe():
    names = ("scratch", "finetune_simclr", "r1_scratch", "r1_finetune")
    found = {"summary": {n: {"auc": row(0.9), "accuracy": row(0.8)} for n in names},
             "comparisons": [gap("finetune_simclr", "scratch", 0.03),
                             gap("r1_finetune", "r1_scratch", -0.02),
                             gap("r1_finetune", "scratch", 0.5)]}
    head, rows = tables_pretraining.finetuned(found)
    assert [r[0] for r in rows] == [tables_pretraining.START[n] for n in names]
    assert [r[head.index("AUC − scratch")] and r[4]["difference"] for r in rows] == [
        None, 0.03, None, -0.02]
    text = numbers.markdown_table(head, rows)
    assert "0.030 [0.020, 0.040]" in text
    assert tables.latex_table(head, rows).count(r"\\") == 1 + len(names)


def test_efficiency_has_a_column_for_each_number_of_labels():
    curves = {"scratch": {"100": {"auc": row(0.8)}, "all": {"auc": row(0.9)}},
              "linear": {"100": {"auc": row(0.85)}}}
    found = {"values": {"labels": {"100": 100, "all": 5400}, "curves": curves,
                        "gains": {"simclr": {"100": {"auc": gap("", "", 0.01)}}}}}
    head, rows = tables_pretraining.efficiency(found)
    assert head == ["labels", "100", "all"]
    assert rows[0][1:] == [row(0.8), row(0.9)]
    assert rows[1][2] is None
    _, rows = tables_pretraining.gains(found)
    assert rows == [["SimCLR", gap("", "", 0.01), None]]


def test_probes_are_set_against_the_reference_named_in_the_head():
    found = {"summary": {"random": {"auc": row(0.8)}, "e": {"auc": row(0.85)}},
             "comparisons": [gap("e", "random", 0.05), gap("e", "a", 0.01)]}
    head, rows = tables_pretraining.probed(found, tables_pretraining.MASKED, "random")
    assert head[-1] == "minus random weights"
    assert [r[2] and r[2]["difference"] for r in rows] == [None, 0.05]
