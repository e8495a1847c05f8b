"""Notebook 03 shows mechanisms and model in a few lines each; they are those of the library."""

from __future__ import annotations

import ast
import math
import re

import notebook_code
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from lib.data.tokens import TOP_QCD, Hits, tokenize
from lib.models.attention import MECHANISMS, ReluLinear
from lib.models.vit import JetViT
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


def test_a_wide_block_feels_softmax_only_with_thousands_of_tokens(shown):
    gain = shown["block_macs"](3969) / shown["block_macs"](3969, softmax=False)
    assert gain == pytest.approx(3.4, abs=0.1)
    assert shown["block_macs"](357) / shown["block_macs"](357, softmax=False) < 1.25


@pytest.fixture(scope="module")
def page() -> dict:
    """The five classes and the functions of the whole model on one page."""
    return notebook_code.shown(
        "03", ("phi_relu", "Attention", "convolved", "LocalConvolution", "Block", "patch_sums",
               "Embedding", "summary", "pooled", "JetViT", "renamed"),
        torch=torch, nn=nn, F=F, re=re)


def jets(seed: int, *counts: int):
    """Two-scale tokens of images with so many hits each."""
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randint(high, (sum(counts),), generator=generator) for high in (8, 125, 125, 255)]
    image = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    hits = Hits(image, *draw[:3], draw[3].float() + 1, len(counts))
    return tokenize(hits, TOP_QCD, "two_scale")


@pytest.mark.parametrize("counts", [(400, 900, 30), (1,), (5, 2000)])
def test_the_model_on_the_page_is_the_published_one(page, counts):
    library = JetViT.from_pretrained(ROOT / "weights/scratch")
    mine = page["JetViT"](library.config.grid).eval()
    mine.load_state_dict({page["renamed"](k): w for k, w in library.state_dict().items()})
    tokens = jets(3, *counts)
    with torch.no_grad():
        found, expected = mine(tokens), library(tokens)
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b, atol=1e-5 * float(b.abs().max().clamp(min=1)), rtol=1e-5)
    assert sum(p.numel() for p in mine.parameters()) == sum(p.numel() for p in library.parameters())


def test_each_class_of_the_page_is_short():
    tree = ast.parse(SOURCE.read_text())
    classes = {node.name: node.end_lineno - node.lineno + 1 for node in tree.body
               if isinstance(node, ast.ClassDef)}
    assert len(classes) == 5
    assert max(classes.values()) <= 25, classes


def test_solutions_run(shown):
    q, k, v = torch.randn(3, 2, 4, 9, 16, generator=torch.Generator().manual_seed(0)).unbind()
    x = torch.tensor([[2.0, 0, 0], [1, 1, 0], [1, 0, 1], [0, -1, 1]])
    toy = [x @ torch.tensor(w).T for w in (
        [[1.0, 0, 0], [0, 1, -1]], [[1.0, 0, 0], [0, 1, 0]], [[1.0, 0, 0], [0, 1, 1]])]
    space = {**shown, "q": q, "k": k, "v": v, "toy": toy, "arms": {}, "assert_close": assert_close}
    for block in notebook_code.solutions("03"):
        exec(block, space)
    assert set(space["arms"]) == {"softmax + local"}
