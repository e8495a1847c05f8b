# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#     cell_metadata_filter: tags,-all
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 02 · What is in a picture that is 98.8 % nothing?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/02_sparsity.ipynb)
#
# A jet image has 125,000 numbers, and about 123,500 of them are zero. A file
# that stores the zeros is a few hundred times larger than it need be, and a
# transformer that looks at them spends a good part of its time on nothing.
# Neither is hard to avoid, but both must be done so that *nothing changes*: a
# lossless file, and a model whose output does not notice that the empty
# patches are gone. The second is where subtle mistakes are made. **In one
# sentence:** store hits, make tokens of the patches that hold a hit, and never
# let an empty token touch a key, a norm or a mean.
#
# **You will** count zeros by channel, pixel and patch; derive how small a file
# can get; build tokens by hand; measure what dropping the empty ones buys; and
# verify, for outputs *and* gradients, that it costs nothing.
#
# **You need** notebook 01 for what the channels mean (its jets are simulated
# here if they are not there yet). About two minutes on two cores, one on a
# GPU.

# %%
# On Colab: fetch the course and only the packages that are missing.
import sys

if "google.colab" in sys.modules:
    # !git clone -q --depth 1 https://github.com/{REPOSITORY} /content/course
    # %cd -q /content/course/notebooks
    sys.path.insert(0, "/content/course")
    from course import colab

    colab.install()

# %% tags=["parameters"]
PROFILE, DATA, GRIDS = "laptop", "simulated", False

# %%
import gzip
import time

import numpy as np
import scipy.sparse
import torch
from matplotlib.colors import Normalize
from torch.utils.flop_counter import FlopCounterMode

from lib import profiles
from lib.data.batches import Batches
from lib.data.images import JetImages
from collider.course import course_files
from lib.cms import CHANNELS
from lib.data.tokens import PIXEL_LAYERS, densify, tokenize
from lib.models.attention import ReluLinear
from lib.models.vit import JetViT, ViTConfig
from lib.report import plots
from lib.report.results import Experiment
from lib.training.recipe import recipe

profile = profiles.get(PROFILE, DATA)
experiment = Experiment(
    "02_sparsity", profile,
    uses=["sample.top_qcd", "batches", "vit"])
plots.style()
torch.manual_seed(0)
print(f"profile {profile.tag}; torch {torch.__version__}")

# %% [markdown]
# The labelled jets of the course, from disk where they are there already:

# %%
path = course_files(profile)["labelled"]
jets = JetImages.open(path)
grid = jets.grid
hits = jets.hits(slice(None))
print(jets)
print(grid, "->", grid.patches, "patches of", grid.patch_dim, "numbers")

# %% [markdown]
# ## 1. Where the zeros are
#
# `JetImages` never builds the dense image: it keeps, for each jet, the *hits*,
# that is channel, row, column and value of every pixel that is not zero. Let
# us count them by channel, once as pixels and once as 5 × 5 patches, the unit
# that a vision transformer works with (and the size of one HCAL tower).

# %%
def patch_of(h):
    """Number of the 5 x 5 patch of each hit, 0...624."""
    return (h.row // grid.patch_height) * grid.columns \
        + h.column // grid.patch_width

count = len(jets)
patch = patch_of(hits)
pixels = torch.bincount(hits.channel, minlength=8) / (count * 125**2)
cell = (hits.image * 8 + hits.channel) * grid.patches + patch
occupied = torch.zeros(count * 8 * grid.patches, dtype=torch.bool)
occupied[cell] = True
occupied = occupied.view(count, 8, grid.patches)      # (jets, 8, patches)
patches = occupied.float().mean((0, 2))
anywhere = occupied.any(1)                            # (jets, patches)

# %%
zeros = float(1 - len(hits) / (count * 8 * 125**2))
print(f"zero pixels: {zeros:.2%}")
for name, a, b in zip(CHANNELS, pixels, patches):
    print(f"{name:>9}: {a:7.3%} of the pixels, {b:6.2%} of the patches")
print(f"   any of them: {anywhere.float().mean():.1%} of the patches")
assert 0.95 < zeros < 0.999

# %% tags=["figure"]
ax = plots.intervals({
    "pixels": dict(zip(CHANNELS, 100 * pixels.numpy())),
    "patches of 5 × 5 pixels": {
        **dict(zip(CHANNELS, 100 * patches.numpy())),
        "any": 100 * float(anywhere.float().mean())}},
    "occupied (%)", vertical=True, reference=None, yscale="log")
plots.ticks(ax.yaxis, (0.1, 1, 10, 100))
plots.save(ax, "02_sparsity", profile);

# %% [markdown]
# *Pairs of points, one pair a channel, on a logarithmic axis: the share of
# pixels and the share of patches that are not empty; the last point is for
# patches with a hit in any channel.* Two very different kinds of sparsity sit
# in one picture. In the HCAL both are equal, because a tower *is* a
# patch: filled or not, nothing in between. In the track and pixel channels a
# filled patch holds one lone pixel out of 25, so patches are many times as
# often occupied as pixels. Taken together the channels leave far fewer patches
# empty than pixels: **98.8 % zeros does not mean 98.8 % less work.**
#
# ### Zero is not one thing
#
# A zero can mean that no particle came (most of the plane), that something
# came but stayed below threshold (calorimeters), that a sensor was missed (1
# or 2 % of the pixel hits), or that a sign was thrown away (a negative $d_0$
# in the 8-bit encoding). Only the first is truly empty. We can see the last
# one: a track has a $p_T$, and should have an impact parameter.

# %%
size = 125**2
place = hits.image * size + hits.row * 125 + hits.column
track, d0, dz = (place[hits.channel == c] for c in (0, 1, 2))
with_dz = torch.isin(track, dz).float().mean()
with_d0 = torch.isin(track, d0).float().mean()
print(f"track pixels with a dz: {with_dz:.0%}, with a d0: {with_d0:.0%}")
assert with_dz < 0.95 and with_d0 < 0.95

# %% [markdown]
# Where $d_0$ is missing, its zero says "negative" or "too small for the encoding",
# not "nothing". A missing $d_z$ can also mean that the track is from pile-up: only
# tracks near the hard collision have one (notebook 01). Those are reasons why a
# zero *pixel* must be kept inside an active patch, while an entirely empty *patch*
# may go.
#
# ## 2. What packing buys: bytes
#
# Dense float32 takes $4\cdot125000=500{,}000$ bytes a jet. **Compressed sparse
# rows** keep three arrays: the values, the flat index of each, and for every
# jet where its stretch begins. Three lines:

# %%
some = torch.arange(min(200, count))
dense = jets.dense(some).flatten(1).numpy()           # (n, 125000)
row, index = np.nonzero(dense)
data = dense[row, index]
indptr = np.r_[0, np.cumsum(np.bincount(row, minlength=len(dense)))]

# %%
theirs = scipy.sparse.csr_matrix(dense)
np.testing.assert_array_equal(theirs.indptr, indptr)
np.testing.assert_array_equal(theirs.indices, index)
part = jets.subset(some)
np.testing.assert_array_equal(part.indices.numpy(), index)
np.testing.assert_array_equal(part.data.numpy(), data)
print(f"{len(data):,} hits in {len(dense)} jets: SciPy and JetImages agree")

# %% [markdown]
# With $b_v$ bytes for a value and $b_i$ for an index, a hit costs $b_v+b_i$
# and an image of density $\rho$ is smaller than its dense form when
#
# $$ \rho < \frac{b_v}{b_v+b_i}, $$
#
# one half for float32 with 32-bit indices, one fifth for single bytes. At
# $\rho\approx0.012$ there is no contest. A general compressor can do more: the
# file format cuts the arrays in chunks, puts the first bytes of all numbers
# together, then the second bytes (*shuffle*), and hands that to gzip. Is a
# packed file smaller still than gzip on the raw picture?

# %%
sizes = {"dense, float32 (public files)": 4 * grid.patches * grid.patch_dim}
byte = dense.astype(np.uint8)
lossless = bool((byte == dense).all())
if lossless:
    sizes["dense, one byte a pixel"] = byte[0].nbytes
sizes["dense float32, gzip"] = len(gzip.compress(dense, 6)) / len(dense)
sizes["sparse rows, in memory"] = (
    jets.data.nbytes + jets.indices.nbytes + jets.indptr.nbytes) / count
sizes["sparse rows, packed file"] = path.stat().st_size / count
for name, value in sizes.items():
    print(f"{name:<30} {value:>9,.0f} bytes a jet")
factor = sizes["dense, float32 (public files)"] \
    / sizes["sparse rows, packed file"]
assert factor > 100

# %% tags=["figure"]
ax = plots.intervals({"": sizes}, "bytes a jet", reference=None, xscale="log",
                     xlim=(min(sizes.values()) / 3, 3e7))
first = next(iter(sizes.values()))
for place, size in enumerate(sizes.values()):
    ax.text(1.5 * size, place, f"{size:,.0f}  (÷ {first / size:,.0f})",
            va="center", fontsize=8)
plots.save(ax, "02_bytes_per_jet", profile);

# %% [markdown]
# *Bytes a jet in each form, logarithmic, with the factor over the published
# form.* Thirty gigabytes of unlabelled jets become less than a hundredth of
# that, and the whole labelled set fits in memory many times over. This, more
# than any trick in the model, is what makes the course run on a laptop: data
# are read once and never again. In memory we do not compress further: a row
# must be found and cut out in microseconds, thousands of times a second, and
# four bytes for an index that needs seventeen bits is the price of an array
# that every library can read.
#
# ### How small could it be?
#
# If hits fell independently, the positions in channel $c$ would carry
# $H(\rho_c)=-\rho_c\log_2\rho_c-(1-\rho_c)\log_2(1-\rho_c)$ bits a pixel, and
# the values their own entropy on top.

# %%
def entropy(p):
    p = p[p > 0].double()
    return float(-(p * p.log2()).sum())

places = sum(125**2 * entropy(torch.stack([r, 1 - r])) for r in pixels)
levels = sum(
    float(n) / count * entropy(torch.bincount(v) / n) for c in range(8)
    if (n := len(v := hits.value[hits.channel == c].long())) > 0)
bound = (places + levels) / 8
print(f"positions {places/8:,.0f} + values {levels/8:,.0f} "
      f"= {bound:,.0f} bytes a jet, if hits were independent")
print(f"packed file: {sizes['sparse rows, packed file']:,.0f}")

# %% [markdown]
# Where the file is below this bound, the hits are *not* independent: a tower
# is 25 equal pixels in a block, which gzip finds and the bound does not know.
# Structure that a compressor can use is structure that a model can use;
# masked autoencoders (arXiv:2111.06377), which learn by filling in patches
# that were hidden, are built on that thought.
#
# ## 3. From hits to tokens, by hand
#
# A vision transformer cuts the image into patches, flattens each and calls it
# a *token*. The dense way builds all 625. From hits we need no image:
#
# 1. every hit knows its patch;
# 2. a patch is active if any hit knows it;
# 3. a running count of active patches numbers the tokens of a jet $0,1,2,…$;
# 4. every hit adds its value to its token, at its place inside the patch.

# %%
def tokens_by_hand(h):
    """features (B, K, 200), position (B, K), valid (B, K)."""
    b, k = h.images, patch_of(h)
    active = torch.zeros(b, grid.patches, dtype=torch.bool)
    active[h.image, k] = True                         # step 2
    slot = active.cumsum(1) - 1                       # step 3
    length = int(active.sum(1).max())
    inside = (h.channel * 5 + h.row % 5) * 5 + h.column % 5
    features = torch.zeros(b, length, grid.patch_dim)
    features[h.image, slot[h.image, k], inside] = h.value     # step 4
    image, where = active.nonzero(as_tuple=True)
    position = torch.zeros(b, length, dtype=torch.long)
    position[image, slot[image, where]] = where
    valid = torch.arange(length) < active.sum(1, keepdim=True)
    return features, position, valid

# %% [markdown]
# There is no loop over jets: on a GPU the same lines run in parallel. Nor is there
# a dense image at any point: memory and time follow the number of hits. (The one
# exception, `active`, has a byte for each of 625 patches.) The jets of a batch hold
# different numbers of tokens, so the short ones are padded, and `valid` says which
# tokens are real. From here on the same code is `lib.data.tokens.tokenize`; the two
# agree to the last bit, and nothing is lost on the way back.

# %%
few = jets.hits(slice(0, 32))
features, position, valid = tokens_by_hand(few)
tokens = tokenize(few, grid)                          # keep="active"
assert torch.equal(tokens.features, features)
assert torch.equal(tokens.position, position)
assert torch.equal(tokens.valid, valid)
assert torch.equal(densify(tokens), jets.dense(slice(0, 32)))
print("features", tuple(features.shape), "equal; densify gives the images")

# %% [markdown]
# `keep="masked"` returns all 625 patches with `valid` where active;
# `keep="all"` returns all of them and calls them all valid, which is what a
# dense vision transformer does.

# %%
masked, everything = (tokenize(few, grid, k) for k in ("masked", "all"))
for name, t in (("active", tokens), ("masked", masked), ("all", everything)):
    print(f"{name:>6}: features {tuple(t.features.shape)}, "
          f"{t.valid.float().mean():.0%} of the slots valid")
assert int(masked.valid.sum()) == int(tokens.valid.sum())

# %% [markdown]
# ## 4. How many tokens has a jet?

# %%
active = anywhere.sum(1)                              # (jets,)
kinds = {"QCD": jets.labels == 0, "top": jets.labels == 1}
for name, mine in kinds.items():
    low, middle, high = np.percentile(active[mine], (5, 50, 95))
    print(f"{name}: median {middle:.0f} active patches of 625, "
          f"90 % of the jets in {low:.0f} to {high:.0f}")
print(f"mean over all: {active.float().mean():.0f}")

# %% tags=["figure"]
ax = plots.histograms({k: active[m] for k, m in kinds.items()},
                      "active patches of a jet", bins=30)
plots.save(ax, "02_active_patches", profile);

# %% [markdown]
# *Histograms of the number of active patches for QCD and top jets.* The spread
# within a class is wide, because much of it follows the number of pile-up
# collisions; the difference between the classes is small beside it. But is it
# nil? This matters for training: batches of jets of similar length waste
# little on padding, and if length told the class, such batches would be
# biased.

# %%
from sklearn.metrics import roc_auc_score

auc = roc_auc_score(jets.labels, active)
print(f"AUC of the number of active patches: {auc:.3f} (chance 0.5)")
if "vertices" in jets.truth:
    both = torch.stack([active.float(), jets.truth["vertices"].float()])
    vertices = float(torch.corrcoef(both)[0, 1])
    print(f"correlation with the number of collisions: {vertices:+.2f}")

# %%
def waste(bucket):
    """Share of token slots that are padding, in shuffled batches of 32."""
    batches = Batches(jets, torch.arange(min(count, 2000)), 32,
                      shuffle=True, seed=0, bucket=bucket)
    slots = [(b.tokens.valid.numel(), int(b.tokens.valid.sum()))
             for b in batches]
    total, real = np.sum(slots, 0)
    return 1 - real / total

waste_random, waste_sorted = waste(False), waste(True)
print(f"padding: {waste_random:.0%} in random batches, "
      f"{waste_sorted:.0%} in batches of similar size")
assert waste_sorted <= waste_random + 0.02

# %% [markdown]
# The difference is not nil: the length alone has an AUC of 0.556. But what sets the
# length is mainly the number of collisions (a correlation of 0.62). Batches sorted
# strictly by length would be biased a little. So `Batches` takes the middle road:
# it sorts only within a stretch of a few batches, then shuffles the batches. Most
# of the padding is gone, and a batch holds both classes in nearly the mixture of
# the whole.
#
# ## 5. Three kinds of patches
#
# Which hits make a patch active? In the one real jet whose picture circulates
# in public, 357 of the 625 patches hold a pixel, but only 112 hold a track or
# calorimeter hit; the other 245 hold hits of the pixel layers alone, most of
# them from pile-up particles too soft to reach anything else. Ours:

# %%
beyond = [c for c in range(8) if c not in PIXEL_LAYERS]
fine = occupied[:, beyond].any(1)                     # (jets, patches)
floor = anywhere & ~fine
print(f"an average jet: {anywhere.sum(1).float().mean():.0f} active patches, "
      f"{fine.sum(1).float().mean():.0f} with a track or calorimeter hit, "
      f"{floor.sum(1).float().mean():.0f} with pixel-layer hits only")
print("the real one: 357, 112, 245")

# %%
kind = (anywhere.int() + fine.int()).view(count, grid.rows, grid.columns)
shown = {}
for name, mine in kinds.items():
    distance = (active - active[mine].median()).abs()
    typical = int(torch.where(mine, distance, 999).argmin())
    shown[f"a {name} jet"] = kind[typical]

# %% tags=["figure"]
axes = plots.grid_map(shown, kinds={
    "empty": "#F2F2F2", "pixel layers only": "#A8C6DF",
    "track or calorimeter": plots.CYCLE[0]})
plots.save(axes[0, 0], "02_patch_kinds", profile);

# %% [markdown]
# *The 25 × 25 patches of one QCD and one top jet, each with the median number
# of active patches of its class, in three shades: empty, pixel layers only,
# track or calorimeter.* The middle, where the hottest tower is, is dark. Away
# from it dark patches are strewn as well, wherever a pile-up particle was hard
# enough to reach the calorimeters, and the light ones lie over the whole
# plane. (Compare the two printed lines: ours hold more of the dark ones on
# average than the real jet. One jet is no contradiction to an average; notebook
# 01 says where it lies among ours.) One picture proves little; the mean over all jets says more:

# %%
share = anywhere.float().mean(0).view(25, 25)
share_fine = fine.float().mean(0).view(25, 25)
edges = [float(share[:5].mean()), float(share[-5:].mean())]
print(f"activity: lowest rows {edges[0]:.0%}, middle rows "
      f"{share[10:15].mean():.0%}, highest rows {edges[1]:.0%}")
print(f"fine patches: centre {share_fine[10:15, 10:15].mean():.0%}, "
      f"corners {share_fine[:5, :5].mean():.0%}")
assert share_fine[10:15, 10:15].mean() > share_fine[:5, :5].mean()

# %% tags=["figure"]
axes = plots.grid_map(
    {"any hit": share, "track or calorimeter hit": share_fine},
    "share of jets", norm=Normalize(0, 1))
plots.save(axes[0, 0], "02_occupancy_map", profile);

# %% [markdown]
# *Share of jets in which each patch is active: left by any hit, right by a track or
# calorimeter hit.* The right map is peaked at the hottest tower, on which images
# are centred; the left one is flatter, because pile-up hits fall anywhere. Averages
# hide that within *one* jet the floor may be lopsided: seen from a vertex that is
# displaced along the beam, one end of the pixel layers covers less of the picture.
#
# ### The two-scale idea
#
# The floor is not useless: it says how much pile-up there was, and so how much
# to subtract from the mass. But does it need one token for every five pixels?
# `keep="two_scale"` leaves the fine patches as they are and sums the others'
# hits into coarse tokens of 5 × 5 patches, at most 25 of them.

# %%
double = tokenize(few, grid, "two_scale")
coarse = double.position >= grid.patches
number_fine = (double.valid & ~coarse).sum(1)
number_coarse = (double.valid & coarse).sum(1)
assert torch.equal(number_fine, fine[:32].sum(1))
assert int(number_coarse.max()) <= 25
torch.testing.assert_close(double.features.sum((1, 2)),
                           tokens.features.sum((1, 2)))
print(f"first 32 jets: {tokens.valid.sum(1).float().mean():.0f} tokens "
      f"become {number_fine.float().mean():.0f} fine "
      f"+ {number_coarse.float().mean():.0f} coarse")

# %% [markdown]
# The sum of each jet's pixels is kept, and of a coarse hit its channel and its
# patch; only the place inside the patch is given up. Whether a model loses by it is
# an empirical question, which notebook 12 answers with an interval; here we only
# learn what it saves.
#
# ## 6. What dropping buys: compute
#
# What does a transformer do with a token? The next notebook builds it; here are
# the ten lines that we need. A block gets a list of $N$ vectors of width $d$ and
# returns as many. It does three things with them:
#
# 1. **Attention** lets tokens exchange information. Each token is multiplied
#    with three matrices of $d\times d$, which make of it a *query* (what it
#    looks for), a *key* (what it can be found by) and a *value* (what it
#    passes on). A token receives an average of all values; a value counts the
#    more, the better its key fits the query. Softmax attention compares every
#    query with every key; *linear* attention measures the fit in another way,
#    for which a few sums over the tokens suffice. A fourth matrix ends it.
# 2. A **local convolution** does the same for neighbours on the grid.
# 3. An **MLP**, two matrices with a non-linear function between them, works on
#    each token by itself.
#
# So nearly all multiply–accumulates (MACs) are products of a token with a
# matrix. With $h$ *heads* (attentions side by side, each on $d/h$ numbers), an MLP
# whose hidden layer is $r$ times as wide and kernels of $k\times k$, a block with
# linear attention needs
#
# $$ \underbrace{4Nd^2}_{\text{four matrices}}
#  + \underbrace{2Nd^2/h}_{\text{linear attention}}
#  + \underbrace{2rNd^2}_{\text{MLP}}
#  + \underbrace{2k^2Nd}_{\text{local conv.}} . $$
#
# All of it is proportional to $N$.
#
# **Prediction.** Work drops by the ratio of tokens. Time drops by less: small
# matrices are less efficient, padding is wasted, and tokens must go to the
# grid and back for the convolution.

# %%
config = ViTConfig.of(grid, **recipe("scratch", profile).model)
batch = jets.batch(slice(0, 32))
models = {}
for keep in ("all", "active", "two_scale"):
    torch.manual_seed(0)
    model = JetViT(ViTConfig(**{**vars(config), "tokens": keep}))
    models[keep] = model.fit_scales(few, batch.tokens, batch.mass).eval()
print(f"{sum(p.numel() for p in models['active'].parameters()):,} parameters")

# %%
inputs = {"all": everything, "active": tokens, "two_scale": double}
work, seconds, length = {}, {}, {}
for name, t in inputs.items():
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        models[name](t)
    work[name] = counter.get_total_flops() / 2 / len(t)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        with torch.no_grad():
            models[name](t)
        times.append(time.perf_counter() - start)
    seconds[name] = min(times) / len(t)
    length[name] = float(t.valid.sum(1).float().mean())
    print(f"{name:>9}: {length[name]:5.0f} tokens, {work[name]/1e6:7.1f} "
          f"million MACs, {1000*seconds[name]:6.2f} ms a jet")
assert work["two_scale"] < work["active"] < work["all"]

# %% tags=["figure"]
relative = {what: {k: found / values["all"] for k, found in values.items()}
            for what, values in {
                "tokens": length, "multiply–accumulates": work,
                "time": seconds}.items()}
ax = plots.intervals(relative, "relative to all patches", vertical=True,
                     reference=1)
plots.save(ax, "02_token_cost", profile);

# %%
print(f"active against all: tokens ÷ {length['all']/length['active']:.1f}, "
      f"work ÷ {work['all']/work['active']:.1f}, "
      f"time ÷ {seconds['all']/seconds['active']:.1f}")

# %% [markdown]
# *Mean number of tokens, multiply–accumulates and time of a forward pass, relative
# to using all patches.* The prediction was half right. Time falls by less than
# tokens, as foreseen; but so does work, by 1.2 and not by 1.7, because a batch is
# as long as its longest jet (528 tokens here), and the padding of the others is
# computed as well. Beside the work, time loses nothing further. Times are for 32
# jets on this machine while it may have been busy; the benchmark `python -m lib
# bench` does it properly, training included.

# %%
d, h, k = config.dim, config.heads, config.lcm_kernel
longest = tokens.valid.shape[1]
block = longest * d**2 * (4 + 2 / h + 2 * config.mlp_ratio) \
    + 2 * k**2 * longest * d
formula = config.depth * block + longest * grid.patch_dim * d
print(f"formula {formula/1e6:.1f} million MACs, counted "
      f"{work['active']/1e6:.1f}")
assert 0.5 < work["active"] / formula < 3

# %% [markdown]
# The formula leaves out what depends on the version of the model (the layers after
# the blocks, the convolution on cells that hold no token, the product that serves
# all heads at once), and still comes within a fifth of the count. It also says
# where the money goes: the MLP and the four projections take most of it, linear
# attention proper, the part with the interesting name, a few per cent. Note what is
# *not* in the formula: a term in $N^2$. Softmax attention would add $2N^2d$, and
# dropping tokens would pay twice. How much that is beside the rest depends on
# $N/d$, tokens over width; notebook 03 draws the comparison.
#
# ## 7. The invariant
#
# Is the model that sees only active patches *the same function* as one that
# gets all patches with a mask? It had better be, or the number of tokens in
# the longest jet of a batch would change the answer for the others. The
# contract of this course: `"masked"` and `"active"` agree to $10^{-5}$ in
# float32, outputs and gradients.

# %%
def outputs_and_gradient(model, t):
    model.zero_grad()
    logits, mass = model(t)
    (logits[:, 1].sum() + mass.sum() / 100).backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()
                          if p.grad is not None])
    return logits.detach(), mass.detach(), gradient

model = models["active"]
packed = outputs_and_gradient(model, tokens)
whole = outputs_and_gradient(model, masked)
for name, a, b in zip(("logits", "mass", "gradient"), packed, whole):
    error = (a - b).abs().max() / b.abs().max()
    print(f"{name:>9}: largest relative difference {error:.1e}")
    torch.testing.assert_close(a, b, rtol=1e-4,
                               atol=1e-5 * float(b.abs().max()))

# %% [markdown]
# Equal up to rounding, and not by luck. There are five doors through which an
# empty token could come in, and each has to be shut:
#
# | where | what would happen |
# |---|---|
# | keys and values | every query attends to nothing, and takes its value |
# | normaliser | the sum over keys counts tokens that are not there |
# | convolution | a bias, or a norm's offset, leaks from empty neighbours |
# | statistics of a norm | a batch norm sees mostly empties |
# | pooling | the mean is diluted by empties |
#
# Let us open them one after another and look at the damage. First the obvious
# objection: is an empty token not simply a zero vector, which changes nothing?
# It is not, once it has been embedded.

# %%
with torch.no_grad():
    x = model.embed(everything)                       # (B, 625, D)
empty = ~masked.valid
print(f"norm of an embedded empty token "
      f"{x[empty].norm(dim=-1).mean():.2f}, of an active one "
      f"{x[~empty].norm(dim=-1).mean():.2f}")
assert float(x[empty].norm(dim=-1).mean()) > 0

# %% [markdown]
# It has a position vector. That is faint, but a block normalises its tokens
# before attention, and LayerNorm gives every token the same length: the empty
# ones come out as loud as the core of the jet. **Doors one and two**: how much
# attention goes to nothing? Each row of the *attention map* holds the weights
# with which one token averages the values of all; they add to one. With random
# queries and keys, the share of a row that falls on empty tokens is

# %%
heads, width = 2, config.dim // 2
normed = torch.nn.functional.layer_norm(x, (config.dim,))
q, k = (torch.nn.functional.linear(normed, torch.randn(width * 2, config.dim))
        .unflatten(-1, (heads, width)).transpose(1, 2) for _ in range(2))
with torch.no_grad():
    relu = ReluLinear(heads, width)
    weights = relu.map(q[:4], k[:4])                  # (4, H, 625, 625)
    shut = relu.map(q[:4], k[:4], masked.valid[:4])
nothing = empty[:4, None, None]
leak = float((weights * nothing).sum(-1).mean())
print(f"attention spent on empty tokens: {leak:.0%} without the mask, "
      f"{float((shut * nothing).sum(-1).mean()):.0%} with it; "
      f"{float(empty[:4].float().mean()):.0%} of the patches are empty")
assert float((shut * nothing).sum()) == 0 and leak > 0

# %% [markdown]
# Compare it with the share of empty patches: random queries have no way to tell
# a patch from nothing. A trained model can learn not to, at the price of
# capacity, and of computing all those keys. (A model may also learn to *use*
# empties, as a count of how empty the jet is: the dense model of `keep="all"`
# can. Ours gets the multiplicity handed to it instead, beside the pooled
# tokens.)
#
# **Door three**: a convolution spreads what it sees by half its kernel, and
# adds a bias even where it sees nothing. A second one behind it would read
# these ghosts back into active patches; ours puts zeros on empty cells first.

# %%
conv = torch.nn.Conv2d(1, 1, 3, padding=1)
ground = masked.valid.view(-1, 1, 25, 25).float()
with torch.no_grad():
    ghosts = (conv(ground) != 0) & (ground == 0)
print(f"empty cells that are no longer zero after one convolution: "
      f"{float(ghosts.sum() / (ground == 0).sum()):.0%}")
assert ghosts.any()

# %% [markdown]
# **Door four**: a norm over the batch. Mean and standard deviation of the
# embedded tokens, with and without the empty ones:

# %%
for name, part in (("all", x.flatten(0, 1)), ("active", x[~empty])):
    print(f"{name:>6}: standard deviation of a feature "
          f"{part.std(0).mean():.3f}")

# %% [markdown]
# **Door five**: pooling. Averaging over all 625 instead of over the active
# ones multiplies the signal by the active fraction, so the same jet under more
# pile-up is scaled differently, and a batch padded to another length would be
# scaled by accident.

# %%
active_mean = (x * ~empty[..., None]).sum(1) / (~empty).sum(1)[:, None]
ratio = (x * ~empty[..., None]).mean(1).norm() / active_mean.norm()
print(f"signal left after averaging over all patches: {ratio:.0%}")
assert ratio < 1

# %% [markdown]
# All doors at once: tell the model that every patch is real.

# %%
with torch.no_grad():
    right, _ = model(masked)
    wrong, _ = model(everything)
moved = (wrong - right).abs().mean() / right.abs().mean()
print(f"logits move by {moved:.0%} of their size on average")
assert moved > 1e-3, "an empty token is not harmless"

# %% [markdown]
# Another function altogether. Both can be trained; but weights of the one mean
# nothing to the other, and a checkpoint must say which of the two it is for
# (`ViTConfig.tokens` does).
#
# ### Two corner cases
#
# Adding padding must change nothing, and a jet without any hit must neither
# crash nor poison the gradients of its batch with NaN.

# %%
from dataclasses import replace

pad = torch.nn.functional.pad
longer = replace(tokens, features=pad(tokens.features, (0, 0, 0, 7), value=9),
                 position=pad(tokens.position, (0, 7)),
                 valid=pad(tokens.valid, (0, 7)))
with torch.no_grad():
    torch.testing.assert_close(model(longer)[0], right, rtol=1e-4, atol=1e-4)
blank = replace(tokens, valid=tokens.valid & (torch.arange(32) > 0)[:, None])
_, _, gradient = outputs_and_gradient(model, blank)
assert torch.isfinite(gradient).all()
print("seven tokens of rubbish as padding: no change; "
      "an empty jet: finite gradients")

# %% [markdown]
# ## 8. What we saw
#
# Sparsity is two different savings. In **bytes** it is a factor of hundreds,
# lossless, because a pixel costs only if it is not zero. In **compute** it is at
# best the ratio of 625 to the number of active patches, less than two, because
# pile-up puts lone pixels in many patches. In a batch, which is as long as its
# longest jet, less than that is left (section 6 prints both). Coarse
# tokens for those patches raise it again. And the saving is free only if empty
# tokens are kept out of everything, which we checked instead of believing.
#
# The limits: the counts are those of one pile-up scenario, and more pile-up would
# fill the floor until no patch is empty. (The high-luminosity LHC will have up to
# 200 collisions at once; notebook 11 counts.) With other seeds expect the mean
# number of active patches to move by a per cent or two; times depend on the machine
# and its other work.

# %% [markdown]
# ## Exercises
#
# **Quick.** (a) At which density does packing in CSR stop paying for one-byte
# pixels and four-byte indices? And with indices of two bytes, one image a
# channel? (b) An image is 125 pixels wide. What happens to the last column of
# patches for patches of 8? Check with `Grid(8, 125, 125, 8, 8)`.
#
# **Medium.** Count active patches for patch sizes 1, 3, 5, 9 and 25, and plot
# tokens × features per token. Which size stores the fewest numbers? Which
# would you choose for a linear transformer, and which for softmax?
#
# **Project.** Drop the three pixel layers altogether before `tokenize`, train
# as in notebook 07, and compare with three seeds on the same test jets. How
# much of the accuracy, and how much of the mass, lived in the floor?
#
# <details><summary>Solutions</summary>
#
# *Quick.* (a) $1/(1+4)=20\,\%$; with two bytes (15,625 pixels of one channel
# fit) $1/3$. (b) `rows` is the ceiling, 16: the last patch overhangs by three
# pixels, which are padded with zeros; they cost features but hold no hit.
#
# ```python
# from lib.data.tokens import Grid
#
# assert Grid(8, 125, 125, 8, 8).rows == 16
# ```
#
# *Medium.*
#
# ```python
# def tokens_of(p):
#     rows = -(-125 // p)
#     patch = (hits.image * rows + hits.row // p) * rows + hits.column // p
#     return len(patch.unique()) / hits.images  # active patches of a jet
#
# d = 64
# for p in (1, 3, 5, 9, 25):
#     n = tokens_of(p)
#     linear = n * (12 * d**2 + 8 * p**2 * d)  # a block and the embedding
#     print(p, f"{n:.0f} tokens, {n * 8 * p**2:.0f} numbers,",
#           f"{linear / 1e6:.1f} and {(linear + 2 * n**2 * d) / 1e6:.1f} M MACs")
# ```
#
# Tokens fall with $p$ while features grow as $8p^2$; the product has its minimum
# at single pixels, since a lone pixel costs a whole patch. Operations fall at
# *every* step to larger patches, for linear attention and all the more for
# softmax. So operations do not choose the patch. What is lost is detail: the
# numbers of a patch have to fit in one vector of width $d$, and what stood
# where within it is known only through that. Five pixels are one tower of the
# HCAL, and 200 numbers, most of them zero, into 64.
#
# *Project.* `hits.select(~torch.isin(hits.channel, torch.tensor([5, 6, 7])))`
# as the `augment` of `Batches` does it. State a prediction first: the floor
# measures pile-up, so expect mass to lose more than the class.
#
# </details>
#
# ## Recap
#
# | term | meaning |
# |---|---|
# | hit | a pixel that is not zero: jet, channel, row, column, value |
# | CSR | values, indices and row pointers: sparse rows |
# | token, patch | a flattened block of 8 × 5 × 5 numbers; the block itself |
# | active patch | one that holds a hit in any channel |
# | `active`, `masked`, `all`, `two_scale` | packed active patches; all with a mask; all, all valid; fine and coarse |
# | floor | patches with pixel-layer hits only, mostly pile-up |
# | invariant | `masked` and `active` give the same outputs and gradients |
#
# ## References
#
# - M. Andrews et al., *End-to-end jet classification of boosted top quarks with
#   the CMS open data*, arXiv:2104.14659: the images.
# - A. Dosovitskiy et al., *An image is worth 16x16 words*, arXiv:2010.11929:
#   patches as tokens.
# - K. He et al., *Masked autoencoders are scalable vision learners*,
#   arXiv:2111.06377: dropping tokens to save compute.
# - C. Zheng, *The linear attention resurrection in vision transformer*,
#   arXiv:2501.16182: the attention and its local module.

# %%
experiment.values["occupancy"] = {
    "zeros": zeros, "active_patches": float(active.float().mean()),
    "fine_patches": float(fine.sum(1).float().mean()),
    "floor_patches": float(floor.sum(1).float().mean()),
    "two_scale_tokens": length["two_scale"], "auc_of_count": auc,
    **{f"active_{k.lower()}": float(active[m].float().mean())
       for k, m in kinds.items()}}
experiment.values["bytes"] = {
    "dense": 500_000, "gzip": sizes["dense float32, gzip"],
    "memory": sizes["sparse rows, in memory"],
    "packed": sizes["sparse rows, packed file"], "factor": factor}
experiment.values["compute"] = {
    "tokens_ratio": length["all"] / length["active"],
    "work_ratio": work["all"] / work["active"],
    "time_ratio": seconds["all"] / seconds["active"],
    "work_ratio_two_scale": work["all"] / work["two_scale"],
    "padding_random": waste_random, "padding_sorted": waste_sorted}
experiment.values["channels"] = {
    name.replace(" ", "_"): {"pixels": float(a), "patches": float(b)}
    for name, a, b in zip(CHANNELS, pixels, patches)}
print(experiment.save().name, "written")
