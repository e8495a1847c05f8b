"""Tokens: hits cut into patches, checked against loops over a dense image."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from lib.data.tokens import HCAL, TOP_QCD, Grid, Hits, densify, tokenize

quick = settings(max_examples=25, deadline=None)


@st.composite
def grids(draw):
    sizes = st.integers(1, 13)
    return Grid(draw(st.integers(1, 3)), draw(sizes), draw(sizes), draw(st.integers(1, 5)),
                draw(st.integers(1, 5)))


def random_hits(grid: Grid, images: int, per_image: int, seed: int) -> Hits:
    """Hits at different pixels with values that are never zero; some images may be empty."""
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(images, *grid.shape, generator=generator)
    pixels = grid.channels * grid.height * grid.width
    cut = dense.flatten(1).sort(1, descending=True).values[:, min(per_image, pixels) - 1]
    cut = torch.where(torch.rand(images, generator=generator) < 0.2, 2.0, cut)
    return hits_of(torch.where(dense >= cut.view(-1, 1, 1, 1), dense + 0.1, 0.0))


def hits_of(dense: torch.Tensor) -> Hits:
    image, channel, row, column = dense.nonzero(as_tuple=True)
    return Hits(image, channel, row, column, dense[image, channel, row, column], len(dense))


def image_of(hits: Hits, grid: Grid) -> torch.Tensor:
    dense = torch.zeros(hits.images, *grid.shape)
    for i, c, r, k, v in zip(hits.image, hits.channel, hits.row, hits.column, hits.value):
        dense[i, c, r, k] += v
    return dense


def patches_of(image: torch.Tensor, grid: Grid) -> torch.Tensor:
    """(C, H, W) -> (P, F) by slicing, the far edges padded with zeros."""
    found = []
    for row in range(grid.rows):
        for column in range(grid.columns):
            patch = torch.zeros(grid.channels, grid.patch_height, grid.patch_width)
            top, left = row * grid.patch_height, column * grid.patch_width
            part = image[:, top:top + grid.patch_height, left:left + grid.patch_width]
            patch[:, :part.shape[1], :part.shape[2]] = part
            found.append(patch.flatten())
    return torch.stack(found)


def test_grids_of_the_course():
    assert (TOP_QCD.rows, TOP_QCD.columns, TOP_QCD.patches, TOP_QCD.patch_dim) == (25, 25, 625, 200)
    assert Grid(3, 125, 125, 5, 5).patch_dim == 75
    assert (HCAL.rows, HCAL.columns, HCAL.patch_dim) == (8, 18, 32)
    overhanging = Grid(1, 64, 72, 32, 32)
    assert (overhanging.rows, overhanging.columns, overhanging.patch_dim) == (2, 3, 1024)


@quick
@given(grids(), st.integers(1, 4), st.integers(1, 30), st.integers(0, 10**6))
def test_tokens_are_the_patches_that_hold_something(grid, images, per_image, seed):
    hits = random_hits(grid, images, per_image, seed)
    dense = image_of(hits, grid)
    expected = torch.stack([patches_of(image, grid) for image in dense])
    active = expected.ne(0).any(2)
    packed, masked, every = (tokenize(hits, grid, keep) for keep in ("active", "masked", "all"))
    assert_close(masked.features, expected)
    assert torch.equal(masked.valid, active)
    assert_close(every.features, expected)
    assert every.valid.all()
    assert packed.features.shape[1] == max(1, int(active.sum(1).max()))
    assert torch.equal(packed.valid.sum(1), active.sum(1))
    for image in range(images):
        keep = packed.valid[image]
        assert torch.equal(packed.position[image][keep], active[image].nonzero().squeeze(1))
        assert_close(packed.features[image][keep], expected[image][active[image]])
    assert not packed.features[~packed.valid].any()
    for tokens in (packed, masked, every):
        assert torch.equal(densify(tokens), dense)


@pytest.mark.parametrize("grid", [Grid(1, 64, 72, 32, 32), Grid(1, 64, 72, 5, 7), HCAL])
def test_a_patch_that_overhangs_is_padded_and_comes_back(grid):
    dense = torch.rand(2, *grid.shape) + 0.1
    for keep in ("active", "masked", "all"):
        tokens = tokenize(hits_of(dense), grid, keep)
        assert tokens.features.shape == (2, grid.patches, grid.patch_dim)
        assert torch.equal(densify(tokens), dense)
        assert_close(tokens.features.sum(), dense.sum())


@quick
@given(st.integers(1, 3), st.integers(1, 60), st.integers(0, 10**6))
def test_two_scales_keep_every_hit_once(images, per_image, seed):
    grid = Grid(8, 33, 41, 5, 5)
    hits = random_hits(grid, images, per_image, seed)
    tokens = tokenize(hits, grid, "two_scale")
    dense = image_of(hits, grid)
    patches = torch.stack([patches_of(image, grid) for image in dense])
    calorimeter = patches.unflatten(2, (8, 25))[:, :, :5].flatten(2).ne(0).any(2)
    fine = tokens.valid & (tokens.position < grid.patches)
    coarse = tokens.valid & (tokens.position >= grid.patches)
    assert torch.equal(fine.sum(1), calorimeter.sum(1))
    patch = torch.arange(grid.patches)
    rows, columns = patch // grid.columns, patch % grid.columns
    block = (rows // 5) * grid.coarse[1] + columns // 5
    for image in range(images):
        assert_close(tokens.features[image][fine[image]], patches[image][calorimeter[image]])
        left = patches[image] * ~calorimeter[image].unsqueeze(1)
        for slot in coarse[image].nonzero().squeeze(1):
            feature = tokens.features[image, slot].view(8, 5, 5)
            members = block == tokens.position[image, slot] - grid.patches
            held = left[members].view(-1, 8, 25).sum(2)  # of each patch and channel
            assert_close(feature.sum((1, 2)), held.sum(0))
            # Each patch of the block has its own cell.
            assert sorted(feature.sum(0).flatten().ne(0).nonzero().flatten().tolist()) == sorted(
                int(rows[p] % 5 * 5 + columns[p] % 5)
                for p in members.nonzero().flatten() if left[p].any())
    assert_close(tokens.features.sum((1, 2)), dense.sum((1, 2, 3)))


def test_two_hits_in_one_pixel_add_up():
    same = torch.zeros(2, dtype=torch.int64)
    hits = Hits(same, same, same, same, torch.tensor([1.5, 2.0]), 1)
    assert tokenize(hits, TOP_QCD).features[0, 0, 0] == 3.5


def test_unknown_keep_is_named():
    same = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match="two_scale"):
        tokenize(Hits(same, same, same, same, torch.ones(1), 1), TOP_QCD, "some")


def test_selecting_and_moving_keep_the_hits():
    hits = random_hits(TOP_QCD, 2, 10, 0)
    kept = hits.select(hits.channel == 3)
    assert (kept.channel == 3).all()
    assert kept.images == 2
    moved = tokenize(hits.to("cpu"), TOP_QCD).to("cpu")
    assert torch.equal(moved.features, tokenize(hits, TOP_QCD).features)
