"""Speed: forward + backward + update on the same jets, as a ratio to the published dense model.

`python -m lib bench` prints one table. Models take turns within a round and the median over
rounds is shown, so that a busy machine slows all of them alike; the ratio is what to quote."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from collider.course import course_files
from course import scaling as growth
from lib.data.batches import Batches
from lib.data.images import JetImages
from lib.data.tokens import Batch, Grid, TokenBatch
from lib.models.vit import R1
from lib.profiles import Profile
from lib.provenance import machine
from lib.training.objectives import Supervised
from lib.training.recipe import Recipe, make_model, recipe
from lib.training.runs import Run

UPDATES = 100  # of a training by several processes that is timed


@dataclass(frozen=True)
class Arm:
    """A model and how it is run. settings: of a JetViT, or a whole recipe."""

    name: str
    settings: dict | Recipe = field(default_factory=dict)
    dtype: str = "bfloat16"
    batch: int = 64

    @property
    def recipe(self) -> Recipe:
        """Its recipe, of which the model alone counts here."""
        own = self.settings
        return own if isinstance(own, Recipe) else Recipe.of({"model": own})


def arms(model: dict) -> list[Arm]:
    """The reference first; `model` holds the settings of the profile's JetViT."""
    # The two changes that keep R1's numbers and make them cheap: empty patches dropped, bfloat16.
    packed = {**R1, "tokens": "active", "normalizer": "mean"}
    return [
        Arm("R1, dense", R1, "float32", 16),
        Arm("R1, active tokens", packed, batch=16),
        Arm("ours", model),
        Arm("ours, float32", model, "float32"),
        Arm("ours, all patches", {**model, "tokens": "all"}),
        Arm("ours, active patches", {**model, "tokens": "active"}),
        Arm("ours, softmax", {**model, "attention": "softmax"}),
        Arm("ours, no local convolution", {**model, "lcm_kernel": 0}),
        Arm("ResNet-15, dense image", Recipe(architecture="resnet15")),
    ]


def multiply_accumulates(model: nn.Module, tokens: TokenBatch) -> float:
    """Multiply-accumulates of a forward pass per jet, padding included: products and convolutions,
    not what goes element by element (a convolution from token to token neither)."""
    # The fused softmax attention of a CPU is unknown to the counter; as products it is counted.
    math = sdpa_kernel(SDPBackend.MATH)
    with math, FlopCounterMode(display=False) as counter, torch.no_grad():
        model(tokens)
    return counter.get_total_flops() / 2 / len(tokens)


class Step:
    """One training step of an arm on one batch, timed."""

    def __init__(self, arm: Arm, grid: Grid, batch: Batch) -> None:
        self.arm, self.batch = arm, batch
        torch.manual_seed(0)
        model = make_model(replace(arm.recipe, grid=grid))
        self.objective = Supervised(model).train().to(batch.index.device)
        self.optimizer = torch.optim.AdamW(self.objective.parameters(), lr=1e-4)
        self.parameters = sum(p.numel() for p in model.parameters())
        self.seconds: list[float] = []

    def loss(self) -> Tensor:
        """Of its batch, in its dtype."""
        reduced = self.arm.dtype == "bfloat16"
        with torch.autocast(self.batch.index.device.type, torch.bfloat16, enabled=reduced):
            return self.objective.loss(self.batch)[0]

    def run(self) -> None:
        self.loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def time(self) -> None:
        wait = torch.cuda.synchronize if self.batch.index.is_cuda else int
        wait()
        start = time.perf_counter()
        self.run()
        wait()
        self.seconds.append(time.perf_counter() - start)

    def flops(self) -> float:
        """Floating-point operations of one step per jet (2 a multiply-add): those of the forward
        pass, and twice for the backward one (torch miscounts depthwise weight gradients)."""
        return 6 * multiply_accumulates(self.objective.model, self.batch.tokens)


def measure(profile: Profile, rounds: int = 5, jets: JetImages | None = None,
            compared: list[Arm] | None = None, device: str = "auto") -> list[dict]:
    """Time every arm (of `arms`, or those of `compared`) on the labelled jets of `profile`. Returns
    a row an arm: name, dtype, parameters, tokens (mean of valid ones), images_s, ratio (of its
    speed to that of the first arm, median of paired rounds), gflop and megabytes (of tensors held
    at the same time, both per jet of a step)."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch finds no GPU here; see python -m lib doctor")
    device = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    jets = jets or JetImages.open(course_files(profile)["labelled"])
    index = torch.arange(min(len(jets), 640))
    steps = []
    for arm in compared or arms(recipe("scratch", profile).model):
        batches = Batches(jets, index, min(arm.batch, len(index)),
                          keep=arm.recipe.tokens, shuffle=True)
        # The batch of median length: bucketing makes some longer, some shorter.
        drawn = sorted(batches, key=lambda batch: batch.tokens.valid.shape[1])
        steps.append(Step(arm, jets.grid, drawn[len(drawn) // 2].to(device)))
        steps[-1].run()
    for _ in range(rounds):
        for step in steps:
            step.time()
    first, rows = steps[0], []
    for step in steps:
        ratio = statistics.median(a / b for a, b in zip(first.seconds, step.seconds))
        rows.append({
            "name": step.arm.name, "dtype": step.arm.dtype, "parameters": step.parameters,
            "tokens": float(step.batch.tokens.valid.sum(1).float().mean()),
            "images_s": statistics.median(len(step.batch) / s for s in step.seconds),
            "ratio": ratio * len(step.batch) / len(first.batch), "gflop": step.flops() / 1e9,
            "megabytes": growth.memory(step.loss) / len(step.batch) / 1e6})
    return rows


def together(profile: Profile, count: int, rounds: int, file: Path | None, size: int) -> str:
    """Training of our model by `count` processes of one thread that share each batch, against one:
    the images of a second, in turns. (That the losses are equal, tests/test_together.py says.)"""
    file, rates = file or course_files(profile)["labelled"], {1: [], count: []}
    for n in list(rates) * rounds:
        with tempfile.TemporaryDirectory() as home:
            subprocess.run(
                [sys.executable, "-m", "lib", "train", "scratch", "--profile", profile.name,
                 "--file", str(file.resolve()), "--updates", str(UPDATES),
                 "--batch-size", str(size), "--devices", str(n)],
                env={**os.environ, "JETS_HOME": home, "OMP_NUM_THREADS": "1"}, check=True,
                stdout=subprocess.DEVNULL)
            [record] = Path(home).glob("**/runs/*/run.json")
            rates[n].append(Run.open(record.parent).history[-1]["images_s"])
    ratios = sorted(b / a for a, b in zip(*rates.values()))
    return (f"batches of {size}, one process: {statistics.median(rates[1]):.0f} images/s, {count}: "
            f"{statistics.median(rates[count]):.0f}; {statistics.median(ratios):.2f} times "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}); {machine()}")


def main(profile: Profile, file: Path | None = None, rounds: int = 5, scaling: bool = False,
         device: str = "auto", processes: int = 1) -> str:
    """The benchmark as a table; scaling: that of `course.scaling`, its points kept in ``file`` or
    under build/; processes: that of `together`."""
    if scaling:
        return growth.main(file or profile.build_dir / "scaling.json", rounds)
    if processes > 1:
        return "\n".join(together(profile, processes, rounds, file, n) for n in (64, 128))
    rows = measure(profile, rounds, JetImages.open(file) if file else None, device=device)
    lines = [f"{'model':28}{'dtype':>10}{'params':>11}{'tokens':>8}{'images/s':>10}{'ratio':>7}"
             f"{'GFLOP/jet':>11}"]
    lines += [f"{row['name']:28}{row['dtype']:>10}{row['parameters']:>11,}{row['tokens']:>8.0f}"
              f"{row['images_s']:>10.1f}{row['ratio']:>7.1f}{row['gflop']:>11.2f}" for row in rows]
    lines += [f"ratio: to the first row, median of paired rounds; {machine()}"]
    if torch.cuda.is_initialized():
        lines += [f"at most {torch.cuda.max_memory_allocated() / 1e9:.1f} GB of the GPU's memory"]
    return "\n".join(lines)
