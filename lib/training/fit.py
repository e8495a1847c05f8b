"""The one training loop, for notebook, command line, one GPU and several (Lightning Fabric).

``fit(objective, train, validation, settings, folder)`` makes a fixed number of optimiser updates.
Every so often, as a rule once per pass over the jets, it validates, prints a line and writes a
checkpoint. Killed at any moment and started again with the same folder, it ends where the
uninterrupted run would have (bit for bit in float32 on a CPU), because a checkpoint holds all there
is: weights, their average, the optimiser, the random generator, the update and the running sums;
and because the order of the jets follows from the number of the pass alone.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from tqdm import tqdm

from lib.data.tokens import Batch
from lib.evaluation.predictions import resolve_precision, validate
from lib.training import checkpoint
from lib.training.optim import (
    FitSettings,
    History,
    follow_plateau,
    goodness,
    learning_rate,
    parameter_groups,
)

__all__ = ["FitSettings", "History", "fit"]

def keep_memory() -> None:
    """Keep freed memory in the process instead of giving it back to the system after each tensor.

    Fetching it again, page by page, is a sixth of the time of a small model's step on a CPU.
    With glibc only (``mallopt(3)``: mmap threshold, trim threshold, padding); elsewhere nothing.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        for parameter, value in ((-3, 32 << 20), (-1, (1 << 31) - 1), (-2, 256 << 20)):
            libc.mallopt(parameter, value)


def _share(batches: Iterable[Batch], fabric: Fabric) -> Iterator[Batch]:
    """Every process takes its share of the batches, all of them equally many."""
    whole = len(batches) // fabric.world_size * fabric.world_size
    for number, batch in enumerate(batches):
        if number < whole and number % fabric.world_size == fabric.global_rank:
            yield batch.to(fabric.device)


def _stream(batches: Iterable[Batch], fabric: Fabric, epoch: int) -> Iterator[Batch]:
    """Batches without end, pass after pass; made on the device, if that is where jets can be."""
    if fabric.device.type != "cpu" and hasattr(batches, "jets"):
        batches = copy.copy(batches)
        batches.jets = batches.jets.to(fabric.device)
    while True:
        if hasattr(batches, "set_epoch"):
            batches.set_epoch(epoch)
        yield from _share(batches, fabric)
        epoch += 1


@contextlib.contextmanager
def _averaged(module: nn.Module, average: dict[str, Tensor]) -> Iterator[None]:
    """The module with its averaged weights, for as long as the context lasts."""
    parameters = dict(module.named_parameters())
    own = {name: parameters[name].detach().clone() for name in average}
    with torch.no_grad():
        for name, value in average.items():
            parameters[name].copy_(value)
        yield
        for name, value in own.items():
            parameters[name].copy_(value)


class _Loss(nn.Module):
    """The objective's loss as a forward pass, which is what Fabric can wrap. It is handed the batch
    in a function, because Fabric would copy the tensors that it sees."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: Callable[[], Batch]) -> tuple[Tensor, dict[str, Tensor]]:
        return self.objective.loss(batch())


def _line(row: dict, passes: float, updates: int) -> str:
    """One line for the log."""
    def parts(start: str) -> str:
        shown = ("class", "mass", "balance", "z", "match", "mean")
        found = [f"{n} {row[start + n]:.4f}" for n in shown if start + n in row]
        return f" ({', '.join(found)})" if found else ""

    line = f"epoch {row['epoch']:.3g}/{passes:.3g}  update {row['update']}/{updates}"
    line += f"  loss {row['loss']:.4f}{parts('')}"
    if "val_loss" in row:
        line += f"  validation {row['val_loss']:.4f}{parts('val_')}"
    line += f"  AUC {row['val_auc']:.4f}" if "val_auc" in row else ""
    line += f"  MAE {row['val_mae']:.1f} GeV" if "val_mae" in row else ""
    line += f"  probe {row['probe_auc']:.4f}" if "probe_auc" in row else ""
    return line + f"  {row['images_s']:.0f} images/s  {row['seconds']:.0f} s"


# --- the loop -------------------------------------------------------------------------------------


def fit(
    objective: nn.Module, train: Iterable[Batch], validation: Iterable[Batch] | None = None,
    settings: FitSettings | None = None, folder: Path | str | None = None,
    log: Callable[[str], None] = print, monitor: Callable[[nn.Module], dict] | None = None,
) -> History:
    """Train an objective in place; it ends with the weights that validation chose, in eval mode.

    Args:
        objective: a module with ``loss(batch)``; see ``lib.training.objectives``.
        train, validation: batches with a length; ``train.set_epoch(n)`` is called before pass n.
        settings: how to train.
        folder: where ``last.safetensors`` (everything, to resume from) and ``best.safetensors``
            (the chosen weights) are written; a checkpoint found there is resumed.
        log: gets one line per validation.
        monitor: called with the objective at each validation; its numbers enter the history.

    Raises:
        ValueError: nothing to train on, or the folder holds a run with other settings.
        FloatingPointError: a loss or gradient is not finite; the last good checkpoint is kept.
        KeyboardInterrupt, SystemExit: SIGINT, SIGTERM, after a checkpoint was written.
    """
    settings = settings or FitSettings()
    keep_memory()
    fabric = Fabric(accelerator=settings.accelerator, devices=settings.devices,
                    precision=resolve_precision(settings.precision))
    fabric.launch()
    torch.manual_seed(settings.seed + fabric.global_rank)
    per_epoch = len(train) // fabric.world_size
    if per_epoch < 1:
        raise ValueError(f"{len(train)} batches for {fabric.world_size} process(es): nothing to "
                         "train on; give more jets or a smaller batch")
    every = settings.every or max(per_epoch, 20)
    patient = 1 if fabric.device.type == "cpu" else 25  # updates between looks at the loss

    optimizer = torch.optim.AdamW(parameter_groups(objective, settings))
    step, optimizer = fabric.setup(_Loss(objective), optimizer)
    trained = {n: p for n, p in objective.named_parameters() if p.requires_grad}
    average = {n: p.detach().clone() for n, p in trained.items()} if settings.ema else {}
    history, kept = History(), {}
    sums: dict[str, Tensor] = {}  # losses since the last validation, left on the device
    state = {"jets": 0, "clock": 0.0, "best": -math.inf, "waited": 0,
             "plateau": {"factor": 1.0, "lowest": math.inf, "waited": 0}}
    pending: list[Tensor] = []  # losses not yet looked at

    last, best = (Path(folder) / f"{n}.safetensors" for n in ("last", "best")) if folder else (0, 0)
    same = {k: v for k, v in asdict(settings).items() if k not in ("accelerator", "devices")}
    if folder and last.exists():
        tensors, notes = checkpoint.read(last)
        if notes["settings"] != same:
            changed = [k for k in same if notes["settings"].get(k) != same[k]]
            raise ValueError(f"{last} was made with another {', '.join(changed)}: use a new folder")
        history, state = History.from_json(notes["history"]), notes["state"]
        objective.load_state_dict(checkpoint.part(tensors, "objective."))
        checkpoint.restore_optimizer(optimizer, tensors)
        average = {n: v.to(fabric.device) for n, v in checkpoint.part(tensors, "average.").items()}
        sums = {n: v.to(fabric.device) for n, v in checkpoint.part(tensors, "sums.").items()}
        kept = checkpoint.read(best)[0] if history.best_update else {}
        if not history.stopped:
            log(f"resuming at update {history.updates}/{settings.updates}")

    stream = _stream(train, fabric, history.updates // per_epoch)
    if not history.stopped:
        for _ in range(history.updates % per_epoch):  # the part of the pass that is done
            next(stream)
    if history.updates:
        checkpoint.restore_random(tensors, fabric.device)

    def look() -> None:
        """Stop at the first loss that is not finite; waits for the device, so not every time."""
        if pending and not (fine := torch.stack(pending).isfinite()).all():
            update = history.updates - len(pending) + int(fine.int().argmin()) + 1
            held = "; the last good checkpoint is kept" if folder and last.exists() else ""
            raise FloatingPointError(
                f"loss or gradient not finite at update {update} (epoch {update / per_epoch:.2f})"
                f"{held}: lower lr ({settings.lr:g}), or look at the input")
        pending.clear()

    def save() -> None:
        look()
        if not folder or not fabric.is_global_zero:
            return
        last.parent.mkdir(parents=True, exist_ok=True)
        tensors = {f"objective.{n}": v for n, v in objective.state_dict().items()}
        tensors |= {f"average.{n}": v for n, v in average.items()}
        tensors |= {f"sums.{n}": v for n, v in sums.items()}
        tensors |= checkpoint.optimizer_tensors(optimizer)
        tensors |= checkpoint.random_state(fabric.device)
        checkpoint.write(last, tensors, settings=same, history=history.to_json(), state=state)

    def keep() -> None:
        """The weights to end with (averaged ones, if there is an average)."""
        kept.update({n: v.detach().cpu().clone() for n, v in objective.state_dict().items()})
        history.best_update = history.updates
        history.best_epoch = history.updates / per_epoch
        if folder and fabric.is_global_zero:
            best.parent.mkdir(parents=True, exist_ok=True)
            checkpoint.write(best, kept, update=history.updates)

    def validated(factor: float) -> dict:
        """The row of the history for this moment; the best weights are kept, patience may end."""
        seconds = history.train_seconds - state["clock"]
        row = {"epoch": history.updates / per_epoch, "update": history.updates,
               "lr": settings.lr * factor, "jets": state["jets"]}
        row |= {name: float(value) / state["jets"] for name, value in sums.items()}
        row |= {"images_s": state["jets"] * fabric.world_size / max(seconds, 1e-9),
                "seconds": history.train_seconds}
        objective.eval()
        with _averaged(objective, average):
            row |= validate(objective, validation, fabric) if validation else {}
            row |= monitor(objective) if monitor else {}
            if validation and (good := goodness(row, settings.select)) > state["best"]:
                state.update(best=good, waited=0)
                keep()
            else:
                state["waited"] += 1
            if history.stopped and not kept:
                keep()
        objective.train()
        follow_plateau(state["plateau"], row, settings)
        if validation and settings.patience and state["waited"] >= settings.patience:
            history.stopped = "patience"
        history.append(row)
        state.update(jets=0, clock=history.train_seconds)
        sums.clear()
        return row

    objective.train()
    on_terminal = sys.stderr.isatty() and fabric.is_global_zero
    bar = tqdm(total=settings.updates, initial=history.updates, disable=not on_terminal)
    with checkpoint.interrupts() as caught, bar:
        started = saved = time.perf_counter()
        before = history.train_seconds
        while not history.stopped:
            batch = next(stream)
            progress = (history.updates + 0.5) / settings.updates
            if settings.minutes:
                progress = max(progress, history.train_seconds / (60 * settings.minutes))
            factor = learning_rate(progress, settings) * state["plateau"]["factor"]
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor

            loss, parts = step(lambda batch=batch: batch)
            fabric.backward(loss)
            watched = loss.detach()
            if settings.clip:
                norm = fabric.clip_gradients(step, optimizer, max_norm=settings.clip,
                                             error_if_nonfinite=False)
                watched = watched + 0 * norm  # not finite if the gradient is not
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            history.updates += 1
            if average:  # a short memory at first, so that the start is forgotten
                decay = min(settings.ema, (1 + history.updates) / (10 + history.updates))
                torch._foreach_lerp_(list(average.values()),
                                     [trained[n].detach() for n in average], 1 - decay)
            if hasattr(objective, "after_update"):
                objective.after_update(progress)

            pending.append(watched)
            jets = len(batch.index)
            state["jets"] += jets
            for name, value in {"loss": loss, **parts}.items():
                sums[name] = sums.get(name, 0) + value.detach().float() * jets
            if len(pending) >= patient:
                look()
            now = time.perf_counter()
            history.train_seconds = before + now - started
            bar.update()
            if history.updates >= settings.updates:
                history.stopped = "updates"
            elif settings.minutes and history.train_seconds >= 60 * settings.minutes:
                history.stopped = "minutes"

            if history.updates % every == 0 or history.stopped:
                look()
                line = _line(validated(factor), settings.updates / per_epoch, settings.updates)
                with tqdm.external_write_mode() if on_terminal else contextlib.nullcontext():
                    if fabric.is_global_zero:
                        log(line)
            if history.updates % every == 0 or history.stopped or caught or now - saved > 60:
                save()
                before, started = history.train_seconds, time.perf_counter()
                saved = started
            if caught and not history.stopped:
                left = f"; the same call resumes from {last}" if folder else ""
                log(f"stopped by signal {caught[0]} at update {history.updates}{left}")
                raise KeyboardInterrupt if caught[0] == 2 else SystemExit(128 + caught[0])

    objective.load_state_dict(kept)
    objective.eval()
    return history
