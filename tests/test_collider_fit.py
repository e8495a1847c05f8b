"""The fit of what no reference gives: few numbers, what was recorded, and that it finds them."""

import json
import subprocess
import sys

import numpy as np
import pytest

from collider import closure, events, fit


def test_few_numbers_are_fitted_and_the_record_is_of_those_in_the_code():
    record = json.loads(fit.RECORD.read_text())
    assert len(fit.FREE) <= 10
    assert record["sample_version"] == events.SAMPLES["top_qcd"].version
    for name, value in fit.in_code().items():
        assert abs(record["found"][name] - value) < 3 * record["error"][name], name


def test_the_fit_uses_what_the_closure_table_calls_fitted_and_nothing_else():
    recorded = set(json.loads(fit.RECORD.read_text())["rows"])
    assert recorded == set(fit.targets())
    used = {name for name in recorded if not name.startswith(("pT: bin", fit.TRACKS))}
    used |= {f"track {k}: {closure.PIXELS}" for k in ("pT", "d0", "dz")}  # their sum
    assert used == set(closure.FITTED)


def test_numbers_that_made_the_jets_are_found(monkeypatch):
    """Published numbers that answer linearly to the right values, with noise of a known size."""
    rng, rows, truth = np.random.default_rng(0), fit.targets(), {}
    slopes = {row: rng.normal(size=len(fit.FREE)) for row in rows}
    for name, free in fit.FREE.items():
        truth[name] = fit.in_code()[name] + 0.7 * free.step

    def linear(values, jets, seed, executor):
        away = np.array([(values[k] - truth[k]) / free.step for k, free in fit.FREE.items()])
        return {row: (value + 0.01 * float(slopes[row] @ away), 1e-4)
                for row, (value, _) in rows.items()}

    monkeypatch.setattr(fit, "statistics", linear)
    monkeypatch.setattr(fit, "FREE", {k: free._replace(low=-1e3, high=1e3, rows="")
                                      for k, free in fit.FREE.items()})
    values, spread = fit.improved(fit.in_code(), 1000, 1, None)
    assert values == pytest.approx(truth, rel=1e-6)
    assert all(0 < spread[k] < fit.FREE[k].step for k in spread)


def test_a_fit_of_too_few_jets_is_refused():
    with pytest.raises(ValueError, match="at least"):
        fit.main(["fit", "--jets", "10"])


def test_the_command_says_in_one_line_what_is_wrong():
    ran = subprocess.run([sys.executable, "-m", "collider", "fit", "--jets", "10"],
                         capture_output=True, text=True, cwd=fit.ROOT)
    assert ran.returncode == 1
    assert ran.stderr.startswith("python -m collider: a fit needs at least")
    assert ran.stderr.count("\n") == 1
