"""Are the published results still those that the code would give? (``report --check``)"""

import math
from collections.abc import Iterator

from lib.evaluation import metrics as measure
from lib.profiles import Profile
from lib.provenance import git
from lib.report import contract, results


def check(profile: Profile) -> list[str]:
    """One line for each reason why a published result is stale, damaged or uncommitted."""
    return [f"{profile.tag}/{name}: {problem}"
            for name in results.names(profile) for problem in _problems(name, profile)]


def _problems(name: str, profile: Profile) -> Iterator[str]:
    try:
        found = results.load(name, profile)
    except results.ResultsError as error:
        yield str(error)
        return
    made = found.get("commit") or "unknown"
    if made == "unknown" or made.endswith("-dirty"):
        yield f"made by uncommitted code ({made})"
    elif not is_past(made):
        yield f"commit {made} is not in the history"
    if name == results.TIMES:  # how long notebooks took stays true of the commit that it names
        return
    if not (made := found.get("made_with")):
        yield "does not say what it was made with"
        return
    if name.endswith("_grid") and results.earlier(found):
        yield from _predictions(name, profile)  # shown as what it is, of an earlier simulation
        return
    now = {part: one["version"] for part, one in contract.golden().items()}
    if raised := [f"{part} (version {version}, now {now.get(part, 'gone')})"
                  for part, version in made["components"].items() if now.get(part) != version]:
        yield f"stale, changed since: {', '.join(raised)}"
    if made["cells"] != results.measuring_cells(name):
        yield f"stale, a cell of notebook {name[:2]} that measures has changed since"
    yield from _predictions(name, profile)


def _predictions(name: str, profile: Profile) -> Iterator[str]:
    """What is wrong with the predictions that a result's metrics are recomputed from."""
    try:
        found, kept = results.load(name, profile), results.load_predictions(name, profile)
    except ValueError as error:
        yield str(error)
        return
    for run in found["runs"]:
        again = measure.evaluate(kept[run["name"]].pop(0))
        if wrong := [metric for metric, value in run["metrics"].items()
                     if metric in again and not math.isclose(
                         again[metric], value, rel_tol=1e-4, abs_tol=1e-6)]:
            yield f"{run['name']}, seed {run['seed']}: predictions give another {', '.join(wrong)}"


def is_past(made: str) -> bool:
    """Whether a commit is in the history of this one, as far as a shallow clone can tell."""
    if git("rev-parse", "--is-shallow-repository") == "true" and not git(
            "rev-parse", "--verify", "--quiet", f"{made}^{{commit}}"):
        return True
    return git("merge-base", "--is-ancestor", made, "HEAD") is not None
