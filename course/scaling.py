"""How time and memory grow with the number of tokens: ``python -m lib bench --scaling``.

Of every mechanism alone and of a whole block: one forward and backward pass of one image of 64 to
16,384 tokens that fill a grid. Mechanisms take turns within a round, and the best of the rounds
counts. A point that is in the file is not measured again."""

import itertools
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from lib.data.tokens import Grid
from lib.files import write_json
from lib.models.attention import MECHANISMS
from lib.models.blocks import Block, Layout
from lib.models.vit import ViTConfig
from lib.provenance import machine

TOKENS = tuple(2**n for n in range(6, 15))  # 64 to 16,384
WIDTH, HEADS = 64, 4
LINEAR_FROM = 1024  # tokens from which on the exponent is fitted
NAMES = tuple(MECHANISMS)


def subject(name: str, what: str, tokens: int) -> Callable[[], Tensor]:
    """A function that runs one pass forward, of a mechanism alone or of a block."""
    rows = 2 ** int(math.log2(tokens) / 2)
    grid, generator = Grid(8, rows, tokens // rows, 1, 1), torch.Generator().manual_seed(0)
    position = torch.arange(tokens).unsqueeze(0)
    valid = torch.ones_like(position, dtype=torch.bool)
    torch.manual_seed(0)
    if what == "block":
        block = Block(ViTConfig.of(grid, dim=WIDTH, heads=HEADS, attention=name))
        x = torch.randn(1, tokens, WIDTH, generator=generator, requires_grad=True)
        layout = Layout(position, valid, grid)
        return lambda: block(x, valid, layout)
    q, k, v = (torch.randn(1, HEADS, tokens, WIDTH // HEADS, generator=generator,
                           requires_grad=True) for _ in range(3))
    kind = MECHANISMS[name]
    placed = getattr(kind, "placed", False)
    mechanism: nn.Module = kind(HEADS, WIDTH // HEADS, **({"grid": grid} if placed else {}))
    return lambda: mechanism(q, k, v, None, *((position,) if placed else ()))


def seconds(run: Callable[[], Tensor]) -> float:
    """Processor time of one pass forward and backward, on one core: a busy machine adds nothing."""
    start = time.process_time()
    run().sum().backward()
    return time.process_time() - start


def memory(run: Callable[[], Tensor]) -> int:
    """Most bytes of tensors that one pass holds at a time, above what was there before."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or each start of the profiler is a line
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        run().sum().backward()
    sizes = (e.nbytes() for e in found.profiler.kineto_results.events() if e.name() == "[memory]")
    return max(itertools.accumulate(sizes, initial=0))


def measure(file: Path, rounds: int = 5, tokens: tuple[int, ...] = TOKENS,
            names: tuple[str, ...] = NAMES) -> list[dict]:
    """All points, from the file or measured and added to it: rows of name, what, tokens, seconds,
    bytes."""
    rows = json.loads(file.read_text())["points"] if file.exists() else []
    torch.set_num_threads(1)
    known = {(row["name"], row["what"], row["tokens"]) for row in rows}
    for count in tokens:
        for what in ("attention", "block"):
            todo = {name: subject(name, what, count) for name in names
                    if (name, what, count) not in known}
            taken = [[seconds(run) for run in todo.values()] for _ in range(rounds)]
            best = dict(zip(todo, map(min, zip(*taken))))
            rows += [{"name": name, "what": what, "tokens": count, "seconds": best[name],
                      "bytes": memory(run)} for name, run in todo.items()]
            if todo:
                write_json(file, {"machine": machine(), "points": rows})
    return [row for row in rows if row["name"] in names and row["tokens"] in tokens]


def exponent(rows: list[dict], of: str) -> tuple[float, float]:
    """Slope of log(of) against log(tokens) and half its 95 % interval (of Student's t), which is
    nan where two points leave none."""
    x, y = np.log([[row["tokens"], row[of]] for row in rows]).T
    line, free = stats.linregress(x, y), len(x) - 2
    return float(line.slope), float(line.stderr * stats.t.ppf(0.975, free)) if free else math.nan


def crossing(rows: list[dict], other: list[dict]) -> float:
    """Tokens from which on ``rows`` take less time than ``other``, between points on a straight
    line of logarithms; infinite if they do not at the last."""
    x = np.log([row["tokens"] for row in rows])
    y = np.log([row["seconds"] / one["seconds"] for row, one in zip(rows, other)])
    if y[-1] >= 0:
        return math.inf
    last = max(np.flatnonzero(y >= 0), default=0)
    return float(np.exp(np.interp(0, -y[last:last + 2], x[last:last + 2])))


def main(file: Path, rounds: int = 5) -> str:
    """The table of all mechanisms, alone and in a block."""
    points, lines = measure(file, rounds), []
    for what in ("attention", "block"):
        mine = {name: [row for row in points if (row["name"], row["what"]) == (name, what)]
                for name in NAMES}
        lines.append(f"{what:18}" + "".join(f"{n:>9,}" for n in TOKENS) + "   ms     MB  "
                     "time ~ N^ (95 %)  memory ~ N^  faster than softmax from")
        for name, rows in mine.items():
            late = [row for row in rows if row["tokens"] >= LINEAR_FROM]
            (slope, error), (grows, _) = exponent(late, "seconds"), exponent(late, "bytes")
            lines.append(
                f"{name:18}" + "".join(f"{1e3 * row['seconds']:9.2f}" for row in rows)
                + f"{rows[-1]['bytes'] / 1e6:12.1f}  {slope:9.2f} ({error:.2f}){grows:13.2f}"
                + f"{crossing(rows, mine['softmax']):16,.0f}")
    return "\n".join([*lines, f"one image, width {WIDTH}, {HEADS} heads, float32; {machine()}"])
