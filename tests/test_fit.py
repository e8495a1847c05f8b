"""The training loop on a toy: what a user relies on, without waiting for a real model."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from lib.data.tokens import Batch, Grid, TokenBatch
from lib.profiles import ROOT
from lib.training import checkpoint
from lib.training.fit import FitSettings, fit, follow_plateau
from lib.training.objectives import MASS_LOSSES, Supervised
from lib.training.optim import History, learning_rate, parameter_groups

GRID = Grid(1, 2, 2, 1, 1)


def batch_of(index: torch.Tensor, mass: bool = True, labels: bool = True) -> Batch:
    """Jets whose label and mass can be learned from their four features."""
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(1000, 4, 1, generator=generator)[index]
    label = (features.sum((1, 2)) > 0).long()
    tokens = TokenBatch(features, torch.arange(4).expand(len(index), 4),
                        torch.ones(len(index), 4, dtype=torch.bool), GRID)
    return Batch(tokens, label if labels else None,
                 100 + 20 * features[:, 0, 0] if mass else None, None, index)


class ToyBatches:
    """Batches in an order that follows from the epoch alone, as those of ``lib.data.batches``."""

    def __init__(self, jets: int, size: int = 16, shuffle: bool = True, **columns: bool) -> None:
        self.count, self.size, self.shuffle, self.columns = jets, size, shuffle, columns
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.count // self.size)

    def plan(self):
        order = torch.arange(self.count)
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.epoch)
            order = torch.randperm(self.count, generator=generator)
        return order.split(self.size)

    def read(self, index):
        return batch_of(index, **self.columns)

    def __iter__(self):
        yield from map(self.read, self.plan())


class Toy(nn.Module):
    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.body, self.drop = nn.Linear(4, 16), nn.Dropout(dropout)
        self.norm = nn.LayerNorm(16)
        self.temperature = nn.Parameter(torch.ones(1, 2, 1, 1))
        self.position = nn.Embedding(4, 2)
        self.class_head, self.mass_head = nn.Linear(16, 2), nn.Linear(16, 1)
        self.register_buffer("mass_std", torch.tensor(20.0))

    def forward(self, tokens: TokenBatch):
        x = self.norm(self.drop(torch.relu(self.body(tokens.features.flatten(1)))))
        x = x * self.temperature.mean() + self.position.weight.mean()
        return self.class_head(x), 100 + 20 * self.mass_head(x).squeeze(-1)


def toy(**kwargs) -> Supervised:
    torch.manual_seed(0)
    return Supervised(Toy(**kwargs))


def settings(**changes) -> FitSettings:
    return FitSettings(**{"updates": 40, "lr": 1e-2, "every": 8, "accelerator": "cpu", **changes})


def weights(objective: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in objective.state_dict().items()}


def assert_equal(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def quiet(line: str) -> None:
    pass


def test_learns_and_keeps_the_best_weights():
    lines = []
    objective = toy(dropout=0.0)
    history = fit(objective, ToyBatches(200), ToyBatches(100, shuffle=False), settings(updates=80),
                  log=lines.append)
    assert history.updates == 80
    assert history.stopped == "updates"
    assert len(lines) == len(history) == 10
    assert history[-1]["val_auc"] > 0.95
    assert history[-1]["val_mae"] < 10
    best = max(history, key=lambda row: row["val_auc"])
    assert history.best_update == best["update"]
    assert not objective.training
    assert "AUC" in lines[-1]
    assert "images/s" in lines[-1]
    assert "update 80/80" in lines[-1]
    assert History.from_json(history.to_json()) == history


class Interrupt(Exception):
    pass


@pytest.mark.parametrize("stop", [8, 13, 29])
@pytest.mark.parametrize("ema", [None, 0.9])
def test_resume_equals_uninterrupted(tmp_path, stop, ema):
    """A run stopped between two validations, or at one, ends bit for bit as if it had not been."""
    chosen = settings(ema=ema, schedule="plateau", plateau_patience=0)
    whole = toy()
    expected = fit(whole, ToyBatches(200), ToyBatches(64), chosen, tmp_path / "whole", quiet)

    class Stopping(Supervised):
        made = 0

        def after_update(self, progress: float) -> None:
            self.made += 1
            if self.made == stop:
                os.kill(os.getpid(), signal.SIGTERM)

    torch.manual_seed(0)
    with pytest.raises(SystemExit):
        fit(Stopping(Toy()), ToyBatches(200), ToyBatches(64), chosen, tmp_path / "cut", quiet)
    lines = []
    resumed = toy()
    torch.manual_seed(99)  # whatever the new process has drawn
    history = fit(resumed, ToyBatches(200), ToyBatches(64), chosen, tmp_path / "cut", lines.append)
    assert f"resuming at update {stop}/40" in lines[0]
    assert_equal(weights(whole), weights(resumed))
    times = ("seconds", "images_s")
    clean = [[{k: v for k, v in row.items() if k not in times} for row in h]
             for h in (expected, history)]
    assert clean[0] == clean[1]


def test_killed_without_a_chance_to_save_resumes_from_the_last_checkpoint(tmp_path):
    whole = toy()
    fit(whole, ToyBatches(200), ToyBatches(64), settings(), log=quiet)

    class Dying(Supervised):
        made = 0

        def after_update(self, progress: float) -> None:
            self.made += 1
            if self.made == 21:
                raise Interrupt

    torch.manual_seed(0)
    with pytest.raises(Interrupt):
        fit(Dying(Toy()), ToyBatches(200), ToyBatches(64), settings(), tmp_path, quiet)
    lines = []
    resumed = toy()
    fit(resumed, ToyBatches(200), ToyBatches(64), settings(), tmp_path, lines.append)
    assert lines[0] == "resuming at update 16/40"
    assert_equal(weights(whole), weights(resumed))
    assert not list(tmp_path.glob(".*"))  # no half-written file


def test_finished_run_is_not_trained_again(tmp_path):
    first = toy()
    history = fit(first, ToyBatches(64), ToyBatches(64), settings(), tmp_path, quiet)
    second, lines = toy(), []
    again = fit(second, ToyBatches(64), ToyBatches(64), settings(), tmp_path, lines.append)
    assert not lines
    assert again == history
    assert again.best_update == history.best_update
    assert_equal(weights(first), weights(second))


def test_other_settings_or_a_damaged_checkpoint_are_refused(tmp_path):
    fit(toy(), ToyBatches(64), None, settings(updates=2), tmp_path, quiet)
    with pytest.raises(ValueError, match="made with another lr"):
        fit(toy(), ToyBatches(64), None, settings(updates=2, lr=1.0), tmp_path, quiet)
    (tmp_path / "last.safetensors").write_bytes(b"half a file")
    with pytest.raises(ValueError, match="not a checkpoint"):
        fit(toy(), ToyBatches(64), None, settings(updates=2), tmp_path, quiet)


def test_without_validation_the_last_weights_are_kept(tmp_path):
    objective = toy()
    history = fit(objective, ToyBatches(64), None, settings(updates=10), tmp_path, quiet)
    assert "val_loss" not in history[-1]
    assert history.best_update == 10
    kept, _ = checkpoint.read(tmp_path / "best.safetensors")
    assert_equal(kept, weights(objective))


def test_average_of_weights_is_what_is_validated_and_kept():
    chosen = settings(updates=5, schedule="constant")
    averaged = toy(dropout=0.0)
    fit(averaged, ToyBatches(64), None,
        settings(updates=5, schedule="constant", ema=0.5), log=quiet)

    trace = []

    class Tracing(Supervised):
        def after_update(self, progress: float) -> None:
            trace.append(self.model.body.weight.detach().clone())

    torch.manual_seed(0)
    plain = Tracing(Toy(dropout=0.0))
    expected = plain.model.body.weight.detach().clone()
    fit(plain, ToyBatches(64), None, chosen, log=quiet)
    for number, value in enumerate(trace, 1):  # the same updates, averaged by hand
        decay = min(0.5, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(averaged.model.body.weight.detach(), expected)
    assert torch.equal(plain.model.body.weight, trace[-1])


def test_early_stopping():
    history = fit(toy(), ToyBatches(64), ToyBatches(64),
                  settings(updates=400, lr=1e-12, patience=3, every=4), log=quiet)
    assert history.stopped == "patience"
    assert history.updates < 400
    assert len(history) >= 4


def test_time_limit_ends_at_an_update_and_follows_the_clock(monkeypatch):
    ticks = itertools.count()  # a clock of its own: a millisecond whenever it is looked at
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks) / 1000)
    history = fit(toy(), ToyBatches(64), ToyBatches(64),
                  settings(updates=10**6, minutes=0.2 / 60, every=10**6), log=quiet)
    assert history.stopped == "minutes"
    assert history.updates < 10**6
    assert history[-1]["lr"] < 0.1 * 1e-2  # the cosine has come down


def test_plateau_is_that_of_torch():
    chosen = settings(schedule="plateau", factor=0.5, plateau_patience=1)
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1,
                                                           threshold=0.0)
    state = {"factor": 1.0, "lowest": float("inf"), "waited": 0}
    for value in [3, 2, 2, 2, 2, 1, 5, 5, 5, 0.5, 0.4, 9, 9, 9, 9]:
        reference.step(value)
        follow_plateau(state, {"val_loss": value, "loss": 0.0}, chosen)
        assert state["factor"] == optimizer.param_groups[0]["lr"]


def test_schedule_warms_up_and_comes_down():
    chosen = settings(warmup=0.1)
    factors = [learning_rate(p / 100, chosen) for p in range(101)]
    assert factors[0] == 0
    assert factors[5] == pytest.approx(0.5)
    assert max(factors) == factors[10]
    assert factors[100] == pytest.approx(0, abs=1e-9)
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_groups_of_parameters():
    objective = Supervised(Toy(), mass_loss="gaussian")
    objective.model.body.bias.requires_grad_(False)
    chosen = settings(lr=5e-5, rates={"class_head": 1e-4, "mass_head": 1e-4}, weight_decay=0.1)
    by_name = {name: group for group in parameter_groups(objective, chosen)
               for name in group["names"]}
    assert "model.body.bias" not in by_name
    for name, group in by_name.items():
        assert group["lr"] == (1e-4 if "head" in name else 5e-5)
        decays = name in ("model.body.weight", "model.class_head.weight", "model.mass_head.weight")
        assert group["weight_decay"] == (0.1 if decays else 0.0), name
    with pytest.raises(ValueError, match="no parameter starts with backbone"):
        parameter_groups(objective, settings(rates={"backbone": 1.0}))


def test_loss_that_is_not_finite_names_the_update_and_keeps_the_checkpoint(tmp_path):
    class Breaking(Supervised):
        made = 0

        def after_update(self, progress: float) -> None:
            self.made += 1
            if self.made == 19:
                with torch.no_grad():
                    self.model.body.weight.fill_(float("nan"))

    with pytest.raises(FloatingPointError, match=r"update 20 \(epoch 5.00\)"):
        fit(Breaking(Toy()), ToyBatches(64), ToyBatches(64), settings(), tmp_path, quiet)
    tensors, notes = checkpoint.read(tmp_path / "last.safetensors")
    assert notes["history"]["updates"] == 16
    assert all(v.isfinite().all() for v in tensors.values())


def test_few_jets():
    """Fewer jets than a batch, a batch of one, one class only in validation: all train."""
    history = fit(toy(), ToyBatches(3, size=64), ToyBatches(1), settings(updates=4), log=quiet)
    assert history.best_update
    assert history.updates == 4
    fit(toy(), ToyBatches(2, size=1), None, settings(updates=4), log=quiet)
    with pytest.raises(ValueError, match="nothing to train on"):
        fit(toy(), ToyBatches(0), None, settings(updates=4), log=quiet)


def test_pretraining_without_labels_selects_on_its_loss_or_on_a_monitor():
    class Reconstruct(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = nn.Linear(4, 4)
            self.seen = []

        def loss(self, batch: Batch):
            x = batch.tokens.features.flatten(1)
            value = ((self.decoder(x + 0.1 * torch.randn_like(x)) - x) ** 2).mean()
            return value, {"value": value.detach()}

        def after_update(self, progress: float) -> None:
            self.seen.append(progress)

    torch.manual_seed(0)
    objective = Reconstruct()
    batches = ToyBatches(64, labels=False, mass=False)
    history = fit(objective, batches, batches, settings(), log=quiet)
    assert "val_auc" not in history[-1]
    assert history[-1]["val_loss"] < history[0]["val_loss"]
    assert len(objective.seen) == 40
    assert 0 < objective.seen[0] < objective.seen[-1] < 1

    numbers = iter([1.0, 5.0, 2.0, 2.0, 2.0])
    history = fit(Reconstruct(), batches, batches, settings(select="high:rank"), log=quiet,
                  monitor=lambda o: {"rank": next(numbers)})
    assert history.best_update == 16
    assert history.curve("rank")[1] == [1.0, 5.0, 2.0, 2.0, 2.0]


def test_bfloat16_and_averages_train():
    history = fit(toy(), ToyBatches(64), ToyBatches(64), settings(precision="bf16-mixed", ema=0.9),
                  log=quiet)
    assert history[-1]["val_loss"] < history[0]["val_loss"]


@pytest.mark.parametrize("kind", MASS_LOSSES)
def test_mass_loss_is_in_units_of_the_training_spread(kind):
    objective = Supervised(Toy(dropout=0.0), mass_loss=kind)
    batch = batch_of(torch.arange(50))
    off = {"mse": 1.0, "l1": 1.0, "huber": 0.375, "gaussian": 0.5}[kind]
    assert objective.mass_term(batch.mass + 20, batch.mass).item() == pytest.approx(off, rel=1e-4)
    total, parts = objective.loss(batch)
    assert total.item() == pytest.approx((parts["class"] + parts["mass"]).item())
    total.backward()


def test_jets_without_mass_or_labels():
    objective = Supervised(Toy())
    with pytest.warns(UserWarning, match="have no mass"):
        _, parts = objective.loss(batch_of(torch.arange(5), mass=False))
    assert set(parts) == {"class"}
    with pytest.raises(ValueError, match="no labels"):
        objective.loss(batch_of(torch.arange(5), labels=False))
    with pytest.raises(ValueError, match="mass_loss='cubic'"):
        Supervised(Toy(), mass_loss="cubic")


SHAPES = """
import torch
import lib
layer = torch.nn.Linear(64, 128)
def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6
for number in range(400):
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(torch.ones(16 + 16 * number % 6400 + number % 16, 64))
    out.float().sum().backward()
    if number == 200:
        before = held()
print(held() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_batches_of_ever_new_shapes_do_not_fill_the_memory():
    done = subprocess.run([sys.executable, "-c", SHAPES], capture_output=True, text=True, cwd=ROOT)
    assert float(done.stdout) < 150, done.stderr  # MB; without a limit 300
