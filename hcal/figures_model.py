"""Diagrams of notebook 09: preprocessing, the class-token transformer, a block with experts, and
the training loop, drawn from the settings in use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from lib.report.figures_model import _arrow, _blank, _box


def pipeline(steps: Sequence[tuple[str, str]]) -> Figure:
    """Boxes in a row with arrows between them: (text, kind of ``figures_model.FILLS``)."""
    box, gap = 1.05, 0.2
    fig, ax = _blank(len(steps) * (box + gap), 0.95)
    for number, (text, fill) in enumerate(steps):
        x = number * (box + gap) + box / 2 + 0.03
        _box(ax, x, 0.47, box, 0.72, text, fill, 6.5)
        if number:
            _arrow(ax, (x - box / 2 - gap + 0.02, 0.47), (x - box / 2 - 0.02, 0.47))
    return fig


def expert_block(config: Any) -> Figure:
    """A transformer block whose MLP is a mixture of experts (a ``ViTConfig`` with experts)."""
    c, grey = config, dict(color="#444444", lw=0.9, ls="-")
    fig, ax = _blank(7.0, 1.9)
    y = 0.95
    ax.text(0.02, y, f"tokens\n$K$ × {c.dim}", fontsize=7, va="center")

    def residual(start: float, end: float) -> None:
        ax.plot([start, start, end], [y, y + 0.85, y + 0.85], **grey)
        _arrow(ax, (end, y + 0.85), (end, y + 0.1))
        ax.text(end, y, "+", ha="center", va="center", fontsize=8,
                bbox=dict(boxstyle="circle,pad=0.1", fc="white", ec="#444444", lw=0.8))

    residual(0.6, 2.65)
    ax.plot([0.5, 0.72], [y, y], **grey)
    _box(ax, 0.8, y, 0.12, 0.6, "", "embed")
    ax.text(0.8, y, "norm", rotation=90, fontsize=6.5, ha="center", va="center")
    _box(ax, 1.62, y, 1.3, 0.6, f"{c.attention} attention\n{c.heads} heads of "
         f"{c.dim // c.heads}", "attention")
    ax.plot([2.3, 2.55], [y, y], **grey)
    residual(2.85, 6.55)
    ax.plot([2.75, 2.97], [y, y], **grey)
    _box(ax, 3.05, y, 0.12, 0.6, "", "embed")
    ax.text(3.05, y, "norm", rotation=90, fontsize=6.5, ha="center", va="center")
    _box(ax, 3.75, y - 0.7, 0.95, 0.36, f"router\n{c.dim} → {c.experts}", "head", 6.5)
    _arrow(ax, (3.2, y), (3.5, y - 0.5))
    tall = 0.5 if c.experts < 3 else 0.3
    for number in range(c.experts):
        height = y + 0.5 - number * (1.0 / max(c.experts - 1, 1)) * 0.72
        _box(ax, 4.95, height, 1.25, min(tall, 0.34),
             f"expert {number + 1}: {c.dim} → {int(c.dim * c.mlp_ratio)} → {c.dim}", "mlp", 6.5)
        _arrow(ax, (3.2, y), (4.3, height))
        _arrow(ax, (5.6, height), (6.02, y))
    said = {"soft": "all experts, weighted", "top1": "the likeliest one only",
            "top2": "the two likeliest"}[c.router]
    ax.text(5.15, y - 0.63, f"weights: {said}", fontsize=6.5, ha="center", va="center")
    ax.plot([4.25, 6.1], [y - 0.74, y - 0.74], **grey)
    _arrow(ax, (6.1, y - 0.74), (6.1, y - 0.14))
    ax.text(6.1, y, "Σ", ha="center", va="center", fontsize=9,
            bbox=dict(boxstyle="circle,pad=0.15", fc="white", ec="#444444", lw=0.8))
    ax.plot([6.22, 6.45], [y, y], **grey)
    _arrow(ax, (6.65, y), (6.95, y))
    return fig


def training_loop(batch: int, epochs: float, schedule: str, loss: str) -> Figure:
    """One pass over the training maps, then a look at the validation maps."""
    fig, ax = _blank(6.6, 1.9)
    top, low = 1.4, 0.5
    steps = [(f"next {batch}\ntraining maps", "data"), ("forward:\nlogits", "attention"),
             (loss, "mlp"), ("backward:\ngradients", "mlp"), ("AdamW\nupdate", "embed")]
    for number, (text, fill) in enumerate(steps):
        x = 0.6 + 1.3 * number
        _box(ax, x, top, 1.05, 0.6, text, fill)
        if number:
            _arrow(ax, (x - 0.75, top), (x - 0.55, top))
    _arrow(ax, (5.8, top - 0.32), (5.8, low + 0.32))
    _box(ax, 5.8, low, 1.05, 0.6, "validation maps:\nloss, accuracy", "data")
    _box(ax, 4.2, low, 1.35, 0.6, {"plateau": "no progress?\nlower the rate"}.get(
        schedule, f"{schedule} schedule"), "head")
    _box(ax, 2.5, low, 1.25, 0.6, "keep the best\nweights", "head")
    _arrow(ax, (5.25, low), (4.9, low))
    _arrow(ax, (3.5, low), (3.15, low))
    _arrow(ax, (1.85, low), (0.6, top - 0.32))
    ax.text(0.05, low - 0.05, f"{epochs:.2g} epochs", fontsize=7, va="center")
    return fig
