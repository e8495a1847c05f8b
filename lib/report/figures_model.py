"""Diagrams of JetViT and of its block, drawn from the settings of the model itself."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from lib.report.style import new

# Pale fills of the Okabe-Ito colours: data, embedding, attention, convolution, MLP, head.
FILLS = {
    "data": "#e8e8e8", "embed": "#cfe5f3", "attention": "#f7d9c4", "local": "#cfeae0",
    "mlp": "#f9e8c4", "head": "#eeddea",
}
ATTENTION = {
    "softmax": "softmax attention", "relu_linear": "ReLU linear attention",
    "elu_linear": "ELU linear attention", "cross_covariance": "cross-covariance attention",
    "additive": "additive attention",
}


def _box(ax: Axes, x: float, y: float, w: float, h: float, text: str, fill: str,
         size: float = 7.0) -> None:
    ax.add_patch(FancyBboxPatch(
        (x - w / 2, y - h / 2), w, h, boxstyle="round,pad=0.02,rounding_size=0.06",
        facecolor=FILLS[fill], edgecolor="#444444", linewidth=0.8,
    ))
    ax.text(x, y, text, ha="center", va="center", fontsize=size, linespacing=1.3)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.annotate("", end, start, arrowprops=dict(arrowstyle="-|>", color="#444444", lw=0.9,
                                                shrinkA=0, shrinkB=0))


def _blank(width: float, height: float) -> tuple[Figure, Axes]:
    fig, ((ax,),) = new(1, 1, height, width=width)
    ax.set_xlim(0, width)
    ax.set_ylim(0, height)
    ax.set_axis_off()
    return fig, ax


def model_diagram(config: Any, parameters: int | None = None) -> Figure:
    """JetViT from the image to its two answers, with the sizes of ``config`` (a ``ViTConfig``)."""
    c = config
    rows, columns = -(-c.height // c.patch_height), -(-c.width // c.patch_width)
    which = {"active": "those with a hit", "all": "all of them",
             "masked": "empty ones masked", "two_scale": "fine and coarse"}
    pool = {"mean": "mean", "mean_max": "mean, maximum", "cls": "class token",
            "energy": "mean, max, energy"}[c.pool]
    stages = [
        (f"image\n{c.channels} × {c.height} × {c.width}", "data"),
        (f"patches {c.patch_height} × {c.patch_width}\n{rows} × {columns} = {rows * columns}\n"
         f"{which.get(c.tokens, c.tokens)}", "data"),
        (f"{'log scale' if c.scale == 'log' else f'values / {c.scale:g}'}\n"
         f"{c.stem} embedding\n{c.channels * c.patch_height * c.patch_width} → {c.dim}"
         + (f"\n+ {c.position} position" if c.position != "none" else ""), "embed"),
        (f"{c.depth} × block\n{c.heads} heads of {c.dim // c.heads}", "attention"),
        (f"LayerNorm, pooling\n({pool})"
         + ("\n+ log counts,\nenergies, widths" if c.summary else "") + f"\n→ {c.pooled}"
         + (f" → {c.head_hidden}" if c.head_hidden else ""), "mlp"),
    ]
    fig, ax = _blank(7.4, 1.5)
    box, gap, y = 1.08, 0.18, 0.7
    x = box / 2 + 0.05
    for number, (text, fill) in enumerate(stages):
        _box(ax, x, y, box, 0.98, text, fill)
        if number:
            _arrow(ax, (x - box / 2 - gap + 0.02, y), (x - box / 2 - 0.02, y))
        x += box + gap
    heads = [(0.3, f"class: {c.classes} logits")]
    heads += [(-0.3, "jet mass (GeV)")] if c.mass_head else []
    for offset, text in heads if c.mass_head else [(0.0, heads[0][1])]:
        _arrow(ax, (x - box / 2 - gap + 0.02, y), (x - 0.52, y + offset))
        _box(ax, x, y + offset, 1.0, 0.4, text, "head")
    if parameters:
        ax.text(0.05, 1.38, f"{parameters:,} parameters", fontsize=7.5, va="center")
    ax.set_xlim(0, x + 0.6)
    return fig


def block_diagram(config: Any) -> Figure:
    """One block: attention, local convolution, MLP, each behind a norm and around a residual."""
    c = config
    steps = [(f"{ATTENTION.get(c.attention, c.attention)}\n{c.heads} heads of "
              f"{c.dim // c.heads}, all tokens", "attention")]
    if c.lcm_kernel:
        k = c.lcm_kernel
        steps.append((f"local concentration\ntwo {k} × {k} depthwise", "local"))
    steps.append((f"MLP\n{c.dim} → {int(c.dim * c.mlp_ratio)} → {c.dim}", "mlp"))
    step, grey = 2.05, dict(color="#444444", lw=0.9, ls="-")
    fig, ax = _blank(step * len(steps) + 0.75, 1.3)
    y, x = 0.42, 0.5
    ax.text(0.02, y, f"tokens\n$K$ × {c.dim}", fontsize=7, va="center", ha="left")
    for text, fill in steps:
        end = x + step - 0.2
        ax.plot([x - 0.02, x + 0.1], [y, y], **grey)
        ax.plot([x, x, end], [y, y + 0.62, y + 0.62], **grey)
        _arrow(ax, (end, y + 0.62), (end, y + 0.1))
        _box(ax, x + 0.2, y, 0.14, 0.6, "", "embed")
        ax.text(x + 0.2, y, "norm", rotation=90, fontsize=6.5, ha="center", va="center")
        _box(ax, x + 1.0, y, 1.3, 0.6, text, fill)
        ax.plot([x + 1.68, end - 0.08], [y, y], **grey)
        ax.text(end, y, "+", ha="center", va="center", fontsize=8,
                bbox=dict(boxstyle="circle,pad=0.1", fc="white", ec="#444444", lw=0.8))
        ax.plot([end + 0.09, end + 0.2], [y, y], **grey)
        x += step
    _arrow(ax, (x - 0.1, y), (x + 0.15, y))
    return fig
