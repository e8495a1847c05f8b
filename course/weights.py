"""Published weights: a model, its config, and a card that can be checked.

``weights/<name>/`` holds ``model.safetensors`` and ``config.json`` (``JetViT.from_pretrained``),
``card.json`` with the headline numbers and what they were measured on, the same for people in
``README.md``, and ``run.json`` and ``history.json`` of the run. ``verify`` measures the numbers
again. ``lib.training.runs.published`` finds a run by its recipe, so that a notebook that needs a
backbone opens without the pretraining.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from collider.course import course_files
from lib import profiles
from lib.data.batches import Batches
from lib.data.images import JetImages
from lib.evaluation import metrics
from lib.evaluation.metrics import Predictions
from lib.evaluation.predictions import predict
from lib.evaluation.probes import embed, linear_probe
from lib.files import write_json
from lib.models.vit import JetViT
from lib.profiles import Profile
from lib.report.numbers import format_number, markdown_table, with_interval
from lib.training import runs

HEADLINE = ("accuracy", "auc", "mass_mae")
LIMIT = 5_000_000  # bytes of a file that is committed


def supervised(model: JetViT, profile: Profile, precision: str) -> Predictions:
    """What the model says of the test jets: the test file or, for ``cms``, split A."""
    files = course_files(profile)
    jets = JetImages.open(files["test"] or files["labelled"])
    index = torch.arange(len(jets)) if files["test"] else jets.split().test
    return predict(model, Batches(jets, index, 256, model.config.tokens), precision, "cpu")


def probed(model: JetViT, profile: Profile, precision: str) -> Predictions:
    """A linear probe on the backbone, judged on the validation jets."""
    jets = JetImages.open(course_files(profile)["labelled"])
    watch = runs.probe(profile, jets)
    known, held = (embed(model, jets, part) for part in (watch.known, watch.held))
    labels = jets.labels.cpu().numpy()
    score = linear_probe(known, labels[watch.known], held)
    return Predictions(watch.held.numpy(), labels[watch.held], score.astype("f4"))


MEASURES: dict[str, tuple[Callable, tuple[str, ...], str]] = {
    "supervised": (supervised, HEADLINE, "on the test jets"),
    "probe": (probed, ("auc",),
              "of a linear probe (1,000 labelled jets) on the learned features, on the validation "
              "jets"),
}


def publish(name: str, run: runs.Run, profile: Profile, text: str) -> Path:
    """Write a run's model to the profile's ``weights_dir``, with the numbers of its card.

    Args:
        text: what it is and how it was made, a sentence or two.

    Raises:
        ValueError: weights that are too large to be committed.
    """
    size = (run.folder / "model.safetensors").stat().st_size
    if size > LIMIT:
        raise ValueError(f"{run.folder.name}: {size:,} bytes of weights; at most {LIMIT:,} are "
                         "published")
    kind = "supervised" if run.record["predicts"] else "probe"
    model, precision = JetViT.from_pretrained(run.folder), run.recipe.fit.precision
    found = _measured(kind, model, profile, precision)
    rows = {k: {x: row[x] for x in ("mean", "low", "high")} for k, row in found.items()}
    card = {"name": name, "text": text, "measure": kind, "profile": profile.name,
            "data": profile.data, "precision": precision, "metrics": rows,
            "parameters": sum(p.numel() for p in model.parameters()), "seed": run.seed,
            **{k: run.record[k] for k in ("commit", "machine", "created", "train_seconds")}}
    folder = model.save_pretrained(profile.weights_dir / name, _readme(card))
    write_json(folder / "card.json", card)
    for part in ("run.json", "history.json"):
        shutil.copy(run.folder / part, folder / part)
    return folder


def _measured(kind: str, model: JetViT, profile: Profile, precision: str) -> dict[str, dict]:
    measure, names, _ = MEASURES[kind]
    predictions = measure(model, profile, precision)
    return metrics.summary(predictions, [n for n in names if n in metrics.available(predictions)])


def _readme(card: dict[str, Any]) -> str:
    rows = [[k, with_interval(row)] for k, row in card["metrics"].items()]
    minutes = format_number(card["train_seconds"] / 60, 1)
    return "\n".join([
        f"# {card['name']}", "", card["text"], "",
        f"A JetViT of {card['parameters']:,} parameters for 8 x 125 x 125 jet images (`cms8`), "
        f"profile {card['profile']}, data {card['data']}, seed {card['seed']}; trained in "
        f"{minutes} minutes on {card['machine']}.", "",
        f"Measured {MEASURES[card['measure']][2]}, with 95 % intervals over jets:", "",
        markdown_table(["metric", "value"], rows), "",
        "```python", "from lib.models.vit import JetViT", "",
        f"model = JetViT.from_pretrained(\"weights/{card['name']}\")", "```", "",
        "`python -m lib verify` measures these numbers again. Classes: 0 QCD, 1 top; masses in "
        "GeV. Trained on simulated jets: not for use on data as it is.", ""])


def verify(folder: Path, say: Callable[[str], None] = print) -> int:
    """Evaluate every model of a folder again; 1 if a headline number left its interval.

    Raises:
        ValueError: no weights there, or a damaged card.
    """
    cards = sorted(Path(folder).glob("*/card.json"))
    if not cards:
        raise ValueError(f"{folder} holds no weights with a card: the notebooks publish them "
                         "(./run_all.sh --only 07)")
    failed = 0
    for path in cards:
        try:
            card = json.loads(path.read_text())
            kind, stated = card["measure"], card["metrics"]
            profile = profiles.get(card["profile"], card["data"])
            where = MEASURES[kind][-1]
            bounds = {k: (float(row["low"]), float(row["high"])) for k, row in stated.items()}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: not a card of published weights ({error}); publish the "
                             "weights again") from error
        say(f"{path.parent.name}: {where}")
        model = JetViT.from_pretrained(path.parent)
        found = _measured(kind, model, profile, card["precision"])
        for name, (low, high) in bounds.items():
            now = found.get(name, {}).get("mean", float("nan"))  # what cannot be measured fails
            inside = low <= now <= high
            failed += not inside
            say(f"  {name:10s} {format_number(now, 4):>9}  published "
                f"{with_interval(stated[name])}  {'ok' if inside else 'OUTSIDE'}")
    say(f"{len(cards)} models, " + ("all inside their intervals" if not failed
                                    else f"{failed} numbers OUTSIDE their intervals"))
    return int(failed > 0)
