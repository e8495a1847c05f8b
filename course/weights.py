"""Published weights: a model, its config, and a card that can be checked.

``weights/<name>/`` holds the model (``JetViT.from_pretrained``), ``card.json`` with the headline
numbers and what they were measured on, the same for people in ``README.md``, and ``run.json`` and
``history.json`` of the run, by which ``lib.training.runs.published`` finds it."""

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from collider.course import course_files
from course.models import test_jets
from hcal import health
from hcal import runs as hcal_runs
from lib import profiles
from lib.data.batches import Batches
from lib.data.images import JetImages
from lib.evaluation import metrics
from lib.evaluation.metrics import Predictions
from lib.evaluation.predictions import predict
from lib.evaluation.probes import embed, linear_probe
from lib.files import guarded, read_json, replacing_folder, write_json
from lib.models.vit import JetViT
from lib.profiles import Profile
from lib.report.numbers import format_number, markdown_table, with_interval
from lib.training import runs

LIMIT = 5_000_000  # bytes of a file that is committed
CARD = Path(__file__).with_name("card.md").read_text()  # for people


def supervised(model: JetViT, profile: Profile, precision: str) -> Predictions:
    """What the model says of the test jets."""
    return predict(model, Batches(*test_jets(profile), 256, model.config.tokens), precision, "cpu")


def probed(model: JetViT, profile: Profile, precision: str,
           dataset: str = "top_qcd") -> Predictions:
    """A linear probe on the backbone, judged on the validation jets."""
    jets = JetImages.open(course_files(profile, dataset)["labelled"])
    watch = runs.probe(profile, jets)
    known, held = (embed(model, jets, part) for part in (watch.known, watch.held))
    score = linear_probe(known, jets.labels[watch.known].cpu().numpy(), held)
    return Predictions.of(jets, watch.held, score)


JETS = """ For 8 x 125 x 125 jet images (`cms8`), classes 0 QCD and 1 top, masses in GeV: \
`JetViT.from_pretrained(folder)` of `lib.models.vit`."""
PROBE = "of a linear probe (1,000 labelled jets) on the learned features, "
# What is measured: of predictions the named metrics; else metric -> {mean, low, high}.
MEASURES: dict[str, tuple[Callable, tuple[str, ...], str]] = {
    "runs": (hcal_runs.measured, (), "on 2,000 simulated maps of both runs"),
    "cells": (health.measured, (), "by faults of strength 0.9 in 60 lumi-sections of few events of "
                                   "run 357479"),
    "supervised": (supervised, ("accuracy", "auc", "mass_mae"), "on the test jets"),
    "probe": (probed, ("auc",), PROBE + "on the validation jets"),
    "quark_gluon": (partial(probed, dataset="quark_gluon"), ("auc",),
                    PROBE + "on validation jets of quarks and gluons")}


def publish(name: str, run: runs.Run, profile: Profile, text: str,
            measure: str | None = None) -> Path:
    """Write a run's model to the profile's ``weights_dir``, with the numbers of its card (of one of
    ``MEASURES``, by default what fits a model of jets) and a ``text`` on what it is and how it is
    used; a ValueError for weights too large to commit."""
    size = (run.folder / "model.safetensors").stat().st_size
    if size > LIMIT:
        raise ValueError(f"{run.folder.name}: {size:,} bytes of weights; at most {LIMIT:,} are "
                         "published")
    card = {"name": name, "text": text, "profile": profile.name, "data": profile.data,
            "measure": measure or ("supervised" if run.record["predicts"] else "probe"),
            "precision": run.recipe.fit.precision, "metrics": {}, "parameters": run.parameters,
            "seed": run.seed,
            **{k: run.record[k] for k in ("commit", "machine", "created", "train_seconds")}}
    text += "" if measure else JETS
    card["metrics"] = {k: {x: row[x] for x in ("mean", "low", "high")}
                       for k, row in _measured(card, run.folder, profile).items()}
    rows = [[k, with_interval(row)] for k, row in card["metrics"].items()]
    readme = CARD.format(**card | {"text": text}, table=markdown_table(["metric", "value"], rows),
                           minutes=format_number(card["train_seconds"] / 60, 1),
                           where=MEASURES[card["measure"]][-1])
    with replacing_folder(profile.weights_dir / name) as folder:
        run.model().save_pretrained(folder, readme)
        write_json(folder / "card.json", card)
        for part in ("run.json", "history.json"):
            shutil.copy(run.folder / part, folder / part)
    return profile.weights_dir / name


def _measured(card: Mapping[str, Any], folder: Path, profile: Profile) -> dict[str, dict]:
    measure, names, _ = MEASURES[card["measure"]]
    if not names:
        return measure(folder)
    predictions = measure(JetViT.from_pretrained(folder), profile, card["precision"])
    return metrics.summary(predictions, [n for n in names if n in metrics.available(predictions)])


def verify(folder: Path) -> int:
    """Evaluate every model of a folder again; 1 if a headline number left its interval, a
    ValueError for no weights there or a damaged card."""
    failed, cards, todo = 0, sorted(Path(folder).glob("*/card.json")), "publish the weights again"
    if not cards:
        raise ValueError(f"{folder} holds no weights with a card: the notebooks publish them "
                         "(./run_all.sh --only 07)")
    for path in cards:
        with guarded(path, todo, "not a card of published weights"):
            card = read_json(path, todo, metrics=dict, precision=str)
            profile = profiles.get(card["profile"], card["data"])
            where, stated = MEASURES[card["measure"]][-1], card["metrics"]
            bounds = {k: (float(row["low"]), float(row["high"])) for k, row in stated.items()}
        print(f"{path.parent.name}: {where}")
        found = _measured(card, path.parent, profile)
        for name, (low, high) in bounds.items():
            now = found.get(name, {}).get("mean", float("nan"))  # what cannot be measured fails
            inside = low <= now <= high
            failed += not inside
            print(f"  {name:10s} {format_number(now, 4):>9}  published "
                  f"{with_interval(stated[name])}  {'ok' if inside else 'OUTSIDE'}")
    print(f"{len(cards)} models, {f'{failed} numbers OUTSIDE' if failed else 'all inside'} their "
          "intervals")
    return int(failed > 0)
