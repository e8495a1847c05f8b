"""The one training loop, for notebook, command line, one device and several (Lightning Fabric).

``fit(objective, train, validation, settings, folder)`` makes a fixed number of optimiser updates.
Every so often it validates, prints a line and writes a checkpoint. Killed at any moment and started
again with the same folder, it ends where the uninterrupted run would have, bit for bit in float32
on a CPU: a checkpoint holds all there is, and the number of the pass gives the order of the jets.

Several processes share each batch, so that losses and gradients are those of one process; each
reads its own jets only, and the first one validates, decides, writes and speaks for all."""

import copy
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import environments
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from lib import together, workers
from lib.data.batches import Batches
from lib.data.tokens import Batch
from lib.evaluation.predictions import make_fabric, validate
from lib.files import DataError, guarded, write_tensors
from lib.training import checkpoint, optim
from lib.training.optim import FitSettings, History, goodness, learning_rate, parameter_groups

SAVE_SECONDS = 60  # between checkpoints, where validations are rarer
SHOWN = {"val_auc": "AUC {:.4f}", "val_mae": "mass error {:.1f} GeV", "probe_auc": "probe {:.4f}"}


def fit(objective: nn.Module, train: Batches, validation: Iterable[Batch] | None = None,
        settings: FitSettings | None = None, folder: Path | str | None = None,
        log: Callable[[str], None] = print,
        monitor: Callable[[nn.Module], dict] | None = None) -> History:
    """Train an objective in place; it ends with the weights that validation chose, in eval mode.

    Args:
        objective: a module with ``loss(batch)``; see ``lib.training.objectives``.
        folder: where ``last.safetensors`` (everything, to resume from) and ``best.safetensors``
            (the chosen weights) are written; a checkpoint found there is resumed.
        log: gets one line per validation.
        monitor: called with the objective at each validation; its numbers enter the history.

    Raises:
        ValueError: nothing to train on, or the folder holds a run with other settings.
        FloatingPointError: a loss or gradient is not finite; the last good checkpoint is kept.
        KeyboardInterrupt, SystemExit: SIGINT, SIGTERM, after a checkpoint was written."""
    settings = settings or FitSettings()
    state = State(objective, train, settings, folder)
    first = state.fabric.is_global_zero
    log = log if first else lambda line: None
    batches = _resume(state, train, log)
    history = state.history
    bar = tqdm(total=settings.updates, initial=history.updates, leave=False,
               disable=not (first and sys.stderr.isatty()))
    objective.train()
    with checkpoint.interrupts() as caught, bar:
        clock = saved = time.perf_counter()
        while not history.stopped:
            factor = _update(state, next(batches))
            now = time.perf_counter()
            history.train_seconds, clock = history.train_seconds + now - clock, now
            number, late = _agreed(state, *caught[:1] or [0], now - saved > SAVE_SECONDS)
            bar.update()
            if history.updates >= settings.updates:
                history.stopped = "updates"
            elif settings.minutes and history.train_seconds >= 60 * settings.minutes:
                history.stopped = "minutes"
            due = history.updates % state.every == 0 or bool(history.stopped)
            if due:
                row = _validate(state, validation, monitor, factor)
                with tqdm.external_write_mode():
                    log(_line(row, state))
            if due or number or late:
                _save(state)
                clock = saved = time.perf_counter()
            if number and not history.stopped:
                left = f"; the same call resumes from {state.last}" if folder else ""
                log(f"stopped by signal {number} at update {history.updates}{left}")
                raise KeyboardInterrupt if number == 2 else SystemExit(128 + number)
    objective.load_state_dict(state.kept)
    objective.to(state.place).eval()
    return history


def launched(settings: FitSettings) -> Fabric:
    """The devices of a fit, with one process each: those that torchrun, `fabric run` or srun has
    started; else they are started here, by running the script once more, and later calls find them.
    ``devices=0`` is this process alone. ValueError where the two numbers differ."""
    wanted, env, how = settings.devices, os.environ, {}
    tasks, nodes = (int(env.get(f"SLURM_STEP_NUM_{n}", 1)) for n in ("TASKS", "NODES"))
    number, here, launcher = tasks, -(-tasks // nodes), environments.SLURMEnvironment
    if elastic := torch.distributed.is_torchelastic_launched():
        number, here = int(env["WORLD_SIZE"]), int(env["LOCAL_WORLD_SIZE"])
        launcher = environments.TorchElasticEnvironment
    if wanted and (elastic or number > 1):
        if wanted not in (1, "auto", here) or number % here or (elastic and tasks > nodes):
            raise ValueError(f"devices={wanted}, but {'torchrun' if elastic else 'srun'} has "
                             f"started {number} processes, {here} on this node: give the same "
                             "number, or none; of torchruns, srun may start one task per node")
        how = {"devices": here, "num_nodes": number // here, "plugins": launcher()}
    elif wanted not in (0, 1):
        how = {"devices": wanted, "plugins": environments.LightningEnvironment()}
        if env.get("LOCAL_RANK", "0") == "0":
            env["JETS_FIRST"] = str(os.getpid())
        else:  # the first may be killed before they have met
            workers.end_with(int(env.get("JETS_FIRST") or os.getppid()))
    if how:  # whoever waits for a lock or a simulation of the first process has patience
        warnings.filterwarnings("ignore", "Grad strides do not match")  # of convolutions with one
        how["strategy"] = DDPStrategy(timeout=timedelta(hours=12), static_graph=True)
    fabric = make_fabric(settings.precision, settings.accelerator, **how)
    fabric.launch()
    return fabric


class State:
    """Everything that changes while a fit goes on, and what it is made with."""

    def __init__(self, objective: nn.Module, train: Batches, settings: FitSettings,
                 folder: Path | str | None) -> None:
        self.objective, self.settings, self.fabric = objective, settings, launched(settings)
        torch.manual_seed(settings.seed + self.fabric.global_rank)
        self.per_epoch, processes = len(train), self.fabric.world_size  # batches in a pass
        if not self.per_epoch:
            raise ValueError("0 batches: nothing to train on")
        if processes > 1 and (settings.batch_size % processes
                              or min(map(len, train.plan())) < processes):
            raise ValueError(f"batches of {settings.batch_size} for {processes} processes: give a "
                             "multiple, and that many jets")
        self.every = settings.every or max(self.per_epoch, 20)  # updates between validations
        self.place = next(objective.parameters()).device  # where it was, and will be
        optimizer = torch.optim.AdamW(parameter_groups(objective, settings), fused=True)
        self.step, self.optimizer = self.fabric.setup(_Loss(objective), optimizer)
        self.last, self.best = (Path(folder) / f"{n}.safetensors" if folder else None
                                for n in ("last", "best"))
        self.history = History()
        self.average = _averaging(self) if settings.ema else None  # with buffers
        # what is validated and kept: the average, if there is one; the weights to end with
        self.judged = objective if self.average is None else self.average.module
        self.kept: dict[str, Tensor] = {}
        self.sums: dict[str, Tensor] = {}  # losses since validation, times jets
        self.pending: list[Tensor] = []  # losses not yet looked at
        # Since the last validation ``jets`` and ``clock``; ``waited`` since the ``best`` one.
        self.marks: dict[str, Any] = {
            "jets": 0, "clock": 0.0, "best": -math.inf, "waited": 0,
            "plateau": {"factor": 1.0, "lowest": math.inf, "waited": 0}}
        # what a checkpoint has to agree in
        self.same = {k: v for k, v in asdict(settings).items() if k not in optim.WHERE}


class _Loss(nn.Module):
    """The objective's loss as a forward pass, which is what Fabric can wrap. It is handed the batch
    in a function, because Fabric would copy the tensors that it sees."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: Callable[[], Batch]) -> tuple[Tensor, dict[str, Tensor]]:
        return self.objective.loss(batch())


def _averaging(state: State) -> AveragedModel:
    """An average with a short memory at first, so that the start is forgotten."""

    @torch.no_grad()
    def towards(average: list[Tensor], now: list[Tensor], _: Any) -> None:
        updates = state.history.updates
        decay = min(state.settings.ema, (1 + updates) / (10 + updates))
        if average[0].is_floating_point():
            torch._foreach_lerp_(average, now, 1 - decay)
        else:  # counters
            torch._foreach_copy_(average, now)

    average = AveragedModel(state.objective, multi_avg_fn=towards, use_buffers=True)
    average.update_parameters(state.objective)  # its first call copies: it begins at the start
    return average.eval()


def _resume(state: State, train: Batches, log: Callable[[str], None]) -> Iterator[Batch]:
    """Take up the checkpoint, if there is one; the batches that are still to come."""
    state.fabric.barrier()  # the first process may have moved a stale folder aside
    if state.last and state.last.exists():
        with guarded(state.last, "delete its folder", "not a checkpoint of this training"):
            tensors, notes = checkpoint.read(state.last)
            if changed := [k for k, v in state.same.items() if notes["settings"].get(k) != v]:
                raise DataError(f"{state.last} was made with another {', '.join(changed)}: use a "
                                "new folder")
            state.history, state.marks = History.from_json(notes["history"]), notes["state"]
            state.objective.load_state_dict(checkpoint.part(tensors, "objective."))
            checkpoint.restore(tensors, state.optimizer, state.fabric)
            if state.average is not None:
                state.average.load_state_dict(checkpoint.part(tensors, "average."))
            state.sums = {n: v.to(state.fabric.device)
                          for n, v in checkpoint.part(tensors, "sums.").items()}
            state.kept = checkpoint.read(state.best)[0] if state.history.best_update else {}
        if not state.history.stopped:
            log(f"resuming at update {state.history.updates}/{state.settings.updates}")
    return _stream(train, state.fabric, *divmod(state.history.updates, state.per_epoch))


def _stream(batches: Batches, fabric: Fabric, epoch: int, done: int) -> Iterator[Batch]:
    """Batches without end, pass after pass, from one that is ``done`` in part; made on the device.
    Every process reads its own share of each, as many jets and of the same sizes as the others."""
    if fabric.device.type != "cpu":
        batches = copy.copy(batches)
        batches.jets = batches.jets.to(fabric.device)
    rank, processes = fabric.global_rank, fabric.world_size
    while True:
        batches.set_epoch(epoch)
        for index in batches.plan()[done:]:
            whole = len(index) // processes * processes  # less only where there is one small batch
            yield batches.read(index[rank:whole:processes]).to(fabric.device)
        epoch, done = epoch + 1, 0


def _update(state: State, batch: Batch) -> float:
    """One step of the optimiser; the factor on the learning rate that it was made with."""
    settings, history, optimizer = state.settings, state.history, state.optimizer
    progress = (history.updates + 0.5) / settings.updates
    if settings.minutes:
        progress = max(progress, history.train_seconds / (60 * settings.minutes))
    factor = learning_rate(progress, settings) * state.marks["plateau"]["factor"]
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor

    with together.step(state.fabric.world_size):
        loss, parts = state.step(lambda: batch)
        state.fabric.backward(loss)
    watched = state.fabric.all_reduce(loss.detach())
    if settings.clip:
        norm = state.fabric.clip_gradients(state.step, optimizer, max_norm=settings.clip,
                                           error_if_nonfinite=False)
        watched = watched + 0 * norm  # not finite if the gradient is not
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    history.updates += 1
    if state.average is not None:
        state.average.update_parameters(state.objective)
    if hasattr(state.objective, "after_update"):
        state.objective.after_update(progress)

    jets = len(batch.index)
    state.marks["jets"] += jets
    for name, value in {"loss": loss, **parts}.items():
        state.sums[name] = state.sums.get(name, 0) + value.detach().float() * jets
    state.pending.append(watched)
    if len(state.pending) >= (1 if state.fabric.device.type == "cpu" else 25):
        _check(state)
    return factor


def _agreed(state: State, number: int, late: bool) -> tuple[int, bool]:
    """The signal that any process has caught, and whether it is time for a checkpoint: for all
    alike. A limit in minutes has one clock, so that all end at the same update."""
    fabric, history, minutes = state.fabric, state.history, state.settings.minutes
    if fabric.world_size == 1:
        return number, late
    if history.updates % (1 if fabric.device.type == "cpu" or minutes else 25):
        return 0, False  # a GPU would have to be waited for
    mine = torch.tensor([number, late, history.train_seconds if minutes else 0])
    number, late, seconds = fabric.all_reduce(mine.to(fabric.device), reduce_op="max").tolist()
    history.train_seconds = seconds if minutes else history.train_seconds
    return int(number), bool(late)


def _check(state: State) -> None:
    """Stop at the first loss that is not finite; waits for the device, so not every time."""
    if state.pending and not (fine := torch.stack(state.pending).isfinite()).all():
        update = state.history.updates - len(state.pending) + int(fine.int().argmin()) + 1
        held = state.last and state.last.exists()
        raise FloatingPointError(
            f"loss or gradient not finite at update {update} (epoch "
            f"{update / state.per_epoch:.2f}){'; the last good checkpoint is kept' if held else ''}"
            f": lower lr ({state.settings.lr:g}), or look at the input")
    state.pending.clear()


def _validate(state: State, validation: Iterable[Batch] | None, monitor: Callable | None,
              factor: float) -> dict:
    """The row of the history for this moment; the best weights are kept, patience may end."""
    _check(state)
    history, settings, marks, fabric = state.history, state.settings, state.marks, state.fabric
    seconds = history.train_seconds - marks["clock"]
    jets = marks["jets"] * fabric.world_size
    row = {"epoch": history.updates / state.per_epoch, "update": history.updates,
           "lr": settings.lr * factor, "jets": jets}
    row |= {name: float(fabric.all_reduce(value, reduce_op="sum")) / jets
            for name, value in state.sums.items()}
    row |= {"images_s": jets / max(seconds, 1e-9), "seconds": history.train_seconds}
    state.objective.eval()
    if fabric.is_global_zero:
        row |= validate(state.judged, validation, fabric) if validation else {}
        row |= monitor(state.judged) if monitor else {}
    row = fabric.broadcast(row)  # the others decide by the same numbers
    if validation and (good := goodness(row, settings.select)) > marks["best"]:
        marks.update(best=good, waited=0)
        _keep(state)
    else:
        marks["waited"] += 1
    if history.stopped and not state.kept:
        _keep(state)
    state.objective.train()
    follow_plateau(marks["plateau"], row, settings)
    if validation and settings.patience and marks["waited"] >= settings.patience:
        history.stopped = "patience"
    history.append(row)
    marks.update(jets=0, clock=history.train_seconds)
    state.sums.clear()
    return row


def follow_plateau(plateau: dict, row: dict, settings: FitSettings) -> None:
    """ReduceLROnPlateau on the validation loss (the training loss where there is no validation)."""
    if settings.schedule != "plateau":
        return
    value = row.get("val_loss", row["loss"])
    plateau["waited"] = 0 if value < plateau["lowest"] else plateau["waited"] + 1
    plateau["lowest"] = min(value, plateau["lowest"])
    if plateau["waited"] > settings.plateau_patience:
        plateau["factor"] *= settings.factor
        plateau["waited"] = 0


def _keep(state: State) -> None:
    """Remember the weights as they are now."""
    history = state.history
    state.kept = {n: v.detach().cpu().clone() for n, v in state.judged.state_dict().items()}
    history.best_update = history.updates
    if state.best and state.fabric.is_global_zero:
        write_tensors(state.best, state.kept, update=history.updates)


def _save(state: State) -> None:
    """Write the checkpoint to resume from."""
    _check(state)
    random = checkpoint.random(state.fabric)
    if state.last and state.fabric.is_global_zero:
        average = {} if state.average is None else state.average.state_dict()
        parts = {"objective": state.objective.state_dict(), "average": average, "sums": state.sums}
        tensors = {f"{part}.{n}": v for part, held in parts.items() for n, v in held.items()}
        tensors |= checkpoint.stored(state.optimizer) | random
        write_tensors(state.last, tensors, settings=state.same, state=state.marks,
                      history=state.history.to_json())


def _line(row: dict, state: State) -> str:
    """One line for the log: the parts of the loss that the objective wants shown, then the rest."""
    names = getattr(state.objective, "shown", [n for n in row if f"val_{n}" in row and n != "loss"])
    updates = state.settings.updates

    def loss(start: str) -> str:
        found = [f"{n} {row[start + n]:.4f}" for n in names if start + n in row]
        return f"{row[start + 'loss']:.4f}" + (f" ({', '.join(found)})" if found else "")

    said = [f"epoch {row['epoch']:.3g}/{updates / state.per_epoch:.3g}",
            f"update {row['update']}/{updates}", f"loss {loss('')}"]
    said += [f"validation {loss('val_')}"] if "val_loss" in row else []
    said += [text.format(row[name]) for name, text in SHOWN.items() if name in row]
    return "  ".join([*said, f"{row['images_s']:.0f} images/s", f"{row['seconds']:.0f} s"])
