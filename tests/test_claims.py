"""What notebook 07 says of claims: chance in closed form, and its figures."""

from __future__ import annotations

import ast

import numpy as np
import pytest
from scipy.stats import binom, norm, rankdata

from lib.evaluation import metrics
from lib.evaluation.metrics import Predictions
from lib.profiles import ROOT
from lib.report import numbers

SOURCE = ROOT / "notebooks" / "07_finetune.py"


@pytest.fixture
def shown() -> dict:
    """The functions that the notebook defines, without running the notebook."""
    tree = ast.parse(SOURCE.read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)
                 and not node.decorator_list]
    space = {"np": np, "norm": norm, "rankdata": rankdata, "N": 2000,
             "rng": np.random.default_rng(0), **vars(numbers), "numbers": numbers, "Markdown": str,
             "LABEL": {"finetune_simclr": "SimCLR", "scratch": "scratch"},
             "FIVE": {k: k for k in ("accuracy", "auc", "mass_mae", "mass_mse", "loss_class")}}
    exec(compile(ast.Module(functions, []), str(SOURCE), "exec"), space)
    return space


def two(jets: int = 4000) -> list[Predictions]:
    random = np.random.default_rng(3)
    y = (random.random(jets) > 0.5).astype("f4")
    common = 2 * y - 1 + random.normal(0, 1, jets)
    m = random.normal(120, 30, jets).astype("f4")
    return [Predictions(np.arange(jets), y,
                        (1 / (1 + np.exp(-common - random.normal(0, 0.3, jets)))).astype("f4"),
                        m, (m + random.normal(0, 9, jets)).astype("f4")) for _ in range(2)]


def test_the_auc_by_ranks_is_the_library_s(shown):
    for p in two():
        assert shown["auc_by_ranks"](p.y, p.score) == pytest.approx(metrics.auc(p.y, p.score))


def test_kinds_of_jets_give_the_difference_in_accuracy(shown):
    a, b = two()
    only_a, only_b, rest = shown["kinds"](a, b)
    assert only_a + only_b + rest == len(a)
    expected = metrics.evaluate(a)["accuracy"] - metrics.evaluate(b)["accuracy"]
    assert (only_a - only_b) / len(a) == pytest.approx(expected)
    with pytest.raises(AssertionError):
        shown["kinds"](a, b.where(slice(None, None, -1)))


def test_the_closed_form_agrees_with_the_exact_sum_over_disagreements(shown):
    """Of N jets K ~ B(N, q) are disputed, and of these B(K, 1/2) go to a."""
    q, n = 0.04, 2000
    k = np.arange(n + 1)
    for gain in (0.0025, 0.0075, 0.0125):
        need = np.ceil((k + gain * n - 1e-9) / 2)
        exact = (binom.pmf(k, n, q) * binom.sf(need - 1, k, 0.5)).sum()
        assert shown["closed_form"](gain, q) == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize("left", [1.0, 0.8])
def test_small_tests_scatter_as_the_closed_form_says(shown, left):
    counts = np.array([230, 190, 9580])  # 10,000 jets, of which 2,000 are drawn
    q, delta = 0.042, 0.004
    drawn = shown["small_tests"](counts, left, 40_000)
    assert drawn.mean() == pytest.approx(delta, abs=1e-4)
    assert drawn.var() == pytest.approx(left * (q - delta**2) / 2000, rel=0.03)
    often = (drawn > 0.0075 - 1e-6).mean()
    assert often == pytest.approx(shown["closed_form"](0.0075, q, delta, left), abs=0.01)


def test_verdicts_follow_the_interval_and_the_metric(shown):
    def row(metric, low, high):
        return {"a": "finetune_simclr", "b": "scratch", "metric": metric, "p": 0.01,
                "difference": (low + high) / 2, "low": low, "high": high}

    verdict = shown["verdict"]
    assert verdict(row("auc", 0.001, 0.003)) == "scratch is ahead"
    assert verdict(row("mass_mae", 0.1, 0.3)) == "the rival is ahead"
    assert verdict(row("auc", -0.001, 0.003)) == "cannot be told apart"


@pytest.mark.parametrize(("claim", "interval", "said"), [
    (0.015, (0.008, 0.020), "yes"), (0.015, (0.016, 0.020), "yes, and more"),
    (0.015, (0.008, 0.010), "yes, but less"), (0.015, (-0.004, 0.004), "no"),
    (0.015, (-0.004, -0.001), "no: the opposite"), (0.015, (-0.004, 0.010), "not decidable"),
    (0.015, (0.002, 0.010), "the sign, yes"), (-0.03, (-0.035, -0.016), "yes"),
    (-0.03, (-0.010, 0.004), "no"), (-0.03, (-0.020, 0.004), "not decidable")])
def test_a_claim_is_answered_by_the_interval_and_by_what_matters(claim, interval, said):
    row = dict(zip(("low", "high"), interval, strict=True))
    assert numbers.answer(row, claim, claim / 2).startswith(said)
    mirrored = {"low": -interval[1], "high": -interval[0]}
    assert numbers.answer(mirrored, -claim, claim / 2) == numbers.answer(
        row, claim, claim / 2).replace(f"{claim / 2:g}", f"{-claim / 2:g}")


def test_a_p_below_the_floor_of_resampling_is_said_so():
    assert numbers.chances(0.0004) == "p < 0.001"
    assert numbers.chances(0.032) == "p = 0.032"
