"""The cache of runs: a training that was made is not made twice, unless the code has changed.

A run is a folder ``<name>-<key>``; the key hashes canonical recipe and content of the jets. It has
run.json (recipe, data, commit, machine, fingerprint), history.json, the model alone, the objective
that validation chose (best), all to resume from (last), and predictions. The fingerprint is what
the real ``fit`` gives in three updates on a few jets: where present code gets something else (by
more than 1e-3), the run is stale, moved to ``stale``, and trained again."""

import contextlib
import hashlib
import json
import math
import os
import platform
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future, as_completed
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from lib import profiles, provenance, workers
from lib.data.batches import Batches
from lib.data.images import JetImages
from lib.evaluation.metrics import Predictions
from lib.evaluation.predictions import predict
from lib.evaluation.probes import Monitor
from lib.files import DataError, guarded, read_json, write_json
from lib.profiles import Profile
from lib.registry import Registry
from lib.training import backbone, checkpoint
from lib.training.fit import History, fit, launched
from lib.training.optim import WHERE
from lib.training.recipe import Recipe, build
from lib.training.split import indices

TOLERANCE = 1e-3  # relative, of the numbers of a fingerprint
SAMPLE = 8  # jets of a fingerprint: enough to notice, few enough to be quick
AGAIN = "train the run again"
VERSIONS = {"python": platform.python_version(), "torch": torch.__version__}
RECORD = dict(settings=dict, fit=dict, content=str, began=(int, float))  # of every run.json
FINISHED = dict(name=str, predicts=bool, parameters=int, train_jets=int, validation_jets=int,
                train_seconds=(int, float), created=str, machine=str, commit=str, fingerprint=list)
Jets = JetImages | Path | str
Log = Callable[[str], None]


@dataclass
class Run:
    """A trained model and what is known of it: ``record`` is run.json, ``cached`` says that it was
    loaded, not trained; ``predictions`` on the test jets, None where the objective makes none."""

    name: str
    folder: Path
    recipe: Recipe
    record: dict
    history: History
    cached: bool = True
    predictions: Predictions | None = None

    @classmethod
    def open(cls, folder: Path | str) -> "Run":
        """A finished run from its folder, without asking whether it is stale. ValueError for no
        such run, not finished, or damaged."""
        folder = Path(folder)
        if not record_of(folder).get("finished"):
            raise DataError(f"{folder} is not a finished run: train it first")
        with guarded(folder, AGAIN, "it is no finished run"):
            record = read_json(folder / "run.json", AGAIN, **RECORD, **FINISHED)
            history = History.from_json(read_json(folder / "history.json", AGAIN, rows=list))
            dict(record["settings"]["grid"])  # all have one
            return cls(record["name"], folder, Recipe.of(record["settings"]), record, history)

    @property
    def parameters(self) -> int:
        """Parameters that were trained."""
        return self.record["parameters"]

    @property
    def train_seconds(self) -> float:
        return self.record["train_seconds"]

    @property
    def seed(self) -> int:
        return self.recipe.seed

    @property
    def labels(self) -> int:
        """Jets whose labels the run was given, those for validation included."""
        return self.recipe.labels or self.record["train_jets"] + self.record["validation_jets"]

    @property
    def published(self) -> bool:
        """Whether it is a folder of ``weights``, which has nothing to resume from."""
        return not any((self.folder / f"{n}.safetensors").is_file() for n in ("last", "best"))

    def objective(self) -> nn.Module:
        """The objective with the weights that validation chose, in evaluation mode."""
        with guarded(self.folder, AGAIN, "its weights do not fit its recipe"):
            objective = build(self.recipe)
            if self.record["predicts"] and self.published:  # the model is all of it
                model = checkpoint.read(self.folder / "model.safetensors")[0]
                objective.model.load_state_dict(model)
            else:
                objective.load_state_dict(checkpoint.read(self.folder / "best.safetensors")[0])
            return objective.eval()

    def model(self) -> nn.Module:
        """Its model, in evaluation mode."""
        return self.objective().model

    def predict(self, jets: JetImages, index: Any = None) -> Predictions:
        """Predictions for jets (all, or those of ``index``), in the precision of the training; kept
        beside the run, so that the same jets are predicted once."""
        if not self.record["predicts"]:
            raise ValueError(f"{self.folder.name} is a pretraining and predicts nothing yet: fine-"
                             f"tune it first (train finetune --start {self.folder.name})")
        if jets.shape != (wanted := self.recipe.grid.shape):
            raise ValueError(f"{self.folder.name} was trained on images of {wanted} (C, H, W) and "
                             f"these are {jets.shape}: give jets of that kind")
        encodings_agree(self.record, self.folder, jets)
        index = torch.as_tensor(torch.arange(len(jets)) if index is None else index).cpu()
        key = _hash(jets.fingerprint(), hashlib.sha256(index.numpy().tobytes()).hexdigest())
        path = self.folder / f"predictions-{key}.npz"
        with contextlib.suppress(OSError, ValueError):
            return Predictions.load(path)
        how = self.recipe.fit
        predictions = predict(self.objective(), Batches(jets, index, 256, self.recipe.tokens),
                              how.precision, how.accelerator)
        if not self.published:  # those are left as they are
            with contextlib.suppress(DataError):  # on a disk that is read-only, or full
                predictions.save(path)
        return predictions


def record_of(folder: Path) -> dict:
    """run.json; empty where it is missing or is not what ``train`` wrote."""
    with contextlib.suppress(OSError, ValueError):
        return read_json(folder / "run.json", AGAIN, **RECORD)
    return {}


def encodings_agree(record: Mapping, folder: Path, jets: JetImages) -> None:
    """ValueError where a run learned from images of another encoding than that of the jets."""
    learned = record.get("data")
    learned = learned.get("encoding") if isinstance(learned, dict) else None
    if learned not in (None, jets.encoding):
        raise ValueError(f"{folder.name} was trained on images in {learned} and these are in "
                         f"{jets.encoding}: give jets in {learned}")


def opened(jets: Jets | None) -> JetImages | None:
    """The jets themselves, or those of a file."""
    return JetImages.open(jets) if isinstance(jets, (str, Path)) else jets


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


def _few(batches: Batches, count: int) -> Batches:
    """A batch of jets from all over the index, or two in training."""
    some = torch.linspace(0, len(batches.index) - 1, min(count, len(batches.index))).long()
    size = count // 2 if batches.shuffle else count
    return Batches(batches.jets, batches.index[some], size, batches.keep, batches.shuffle,
                   batches.seed, batches.augment, batches.bucket)


class Order:
    """What decides which run it is: the complete recipe (with the grid of the jets, its start by
    content) and the jets; and all that the run begins with."""

    def __init__(self, recipe: Recipe | Mapping, jets: JetImages, runs: Path | str) -> None:
        self.recipe, self.jets, self.runs = Recipe.of(recipe, grid=jets.grid), jets, Path(runs)
        self.content, self.weights = jets.fingerprint(), None
        if self.recipe.start is not None:
            self.weights = backbone.find(self.recipe.start, self.runs, self.recipe.seed)
            encodings_agree(record_of(self.weights.parent), self.weights.parent, jets)
            self.recipe = self.recipe.but(start=backbone.content(self.weights))
        self.key = _hash(self.recipe.but(fit={"devices": 1}).to_json(), self.content)

    @cached_property
    def batches(self) -> tuple[Batches, Batches]:
        """Those for training and for validation."""
        return Registry("batches").find(self.recipe.batches)(self.recipe, self.jets)

    def objective(self) -> nn.Module:
        """The objective before its first update."""
        torch.manual_seed(self.recipe.seed)
        made = build(self.recipe, self.jets, self.batches[0].index)
        return backbone.begin(made, self.recipe.frozen, self.weights)

    def folder(self) -> Path | None:
        """The folder of the cache that holds the run, finished or not, stale or not."""
        return min((p for p in self.runs.glob(f"*-{self.key}") if p.is_dir()), default=None)

    def makes(self, record: Mapping) -> bool:
        """Whether a record is of this recipe and these jets, and this code would make its run."""
        if record.get("key") != self.key:
            return False
        before, now = record["fingerprint"], self.fingerprint()
        return len(before) == len(now) and np.allclose(before, now, rtol=TOLERANCE, atol=1e-6)

    def fingerprint(self) -> list[float]:
        """Three updates of ``fit`` on a few jets, float32, on the CPU: training and validation loss
        of each, and how far the weights that it keeps have moved."""
        # small steps: large ones would make rounding errors grow, and the losses differ by machine
        how, objective = self.recipe.fit, self.objective().cpu()
        settings = replace(
            how, updates=3, every=1, lr=1e-4, minutes=None, patience=None, precision="32-true",
            rates={k: v * (1e-4 / how.lr) for k, v in how.rates.items()}, accelerator="cpu",
            devices=0, select=how.select if how.select in ("auc", "loss") else "loss")
        begun = {n: p.detach().clone() for n, p in objective.named_parameters()}
        train, validation = self.batches
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the training itself will say it
            history = fit(objective, _few(train, SAMPLE), _few(validation, SAMPLE // 2), settings,
                          log=lambda line: None)
        moved = sum((p.detach() - begun[n]).square().sum().item()
                    for n, p in objective.named_parameters())
        return [row[k] for row in history for k in ("loss", "val_loss")] + [math.sqrt(moved)]


def published(recipe: Recipe | Mapping, jets: JetImages, profile: Profile) -> Run | None:
    """The published run of a recipe and jets, where the cache has none and the present code would
    make it again; else None. It has model, record and history: a fine-tuning can start from it."""
    order = Order(recipe, jets, profile.runs_dir)
    if order.folder():
        return None
    for folder in sorted(profile.weights_dir.glob("*")):
        if (record := record_of(folder)) and order.makes(record):
            return Run.open(folder)
    return None


def train(name: str, recipe: Recipe | Mapping, jets: Jets, test: Jets | None = None, *,
          runs: Path | str, log: Log = print, monitor: Callable | None = None) -> Run:
    """Train a run, or load it, or resume it, through the cache in the folder ``runs``.

    Args:
        recipe: a ``Recipe``, or plain JSON for ``Recipe.of``.
        jets: training and validation jets, or their file.
        test: test jets, or their file, predicted at the end; None: the test part of the split.
        monitor: see ``fit``.

    Raises:
        what ``fit`` raises; ValueError for settings that make no sense."""
    jets, test = opened(jets), opened(test)
    order = Order(recipe, jets, runs)
    if test is None and not order.recipe.hold_out:
        raise ValueError("hold_out=False trains on the test part of the split: give test jets")
    # Processes are launched before any lock is taken. The first one decides for all.
    fabric = launched(order.recipe.fit)
    first = fabric.is_global_zero
    folder, cached = None, False
    busy = order.runs / f".{order.key}.lock", f"{name}: another process is training it", log
    with workers.one_at_a_time(*busy) if first else contextlib.nullcontext():
        if first:  # under the lock: another process may just have begun it, by another name
            folder = order.folder() or order.runs / f"{name}-{order.key}"
            cached = _usable(name, order, folder, log)
        folder, cached = fabric.broadcast((folder, cached))
        if not cached:
            _train(name, order, folder, log, monitor, fabric)
        fabric.barrier()
        run = replace(Run.open(folder), name=name, cached=cached)
    if run.record["predicts"] and (test is not None or jets.labels is not None):
        index = None if test is not None else jets.split(order.recipe.split).test
        with fabric.rank_zero_first():  # the others find what it has predicted
            run.predictions = run.predict(jets if test is None else test, index)
    return run


def _usable(name: str, order: Order, folder: Path, log: Log) -> bool:
    """Whether a folder holds the finished run; one that cannot even be resumed is put aside."""
    if not folder.exists():
        return False
    record = record_of(folder)
    if why := _fault(record, folder, order):
        log(f"{name}: the cached run is {why}; training again")
        aside = folder.parent / "stale" / folder.name
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        os.replace(folder, aside)
        return False
    if record.get("finished"):
        log(f"{name}: from the cache ({folder.name}), trained {record['created']} on "
            f"{record['machine']} at commit {record['commit']} in {record['train_seconds']:.0f} s")
    return bool(record.get("finished"))


def _fault(record: dict, folder: Path, order: Order) -> str | None:
    """Why the run in a folder is neither loaded nor resumed; None if it can be."""
    if not record:
        return "damaged"
    if record["began"] < profiles.fresh_since():
        return "ignored, as asked"
    try:
        if record.get("finished"):
            Run.open(folder).objective()
        else:
            for path in folder.glob("*.safetensors"):
                checkpoint.read(path)
    except ValueError as error:
        return f"damaged ({error})"
    now = asdict(order.recipe.fit)
    if other := [k for k, v in record["fit"].items() if now.get(k) != v and k not in WHERE]:
        return f"stale (another {', '.join(other)})"
    return None if order.makes(record) else "stale (the code has changed: it trains otherwise)"


def _train(name: str, order: Order, folder: Path, log: Log, monitor: Callable | None,
           fabric: Fabric) -> None:
    """Train the run of a folder, or go on with it; only the first process writes."""
    (train, validation), jets, objective = order.batches, order.jets, order.objective()
    if fabric.is_global_zero:
        parameters = sum(p.numel() for p in objective.parameters() if p.requires_grad)
        log(f"{name}: training {parameters:,} parameters on {len(train.index):,} {jets.kind}s, "
            f"{len(validation.index):,} for validation; processes: {fabric.world_size}")
        record = {
            "name": name, "key": order.key, "settings": order.recipe.to_json(),
            "fit": asdict(order.recipe.fit), "content": order.content, "parameters": parameters,
            "train_jets": len(train.index), "validation_jets": len(validation.index),
            "fingerprint": order.fingerprint(),
            "data": {"jets": len(jets), "encoding": jets.encoding, "made": dict(jets.attributes)},
            "predicts": hasattr(objective, "predict"), "commit": provenance.commit(),
            "machine": provenance.machine(), "versions": VERSIONS,
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "began": time.time(),
            "finished": False}
        if order.weights:
            record["start"] = order.weights.parent.name
        if before := record_of(folder):  # interrupted
            record |= {k: before[k] for k in ("created", "began", "commit")}
        write_json(folder / "run.json", record)
    history = fit(objective, train, validation, order.recipe.fit, folder, log, monitor)
    if fabric.is_global_zero:
        write_json(folder / "history.json", history.to_json())
        if hasattr(getattr(objective, "model", None), "save_pretrained"):
            objective.cpu().model.save_pretrained(folder)
        record |= {"finished": True, "train_seconds": history.train_seconds,
                   "updates": history.updates, "best_update": history.best_update}
        write_json(folder / "run.json", record)


def probe(profile: Profile, jets: JetImages, known: int = 1_000, more: int = 0) -> Monitor:
    """The monitor of a pretraining: probes that learn from ``known`` of the labelled training jets
    and judge the validation jets and, for who saw no labels, ``more`` of the others' events."""
    learn, validation = indices(Recipe(hold_out=profile.data != "simulated"), jets)
    order = learn[torch.randperm(len(learn), generator=torch.Generator().manual_seed(0))]
    rest = order[known:]
    rest = rest[torch.from_numpy(~np.isin(jets.event[rest], jets.event[order[:known]]))][:more]
    return Monitor(jets, order[:known].sort().values, torch.cat([validation, rest]))


def pretrain(name: str, recipe: Recipe | Mapping, profile: Profile, unlabelled: Jets,
             labelled: Jets, **options: Any) -> Run:
    """A pretraining through the cache, watched by ``probe``; ``options`` go to ``train``."""
    return train(name, recipe, unlabelled, runs=profile.runs_dir,
                 monitor=probe(profile, opened(labelled)), **options)


def grid(name: str, arms: Mapping[str, Recipe | Mapping], seeds: Sequence[int], jets: Jets,
         test: Jets | None = None, *, runs: Path | str, jobs: int = 1,
         log: Log = print) -> dict[str, list[Run]]:
    """Every arm with every seed, through the cache: what is finished is skipped, what was
    interrupted resumes; the runs of each arm, in the order of the seeds.

    Args:
        arms: recipe of each arm, whatever its seed.
        jobs: processes at a time, of one thread each, or a cluster's (``lib.workers``); needs
            files for ``jets`` and ``test``.

    Raises:
        RuntimeError: runs failed (the others were finished first), or a worker was killed."""
    wanted = [(f"{name}-{arm}-{seed}", arm, Recipe.of(recipe, seed=seed))
              for seed in seeds for arm, recipe in arms.items()]
    files, (jets, test) = (jets, test), (opened(jets), opened(test))
    if jobs > 1 or workers.scheduler():
        if not isinstance(files[0], (str, Path)) or isinstance(files[1], JetImages):
            raise ValueError("jobs: give the files of the jets, for each process opens them itself")
        places = [None if path is None else str(path) for path in (*files, runs)]
        for left in reversed(range(workers.TRIES)):
            todo = {title: recipe for title, _, recipe in wanted
                    if not record_of(Order(recipe, jets, runs).folder() or Path()).get("finished")}
            with workers.processes(min(jobs, len(todo))) as pool:
                killed = _wait({pool.submit(_one, title, recipe.to_json(), *places): title
                                for title, recipe in todo.items()}, log)
            if not killed:
                break
            if not left:
                raise RuntimeError(f"{killed}; run again to go on from the cache")
            log(f"{killed}; others go on")
    done: dict[str, list[Run]] = {arm: [] for arm in arms}
    for number, (title, arm, recipe) in enumerate(wanted, 1):
        log(f"[{number}/{len(wanted)}] {name}: {arm}, seed {recipe.seed}")
        done[arm].append(train(title, recipe, jets, test, runs=runs, log=log))
    return done


def _wait(tasks: Mapping[Future, str], log: Log) -> str | None:
    """Until all are done; what fails does not stop the others. Whose worker was killed, if any."""
    failed = []
    for task in as_completed(tasks):
        try:
            log(f"{tasks[task]}: {task.result():.0f} s")
        except BrokenExecutor:
            return f"{tasks[task]}: its worker was stopped or killed (memory?)"
        except Exception as error:
            failed.append(tasks[task])
            log(f"{tasks[task]}: {error}")
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(tasks)} runs failed: {', '.join(failed)}")
    return None


def _one(title: str, recipe: dict, jets: str, test: str | None, runs: str) -> float:
    """Train one run in a worker; the seconds it took."""
    began = time.time()
    try:
        train(title, recipe, jets, test, runs=runs, log=lambda line: None)
    except (KeyboardInterrupt, SystemExit):  # a signal ends the worker, not only its task
        os._exit(128 + signal.SIGTERM)
    return time.time() - began
