"""The cache of runs: a training that was made is not made twice, unless the code has changed.

A run is a folder ``<name>-<key>``; the key hashes its settings and its data, so other settings are
another run, and equal ones are found whatever their name. It holds

    run.json                 settings, data, commit, machine, time, fingerprint
    model.safetensors        the model alone, with config.json (``JetViT.from_pretrained``)
    best.safetensors         the objective: what validation chose
    last.safetensors         everything, to resume from
    history.json             one row per validation
    predictions-<key>.npz    for each set of jets that was predicted

"A checkpoint exists" does not say that the code would still make it. So a run keeps a fingerprint:
the losses of three updates of a freshly initialised model on a few fixed jets, and the loss
afterwards in evaluation mode. Present code repeats this in a second; if it gets something else
(by more than 1e-3), the run is stale, moved to the folder ``stale``, and trained again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib import provenance as origin
from lib.data.batches import Batches
from lib.data.images import JetImages
from lib.data.tokens import Batch, Grid
from lib.evaluation.metrics import Predictions
from lib.evaluation.predictions import predict
from lib.files import write_json
from lib.training import backbone as start
from lib.training import checkpoint
from lib.training.fit import FitSettings, History, fit
from lib.training.objectives import build as build_objective
from lib.training.optim import parameter_groups
from lib.training.split import make_batches

TOLERANCE = 1e-3  # relative, of the losses of a fingerprint
SAMPLE = 4  # jets of a fingerprint: enough to notice, few enough to be quick
Log = Callable[[str], None]


# --- what a run is made of ------------------------------------------------------------------------


def identity(jets: JetImages) -> dict:
    """What the data are: how they were simulated, or a hash of their content."""
    made = dict(jets.attributes)
    whole = "generator" in made and made.get("jets") == len(jets)
    return {"jets": len(jets), "encoding": jets.encoding, "labelled": jets.labels is not None,
            **({"simulated": made} if whole else {"content": jets.fingerprint()})}


def key_of(*parts: Any) -> str:
    """Ten letters that stand for plain JSON data."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


def complete(settings: Mapping, jets: JetImages) -> dict:
    """The settings with the grid of the data, as plain JSON.

    Raises:
        ValueError: something in them is not plain JSON, or no fit setting.
    """
    try:
        settings = json.loads(json.dumps(dict(settings)))
    except TypeError as error:
        raise ValueError(f"settings must be plain JSON: {error}") from error
    settings.setdefault("model", {})
    settings.setdefault("seed", 0)
    settings.setdefault("grid", asdict(jets.grid))
    settings["fit"] = {"seed": settings["seed"], **settings.get("fit", {})}
    known = {f.name for f in dataclasses.fields(FitSettings)}
    if wrong := sorted(set(settings["fit"]) - known):
        raise ValueError(f"unknown fit setting {', '.join(wrong)}; known: "
                         f"{', '.join(sorted(known))}")
    return settings


def first_jets(value: Any, count: int) -> Any:
    """The first ``count`` jets of a batch, whatever it holds."""
    if isinstance(value, Tensor):
        return value[:count]
    if isinstance(value, (list, tuple)):
        return type(value)(first_jets(v, count) for v in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, Grid):
        fields = {k: first_jets(v, count) for k, v in vars(value).items()}
        return dataclasses.replace(value, **fields)
    return value


def fingerprint(settings: Mapping, objective: nn.Module, batch: Batch) -> list[float]:
    """Losses of three updates and, in evaluation mode, afterwards: float32, on the CPU.

    Uses up ``objective``.
    """
    batch = first_jets(batch, SAMPLE).to("cpu")
    # small steps: large ones would make rounding errors grow, and the losses differ by machine
    chosen = FitSettings(**{**settings["fit"], "lr": 1e-4, "rates": {}})
    objective = objective.cpu().train()
    optimizer = torch.optim.AdamW(parameter_groups(objective, chosen))
    losses = []
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the training itself will say it
        torch.manual_seed(0)
        for update in range(3):
            loss, _ = objective.loss(batch)
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if hasattr(objective, "after_update"):
                objective.after_update(update / 3)
        with torch.no_grad():
            losses.append(objective.eval().loss(batch)[0].item())
    return losses


def _same(a: Sequence[float], b: Sequence[float]) -> bool:
    return len(a) == len(b) and bool(np.allclose(a, b, rtol=TOLERANCE, atol=1e-6))


# --- a finished run -------------------------------------------------------------------------------


@dataclass
class Run:
    """A trained model and what is known of it.

    Attributes:
        name, folder, settings: as it was asked for; ``record``: run.json.
        history: rows of its training.
        cached: it was loaded, not trained.
        predictions: on the test jets, None for an objective that does not predict.
    """

    name: str
    folder: Path
    settings: dict
    record: dict
    history: History
    cached: bool = True
    build: Callable = build_objective
    predictions: Predictions | None = None

    @classmethod
    def open(cls, folder: Path | str, build: Callable = build_objective) -> Run:
        """A finished run from its folder, without asking whether it is stale.

        Raises:
            ValueError: no such run, not finished, or damaged.
        """
        folder = Path(folder)
        record = record_of(folder)
        if not record or not record.get("finished"):
            raise ValueError(f"{folder} is not a finished run: train it first")
        try:
            history = History.from_json(json.loads((folder / "history.json").read_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder / 'history.json'} is missing or damaged: train the run "
                             "again") from error
        return cls(record["name"], folder, record["settings"], record, history, build=build)

    @property
    def parameters(self) -> int:
        return self.record["parameters"]

    @property
    def train_seconds(self) -> float:
        return self.record["train_seconds"]

    @property
    def seed(self) -> int:
        return self.settings["seed"]

    def objective(self) -> nn.Module:
        """The objective with the weights that validation chose, in evaluation mode."""
        objective = self.build(self.settings)
        objective.load_state_dict(checkpoint.read(self.folder / "best.safetensors")[0])
        return objective.eval()

    def model(self) -> nn.Module:
        """Its model, in evaluation mode."""
        return self.objective().model

    def predict(self, jets: JetImages, index: Any = None, batch_size: int = 256) -> Predictions:
        """Predictions for jets (all, or those of ``index``), in the precision of the training;
        kept beside the run, so that the same jets are predicted once."""
        wanted = tuple(self.settings["grid"][k] for k in ("channels", "height", "width"))
        if jets.shape != wanted:
            raise ValueError(f"{self.folder.name} was trained on images of {wanted} (C, H, W) and "
                             f"these are {jets.shape}: give jets of that kind")
        if index is None:
            index = torch.arange(len(jets))
        index = torch.as_tensor(index).cpu()
        key = key_of(jets.fingerprint(), hashlib.sha256(index.numpy().tobytes()).hexdigest())
        path = self.folder / f"predictions-{key}.npz"
        with contextlib.suppress(OSError, ValueError, zipfile.BadZipFile):
            return Predictions.load(path)
        predictions = predict(
            self.objective(),
            Batches(jets, index, batch_size, self.settings["model"].get("tokens", "active")),
            self.record["fit"]["precision"], self.record["fit"]["accelerator"])
        predictions.save(path)
        return predictions


def record_of(folder: Path) -> dict | None:
    """run.json; None where it is missing or is not what ``train`` wrote."""
    with contextlib.suppress(OSError, ValueError):
        record = json.loads((folder / "run.json").read_text())
        if isinstance(record, dict) and {"settings", "fit", "content", "began"} <= set(record):
            return record
    return None


# --- training through the cache -------------------------------------------------------------------


def train(
    name: str, settings: Mapping, jets: JetImages | Path | str,
    test: JetImages | Path | str | None = None, *, runs: Path | str,
    fresh: bool = False, log: Log = print,
    build: Callable = build_objective, batches: Callable = make_batches,
    monitor: Callable | None = None,
) -> Run:
    """Train a run, or load it, or resume it.

    Args:
        name: what to call it.
        settings: plain JSON: ``seed``; ``model`` (arguments of ``ViTConfig``); ``fit`` (arguments
            of ``FitSettings``); optional ``objective``, ``architecture``, ``loss`` (see
            ``objectives.build``), ``labels`` and ``split`` (see ``parts.indices``), ``augment``
            (see ``lib.data.views.views``), ``start`` (a run whose backbone to start from, see
            ``start.find``; its content enters the key) and ``frozen`` (train the heads alone).
        jets: training and validation jets, or their file.
        test: test jets, or their file; None: the test part of the split of ``jets``. They are
            predicted once, at the end.
        runs: folder of the cache.
        fresh: ignore the cache.
        build: ``build(settings, jets=None, index=None) -> objective``; with jets (and the indices
            for training) scales are fitted on them.
        batches: ``batches(settings, jets) -> (train, validation)``.

    Raises:
        what ``fit`` raises; ValueError for settings that make no sense.
    """
    jets, test = opened(jets), opened(test)
    weights, settings = None, dict(settings)
    if "start" in settings:
        weights = start.find(settings["start"], runs, settings.get("seed", 0))
        settings["start"] = start.content(weights)
    settings = complete(settings, jets)
    if test is None and not settings.get("hold_out", True):
        raise ValueError("hold_out=False trains on the test part of the split: give test jets")
    data = identity(jets)
    key = key_of(settings, data)
    runs = Path(runs)
    found = sorted(p for p in runs.glob(f"*-{key}") if p.is_dir())
    folder = found[0] if found else runs / f"{name}-{key}"
    with _locked(folder, log):
        run = _trained(name, settings, jets, data, folder, fresh, log, build, batches, monitor,
                       weights)
    if run.record["predicts"] and test is not None:
        run.predictions = run.predict(test)
    elif run.record["predicts"] and jets.labels is not None:
        run.predictions = run.predict(jets, jets.split(settings.get("split", 42)).test)
    return run


def opened(jets: JetImages | Path | str | None) -> JetImages | None:
    """The jets themselves, or those of a file."""
    return JetImages.open(jets) if isinstance(jets, (str, Path)) else jets


def _trained(name: str, settings: dict, jets: JetImages, data: dict, folder: Path, fresh: bool,
             log: Log, build: Callable, batches: Callable, monitor: Callable | None,
             weights: Path | None) -> Run:
    """The work of ``train``, with the folder to itself."""
    train, validation = batches(settings, jets)

    def make() -> nn.Module:
        torch.manual_seed(settings["seed"])
        return start.begin(build(settings, jets, train.index), settings, weights)

    train.set_epoch(0)
    print_of = fingerprint(settings, make(), next(iter(train)))
    record = record_of(folder)
    if folder.exists() and (why := _unusable(record, folder, settings, jets, print_of, fresh)):
        log(f"{name}: {why}; training again")
        aside = folder.parent / "stale" / folder.name
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        os.replace(folder, aside)
        record = None
    if record and record.get("finished"):
        log(f"{name}: from the cache ({folder.name}), trained {record['created']} on "
            f"{record['machine']} at commit {record['commit']} in {record['train_seconds']:.0f} s")
        return dataclasses.replace(Run.open(folder, build), name=name)

    objective = make()
    parameters = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    log(f"{name}: training {parameters:,} parameters on {len(train.index):,} jets, "
        f"{len(validation.index):,} for validation")
    chosen = FitSettings(**settings["fit"])
    record = {
        "name": name, "settings": settings, "fit": asdict(chosen), "data": data,
        "content": jets.fingerprint(), "fingerprint": print_of, "parameters": parameters,
        "train_jets": len(train.index), "predicts": hasattr(objective, "predict"),
        "commit": origin.commit(), "machine": origin.machine(), "versions": origin.versions(),
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "began": time.time(),
        "finished": False, **({"start": weights.parent.name} if weights else {}),
    } | ({k: record[k] for k in ("created", "began", "commit")} if record else {})
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "run.json", record)
    history = fit(objective, train, validation, chosen, folder, log, monitor)
    objective.cpu()
    write_json(folder / "history.json", history.to_json())
    if hasattr(getattr(objective, "model", None), "save_pretrained"):
        objective.model.save_pretrained(folder)
    record |= {"finished": True, "train_seconds": history.train_seconds,
               "updates": history.updates, "best_update": history.best_update}
    write_json(folder / "run.json", record)
    return Run(name, folder, settings, record, history, cached=False, build=build)


def _unusable(record: dict | None, folder: Path, settings: dict, jets: JetImages,
              now: list[float], fresh: bool) -> str | None:
    """Why the run in a folder is neither loaded nor resumed; None if it can be."""
    if record is None:
        return "the cached run is damaged"
    if fresh or record["began"] < float(os.environ.get("JETS_FRESH", 0)):
        return "the cached run is ignored, as asked"
    if record["content"] != jets.fingerprint():
        return "the cached run saw other jets, made with the same settings"
    if record.get("finished"):
        try:
            Run.open(folder)
            checkpoint.read(folder / "best.safetensors")
        except ValueError as error:
            return f"the cached run is damaged ({error})"
    default = asdict(FitSettings(**settings["fit"]))
    if changed := [k for k, v in record["fit"].items() if default.get(k) != v]:
        return f"the cached run is stale (another {', '.join(changed)})"
    if not _same(record["fingerprint"], now):
        before, after = (", ".join(f"{x:.4f}" for x in losses)
                         for losses in (record["fingerprint"], now))
        return f"the cached run is stale (losses {before}, now {after}: the code has changed)"
    return None


@contextlib.contextmanager
def _locked(folder: Path, log: Log) -> Iterator[None]:
    """One process at a time for a run; another waits, and then finds it in the cache."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / f".{folder.name}.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            log(f"{folder.name}: another process is training it; waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
