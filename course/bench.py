"""Speed: forward + backward + update on the same jets, as a ratio to the published dense model.

`python -m lib bench` prints one table. Models take turns within a round and the median over
rounds is shown, so that a busy machine slows all of them alike; the ratio is what to quote.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from collider.course import course_files
from lib import profiles
from lib.data.batches import Batches
from lib.data.images import JetImages
from lib.data.tokens import Batch, Grid
from lib.models.baselines import ResNet15
from lib.models.vit import R1, JetViT, ViTConfig
from lib.training.fit import keep_memory
from lib.training.objectives import Supervised


@dataclass(frozen=True)
class Arm:
    """A model and how it is run."""

    name: str
    settings: dict = field(default_factory=dict)
    dtype: str = "bfloat16"
    batch: int = 64

    @property
    def tokens(self) -> str:
        return self.settings.get("tokens", "active")

    def build(self, grid: Grid) -> nn.Module:
        torch.manual_seed(0)
        if self.settings.get("resnet"):
            return ResNet15(grid.channels)
        return JetViT(ViTConfig.of(grid, **self.settings))


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
        Arm("ResNet-15, dense image", {"resnet": True}),
    ]


class Step:
    """One training step of an arm on one batch, timed."""

    def __init__(self, arm: Arm, grid: Grid, batch: Batch) -> None:
        self.arm, self.batch = arm, batch
        self.objective = Supervised(arm.build(grid)).train()
        self.optimizer = torch.optim.AdamW(self.objective.parameters(), lr=1e-4)
        self.parameters = sum(p.numel() for p in self.objective.model.parameters())
        self.seconds: list[float] = []

    def run(self) -> None:
        reduced = self.arm.dtype == "bfloat16"
        with torch.autocast(self.batch.index.device.type, torch.bfloat16, enabled=reduced):
            loss, _ = self.objective.loss(self.batch)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def time(self) -> None:
        if self.batch.index.is_cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        self.run()
        if self.batch.index.is_cuda:
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - start)

    def flops(self) -> float:
        """Floating-point operations of one step per jet (2 a multiply-add).

        Those of the forward pass three times: a backward pass costs twice a forward one, and
        torch's counter takes the weight gradient of a depthwise convolution for a full one.
        """
        # The fused softmax attention of a CPU is unknown to the counter; as products it is counted.
        math = sdpa_kernel(SDPBackend.MATH)
        with math, FlopCounterMode(display=False) as counter, torch.no_grad():
            self.objective.loss(self.batch)
        return 3 * counter.get_total_flops() / len(self.batch)


def matmul_rate(dtype: torch.dtype, device: str, size: int = 1024) -> float:
    """Measured GFLOP/s of a square matrix product, median of seven."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    a @ b
    times = []
    for _ in range(7):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(3):
            a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / 3)
    return 2 * size**3 / statistics.median(times) / 1e9


def _high_water() -> float:
    """The most memory that this process has held, in KiB. Linux keeps ``ru_maxrss`` of the parent
    over a start of a new program, and the parent's memory is large."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _peak(arm: Arm, grid: Grid, batch: Batch, pipe) -> None:
    before = _high_water()
    step = Step(arm, grid, batch)
    step.run()
    step.run()
    pipe.send((_high_water() - before) / 1024)


def peak_memory(arm: Arm, grid: Grid, batch: Batch) -> float:
    """MiB that two steps add to a fresh process (CPU)."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_peak, args=(arm, grid, batch, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        return float("nan")
    finally:
        process.join()


def _middle(batches: Batches) -> Batch:
    """The batch of median length: bucketing makes some longer, some shorter."""
    drawn = sorted(batches, key=lambda batch: batch.tokens.valid.shape[1])
    return drawn[len(drawn) // 2]


def measure(
    profile, rounds: int = 5, memory: bool = True, jets: JetImages | None = None,
    compared: list[Arm] | None = None,
) -> dict:
    """Time every arm (of `arms`, or those of `compared`) on the labelled jets of `profile`.

    Returns {"rows": [...], "rates": {dtype: GFLOP/s}, "device", "threads"}; a row holds name,
    dtype, parameters, tokens (mean of valid ones), images_s, ratio (to the first arm),
    gflop (per jet), share (of the measured float32 matrix-product rate), memory (MiB a step).
    """
    keep_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    jets = jets or JetImages.open(course_files(profile)["labelled"])
    index = torch.arange(min(len(jets), 640))
    steps = []
    for arm in compared or arms(profile.model):
        size = min(arm.batch, len(index))
        batch = _middle(Batches(jets, index, size, keep=arm.tokens, shuffle=True)).to(device)
        steps.append(Step(arm, jets.grid, batch))
    for step in steps:
        step.run()
    rates = {"float32": [], "bfloat16": []}
    for _ in range(rounds):
        for name in rates:
            rates[name].append(matmul_rate(getattr(torch, name), device))
        for step in steps:
            step.time()
    rates = {name: statistics.median(values) for name, values in rates.items()}
    rows = []
    for step in steps:
        speed = [len(step.batch) / seconds for seconds in step.seconds]
        gflop = step.flops() / 1e9
        images_s = statistics.median(speed)
        rows.append({
            "name": step.arm.name,
            "dtype": step.arm.dtype,
            "parameters": step.parameters,
            "tokens": float(step.batch.tokens.valid.sum(1).float().mean()),
            "images_s": images_s,
            "ratio": statistics.median(
                a / b * len(step.batch) / len(steps[0].batch)
                for a, b in zip(steps[0].seconds, step.seconds, strict=True)
            ),
            "gflop": gflop,
            "share": gflop * images_s / rates["float32"],
            "memory": peak_memory(step.arm, jets.grid, step.batch)
            if memory and device == "cpu"
            else float("nan"),
        })  # fmt: skip
    return {"rows": rows, "rates": rates, "device": device, "threads": torch.get_num_threads()}


def show(result: dict) -> str:
    """The table as text."""
    head = f"{'model':28}{'dtype':>10}{'params':>11}{'tokens':>8}{'images/s':>10}"
    head += f"{'ratio':>7}{'GFLOP/jet':>11}{'share':>8}{'MiB':>7}"
    lines = [head]
    for row in result["rows"]:
        lines.append(
            f"{row['name']:28}{row['dtype']:>10}{row['parameters']:>11,}{row['tokens']:>8.0f}"
            f"{row['images_s']:>10.1f}{row['ratio']:>7.1f}{row['gflop']:>11.2f}"
            f"{row['share']:>8.0%}{row['memory']:>7.0f}"
        )
    rates = ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in result["rates"].items())
    lines.append(
        f"measured matrix product: {rates}; {result['threads']} threads, {result['device']}"
    )
    lines.append("ratio: to the first row, median of paired rounds; share: of the float32 product")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib bench", description=__doc__)
    parser.add_argument("--profile", default="laptop", choices=profiles.NAMES)
    parser.add_argument("--file", help="jets to use instead of the profile's (packed or dense)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-memory", action="store_true", help="skip the memory column")
    options = parser.parse_args(arguments)
    profile = profiles.get(options.profile)
    jets = JetImages.open(options.file) if options.file else None
    print(show(measure(profile, options.rounds, not options.no_memory, jets)))
    return 0
