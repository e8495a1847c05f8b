"""Notebook 03 shows the mechanisms in a few lines each; they are those of the library."""

from __future__ import annotations

import ast
import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from lib.models.attention import MECHANISMS, ReluLinear
from lib.profiles import ROOT

SOURCE = ROOT / "notebooks" / "03_attention.py"


@pytest.fixture(scope="module")
def shown() -> dict:
    """The functions that the notebook defines, without running the notebook."""
    tree = ast.parse(SOURCE.read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    space = {"torch": torch, "F": F, "math": math}
    exec(compile(ast.Module(functions, []), str(SOURCE), "exec"), space)
    return space


@pytest.mark.parametrize("tokens", [1, 7, 40])
def test_notebook_and_library_agree(shown, tokens):
    generator = torch.Generator().manual_seed(tokens)
    q, k, v = torch.randn(3, 2, 3, tokens, 16, generator=generator)
    w, u = torch.randn(2, 3, 16, generator=generator)
    library = {name: kind(3, 16) for name, kind in MECHANISMS.items()}
    library["additive"].load_state_dict({"query_weight": w, "key_weight": u})
    xca = MECHANISMS["cross_covariance"](3, 16, temperature=1.5)
    pairs = [
        (shown["softmax_attention"](q, k, v), library["softmax"](q, k, v)),
        (shown["linear_attention"](q, k, v, shown["phi_relu"]), library["relu_linear"](q, k, v)),
        (shown["linear_attention"](q, k, v, shown["phi_elu"]), library["elu_linear"](q, k, v)),
        (shown["cross_covariance"](q, k, v, 1.5), xca(q, k, v)),
        (shown["additive"](q, k, v, w[..., None], u[..., None]), library["additive"](q, k, v)),
        (shown["by_hand"](q, k + 3, v), ReluLinear(3, 16, normalizer="sum")(q, k + 3, v)),
    ]
    for mine, theirs in pairs:
        assert_close(mine, theirs.detach(), atol=2e-5, rtol=1e-3)


def test_crossover_interpolates_in_logarithms(shown):
    lengths = [100, 200, 400, 800]
    assert shown["crossover"](lengths, [4, 2, 0.5, 0.2]) == pytest.approx(200 * math.sqrt(2))
    assert shown["crossover"](lengths, [2, 0.9, 1.5, 1.2]) is None
    assert shown["crossover"](lengths, [0.9, 0.8, 0.5, 0.2]) == 100


def test_counts_cross_where_the_text_says(shown):
    heads, width = 4, 24
    for tokens, cheaper in ((heads * width // 2, False), (2 * heads * width, True)):
        count = {name: shown["macs"](name, tokens, heads, width)
                 for name in ("softmax", "relu_linear")}
        assert (count["relu_linear"] < count["softmax"]) == cheaper
    gain = shown["block_macs"](3844) / shown["block_macs"](3844, softmax=False)
    assert gain == pytest.approx(3.3, abs=0.1)
