"""The ledger of claims: answers follow from intervals; nothing is absent that is there."""

import re
import shutil
import subprocess

import pytest

from course import ledger
from course.tables import numbers
from lib import profiles
from lib.files import write_json
from lib.report.results import load, measuring_cells, names


def missing(profile):
    """Keys that do not exist although their experiment has results of the present notebook."""
    known = numbers(profile)
    present = {name for name in names(profile) if load(name, profile).get(
        "made_with", {}).get("cells") == measuring_cells(name)}
    wanted = [key.split("|") for claim in ledger.claims() for key in claim["keys"]]
    return ["|".join(one) for one in wanted if not set(one) & set(known)
            and {key.split("/")[0] for key in one} & present]


CLAIMS = """
[[claim]]
source = "R1"
claim = "A & B raise it"
claimed = "+1.5 points"
found = "{100 stand_in/a-b/auc} points; {absent/x/auc}"
holds = ["stand_in/a-b/auc", ">", 0]

[[claim]]
source = "R1"
claim = "it is lower than the other"
claimed = "no number"
found = "{stand_in/a/auc} against {absent/x/auc|stand_in/b/auc}"
holds = ["stand_in/a/auc", "<", "absent/x/auc|stand_in/b/auc"]
conditions = "of {stand_in/values/jets} jets"

[[claim]]
source = "R4"
claim = "beyond its null"
claimed = "yes"
found = "{stand_in/routing/trained} bits, at random {stand_in/routing/random}"
holds = ["stand_in/routing/trained", ">", "stand_in/routing/random"]

[[claim]]
source = "R4"
claim = "never looked at"
claimed = "yes"
found = "{absent/x/auc}"
holds = ["absent/x/auc", ">", 0]

[[claim]]
source = "R4"
claim = "no number decides it"
claimed = "80 %"
found = "{100 stand_in/a/auc} %"
answer = "not decidable"
"""


def row(middle, half):
    return {"mean": middle, "low": middle - half, "high": middle + half}


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """Results of a stand-in experiment, and a ledger of claims on them."""
    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    (tmp_path / "ledger.toml").write_text(CLAIMS)
    monkeypatch.setattr(ledger, "LEDGER", tmp_path / "ledger.toml")
    profile = profiles.get("laptop")

    def stand_in(difference, half):
        runs = [{"name": "a", "seed": seed, "labels": 6000, "test_jets": 1000, "metrics": {},
                 "predictions": {}} for seed in (0, 1)]
        write_json(profile.results_dir / "stand_in.json", {
            "runs": runs, "predictions": [],
            "summary": {"a": {"auc": row(0.8, 0.01)}, "b": {"auc": row(0.9, 0.01)}},
            "comparisons": [{"a": "a", "b": "b", "metric": "auc", "difference": difference,
                             "low": difference - half, "high": difference + half}],
            "values": {"jets": 77, "routing": {"trained": 0.6, "random": {"mean": 0.5,
                                                                          "std": 0.1}}},
            "curves": {}, "commit": "abc", "created": "2026-01-01T00:00:00Z", "machine": "m",
            "profile": "laptop", "data": "simulated"})
        return profile

    return stand_in


def test_answers_follow_from_the_whole_interval(profile):
    for difference, half, expected in ((0.02, 0.01, "yes"), (-0.02, 0.01, "no"),
                                       (0.02, 0.03, "not decidable"), (0.0, 0.0, "no")):
        first, second, null, absent, last = ledger.rows(profile(difference, half))
        assert first[-1] == expected
    assert first[:3] == ["R1", "A & B raise it", "+1.5 points"]
    assert first[3].startswith("0.000 [0.000, 0.000] points; not measured here")
    assert first[4] == "6,000 labels, 2 seeds, 1,000 test images"
    assert second[3:] == ["0.800 [0.790, 0.810] against 0.900 [0.890, 0.910]",
                          "of 77 jets, 6,000 labels, 2 seeds, 1,000 test images", "yes"]
    assert null[-1] == "not decidable"  # within two standard deviations of the null
    assert absent[3:] == ["not measured here", "", "–"]
    assert last[3:] == ["80.0 [79.0, 81.0] %", "6,000 labels, 2 seeds, 1,000 test images",
                        "not decidable"]


def test_a_key_that_its_experiment_lacks_is_a_mistake(profile):
    made = profile(0.02, 0.01)
    assert missing(made) == []
    ledger.LEDGER.write_text(CLAIMS.replace("stand_in/routing/trained", "stand_in/slip"))
    assert set(missing(made)) == {"stand_in/slip"}


def test_it_is_shown_in_a_notebook_and_in_the_report(profile):
    made = profile(0.02, 0.01)
    text = ledger.markdown(made, "R4")
    assert text.count("| R4 |") == 3
    assert "R1" not in text
    table = ledger.latex(made)
    assert r"A \& B raise it" in table
    assert table.count(r"\\") == 6
    if shutil.which("pdflatex"):
        page = made.results_dir / "page.tex"
        page.write_text("\\documentclass{article}\\usepackage{array,longtable,booktabs}"
                        f"\\begin{{document}}{table}\\end{{document}}")
        run = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", page.name],
                             cwd=page.parent, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout[-500:]
        assert "Overfull" not in run.stdout


def test_every_claim_is_complete():
    for claim in ledger.claims():
        assert claim["source"] in ("R1", "R2", "R3", "R4"), claim
        assert all(claim[what] for what in ("claim", "claimed", "found")), claim
        assert ("holds" in claim) != ("answer" in claim), claim
        if "holds" in claim:
            left, relation, right = claim["holds"]
            assert relation in "<>", claim
            assert isinstance(left, str), claim
            assert isinstance(right, str | int | float), claim
        assert not re.search(r"\{[^}]*\s\s", claim["found"])
    assert {claim["source"] for claim in ledger.claims()} == {"R1", "R2", "R3", "R4"}


def test_every_key_of_the_published_ledger_exists():
    profile = profiles.get("laptop")
    assert names(profile)
    assert missing(profile) == []
