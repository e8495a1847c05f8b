# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#     cell_metadata_filter: tags,-all
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 11 · Where is linear attention worth having?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/11_scaling.ipynb)
#
# "Linear" is a promise about *large* numbers: with twice as many tokens, twice
# the time, and not four times. A jet of this course has a few hundred tokens.
# Is that large? There are two ways to make attention cheap, a mechanism whose
# cost grows slowly, and fewer tokens. This notebook counts the tokens of real
# jets, at the pile-up of 2012 and of the next collider, with large patches and
# with single pixels; measures how time and memory grow from 64 tokens to 16,384;
# and lays the one over the other.
#
# **You will** count tokens, fit an exponent with its interval, find where two
# power laws cross, tell the cost of attention from that of a block, and decide
# when empty tokens are the better thing to save.
#
# **You need** notebook 03 (the mechanisms); about a minute on two cores.

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
import time

import numpy as np
import torch
from IPython.display import Markdown, display

from collider import events
from collider.course import course_jets, more_jets
from course import scaling
from lib import profiles
from lib.data.images import JetImages
from lib.data.tokens import Grid, tokenize
from lib.models.vit import ViTConfig
from lib.training.recipe import build, recipe

# %%
import drawings.comparison
from lib.report import plots
from lib.report.numbers import markdown_table
from lib.report.results import Experiment

profile = profiles.get(PROFILE, DATA)
experiment = Experiment("11_scaling", profile, ["sample.top_qcd", "tokens",
                                                "attention.*"])
plots.style()
jets, train, *_ = course_jets(profile)
SMALL = profile.name == "smoke"
print(f"PyTorch {torch.__version__}, profile {profile.tag}")

# %% [markdown]
# ## 1. How many tokens has a jet?
#
# A pixel of these images is a crystal of the calorimeter, and 5 × 5 of them are a
# tower and our patch. A patch is *active* if anything in it was hit. Nearly half of a
# jet's active patches hold a few hits of the pixel layers and nothing else, the floor
# that *pile-up* leaves: the other collisions in the same crossing of the beams.
# *Two-scale* tokens keep the patches with a track or calorimeter energy and sum the
# rest into coarse tokens of 5 × 5 patches. Our model reads these.

# %%
some = jets.hits(train[:200])
count = {keep: tokenize(some, jets.grid, keep).valid.sum(1).float().mean()
         for keep in ("all", "active", "two_scale")}
print({k: f"{v:.0f} tokens a jet" for k, v in count.items()})
assert count["two_scale"] < count["active"] < count["all"]
experiment.values["two_scales"] = {k: float(v) for k, v in count.items()}

# %% [markdown]
# Of 625 patches 363 are active, and two scales make 219 tokens of them. What that is
# worth depends on the mechanism. For one whose cost grows as the number of tokens it is
# a factor 625 / 219 = 2.9; for one that compares each token with each other it is the
# square of it, 8.1.
#
# A claim to check: summing into coarse tokens loses no energy. So the sum of all
# features must be the same before and after.

# %%
index = train[:1]
one = tokenize(jets.hits(index), jets.grid)
two = tokenize(jets.hits(index), jets.grid, keep="two_scale")
torch.testing.assert_close(one.features.sum(), two.features.sum())
print(f"one jet: {one.valid.sum()} tokens, in two scales {two.valid.sum()}")

# %% [markdown]
# Each token carries its position, 0 to 624 for a fine one and from 625 on for a coarse
# one. From the positions we can draw which patch went where.

# %% tags=["figure"]
where = two.position[two.valid]
fine = where < jets.grid.patches
kind = torch.zeros(jets.grid.patches, dtype=torch.long)
kind[one.position[one.valid]], kind[where[fine]] = 1, 2
coarse = torch.zeros(jets.grid.coarse, dtype=torch.bool)
coarse.view(-1)[where[~fine] - jets.grid.patches] = True
fig = drawings.comparison.scales(kind.view(jets.grid.rows, jets.grid.columns), coarse)
plots.save(fig, "11_two_scales", profile);

# %% [markdown]
# *Figure: the patches of one training jet. Left, dark: patches with a track or
# calorimeter energy; light: patches with pixel hits only. Right: the light
# ones summed into 25 coarse tokens (grey lines).*
#
# No energy is lost, but resolution is: within a coarse token a hit keeps only the
# patch that it came from. Notebook 12 finds no loss of AUC.
#
# ### Patches of other sizes, and more pile-up
#
# In 2012 a collision of interest came with 21 others (in our simulation 25, which
# notebook 01 fits); at the high-luminosity LHC, the same machine with denser beams, it
# will be 140 to 200. And nothing forces a patch to be a tower: a patch of one
# pixel throws no resolution away.
#
# **Prediction.** Tokens grow with pile-up until all patches are active; then
# nothing is empty any more, and dropping empty tokens saves nothing.
#
# To count active patches it is enough to number them: a hit in row 63 and column 57
# lies, with patches of 5 × 5, in row 12 and column 11 of the patches, so in number
# 12 · 25 + 11 = 311. The distinct numbers of an image are its tokens.

# %%
def occupied(source, patch, images=40):
    """Mean number of active patches of a jet, cut into patches of a size."""
    grid = Grid(*source.grid.shape, patch, patch)
    hits = source.hits(torch.arange(min(images, len(source))))
    place = hits.row // patch * grid.columns + hits.column // patch
    return float(torch.unique(hits.image * grid.patches + place).numel()
                 / hits.images)

# %% [markdown]
# Beside the jets of the course, forty jets each without pile-up and with 60, 140 and
# 200 collisions on top:

# %%
PATCHES, PILE_UP = (25, 5, 1), (0, 60, 140, 200)
samples = {round(events.PILE_UP): jets}  # of the course
if DATA == "simulated":
    for mean in PILE_UP:
        samples[mean] = JetImages.open(more_jets(
            profile, "test", f"tokens_{mean}", 8 if SMALL else 40,
            pile_up=float(mean)))

# %%
tokens = {mean: {patch: occupied(samples[mean], patch) for patch in PATCHES}
          for mean in sorted(samples)}
experiment.values["tokens"] = {str(mean): {str(p): n for p, n in row.items()}
                               for mean, row in tokens.items()}
most = {patch: (-(-125 // patch))**2 for patch in PATCHES}
Markdown(markdown_table(
    ["pile-up", *(f"patch {p} × {p} (of {most[p]:,})" for p in PATCHES)],
    [[str(mean), *(f"{n:,.0f}" for n in row.values())]
     for mean, row in tokens.items()]))

# %% [markdown]
# The prediction holds for towers: there are only 625 of them, 363 are active already
# in 2012, and 620 with 200 collisions. It fails for pixels, because 15,625 are more
# than any jet can fill: with 200 collisions 5,107 are active and two thirds are still
# empty, in 2012, with 1,355 active ones, nine of ten. So there dropping empty tokens
# always pays, *and* what is left is a large number, a thousand to several thousand.
# The jet itself is the smaller part: without pile-up it has 730 pixels, in 136
# towers.
#
# ## 2. How time and memory grow
#
# Count first. A head of width $d$ compares $N$ queries with $N$ keys, $2N^2d$
# operations (a multiplication and an addition for each of $d$ features), and takes $N$
# weighted means of $N$ values, as many again: $4N^2d$. Linear attention forms the
# $d \times d$ matrix $k^Tv$ first and multiplies each query with it (notebook 03): $4Nd^2$.
# The ratio is $N/d$. With heads of $d = 16$ linear attention should win from 16 tokens
# on, and be a thousand times as fast at 16,384.
#
# Operations are not time, so we measure. One image of $N$ tokens, forward and
# backward, on one core, from 64 tokens to 16,384; width 64, four heads, float32.
# Softmax is the *fused* kernel of PyTorch, which makes its scores piece by piece and
# keeps no $N \times N$ matrix. Mechanisms take turns within a round, and the best
# round counts. Time is that of the processor, so other work on the machine adds
# nothing. `python -m lib bench --scaling` measures the same, with more rounds.
#
# **Prediction.** Written as a power law, $t \propto N^a$, softmax has $a = 2$ and
# the others 1 where the tokens' part dominates; below that a pass costs its
# fixed calls and $a$ is nearer to zero. Doubling $N$ multiplies $t$ by $2^a$, and on
# logarithmic axes a power law is a straight line of slope $a$.
#
# The candidates: `none` mixes nothing and is what remains without attention;
# `relu_linear`, `elu_linear` and `inline` are linear attention with three ways to make
# weights; `cross_covariance` attends between channels; `additive` scores each token
# with one learned vector; `mhla` keeps a $k^Tv$ for each region of the image; `groups`
# is exact attention within regions of 25 patches; `vit3` trains a small network on keys
# and values.

# %%
names = ("none", "softmax", "relu_linear", "cross_covariance", "additive",
         "mhla", "groups", "elu_linear", "inline", "vit3")
sizes = (64, 256, 1024) if SMALL else scaling.TOKENS
file = profile.build_dir / "scaling.json"
file.unlink(missing_ok=True)
threads, began = torch.get_num_threads(), time.time()
points = scaling.measure(file, 1 if SMALL else 2, sizes, names)
torch.set_num_threads(threads)
print(f"{len(points)} points in {time.time() - began:.0f} s")

# %%
def rows_of(name, what):
    """The points of a mechanism, alone or in a block, by rising tokens."""
    return [row for row in points if (row["name"], row["what"]) == (name, what)]

# %% [markdown]
# From the points of one mechanism come four numbers. The exponents of time and memory are
# slopes of a straight line through the logarithms, from 1,024 tokens on. The *crossing*
# is the number of tokens from which on it is faster than softmax, and `faster` says how
# much so at the end.

# %%
def growth(name, what):
    """How time and memory of a mechanism grow, and where it overtakes softmax."""
    rows, softmax = rows_of(name, what), rows_of("softmax", what)
    late = [row for row in rows if row["tokens"] >= (sizes[0] if SMALL else
                                                     scaling.LINEAR_FROM)]
    slope, error = scaling.exponent(late, "seconds")
    memory = (scaling.exponent(late, "bytes")[0]
              if all(row["bytes"] for row in late) else np.nan)
    return {"mean": slope, "low": slope - error, "high": slope + error,
            "memory": memory, "megabytes": rows[-1]["bytes"] / 1e6,
            "crossing": scaling.crossing(rows, softmax),
            "faster": softmax[-1]["seconds"] / rows[-1]["seconds"]}

# %%
grown = {what: {name: growth(name, what) for name in names}
         for what in ("attention", "block")}
experiment.values["scaling"] = {what: {
    name: {k: v for k, v in row.items() if np.isfinite(v)}
    for name, row in found.items()} for what, found in grown.items()}
experiment.curves["points"] = points

# %% [markdown]
# First the attention alone, then a whole block, with its projections, its convolution
# and its MLP:

# %%
for what, found in grown.items():
    display(Markdown(markdown_table(
        [what, "time grows as N to the", "memory as N to the",
         f"MB at {sizes[-1]:,}", f"times as fast as softmax at {sizes[-1]:,}",
         "faster from"],
        [[name, row, f"{row['memory']:.2f}", f"{row['megabytes']:.0f}",
          f"{row['faster']:.0f}", f"{row['crossing']:,.0f} tokens"
          if np.isfinite(row["crossing"]) else "–"]
         for name, row in found.items()])))

# %% tags=["figure"]
marks = {f"patch {p}": (tokens[min(tokens)][p], tokens[max(tokens)][p])
         for p in PATCHES}
curves = {what: {name: rows_of(name, what) for name in names[:7]}
          for what in ("attention", "block")}
plots.save(drawings.comparison.growth(curves, marks), "11_scaling", profile);

# %% [markdown]
# *Figure: time of one pass forward and backward against the number of tokens,
# both logarithmic, of the attention alone (left) and of a whole block (right). Grey
# bands: tokens of a jet with patches of 25, 5 and 1 pixels, from the lowest to the
# highest pile-up of the table.*
#
# The prediction holds for the slopes: two for softmax, about one for the others, and
# flat lines at the left, where the calls cost more than the tokens. The count of
# operations fails for the crossing:

# %%
linear = grown["attention"]["relu_linear"]
d = scaling.WIDTH // scaling.HEADS
print(f"ReLU-linear overtakes softmax at {d} tokens by operations, at "
      f"{linear['crossing']:.0f} measured;")
print(f"at {sizes[-1]:,} tokens it is {sizes[-1] / d:,.0f} times as fast by "
      f"operations, {linear['faster']:,.0f} times measured")

# %% [markdown]
# The count is wrong by roughly a factor of ten at both places, and for one reason: a
# linear mechanism does its few operations slowly. It reads and writes each token
# several times for little arithmetic, and the matrices of 16 × 16 are too small to keep
# a core busy, while the fused kernel does what cores do best. Operations tell the
# slope, a clock tells the crossing.
#
# Most linear mechanisms overtake the fused softmax at a few hundred
# tokens or fewer, yet in a block the gain is diluted: with as many tokens as a jet
# of 2012 has, projections, MLP and convolution cost more than either
# attention. This, too, can be counted. Projections to queries, keys, values and output
# take $8D^2$ operations a token, an MLP four times as wide $16D^2$, softmax
# $4ND$: at $D = 64$ they are equal for $N = 6D = 384$.

# %%
def share(name, count):
    """Part of a block's time that its attention takes."""
    one, block = (next(row["seconds"] for row in rows_of(name, what)
                       if row["tokens"] == count)
                  for what in ("attention", "block"))
    return one / block


equal = (8 + 4 * ViTConfig.mlp_ratio) / 4 * scaling.WIDTH  # tokens
for count in sizes[::2]:
    print(f"{count:6,} tokens: of a block's time softmax takes "
          f"{share('softmax', count):.0%} ({count / (count + equal):.0%} by "
          f"operations), ReLU-linear {share('relu_linear', count):.0%}")

# %% [markdown]
# Read the two columns of times from top to bottom. Softmax goes from a small part of the
# block to nearly all of it; linear attention keeps its part, because all parts of its
# block grow alike. A mechanism that is a hundred times as fast makes a block faster by
# what attention took, and no more. (With `none` in place of attention the block would
# be as fast as it gets.)
#
# ## 3. Pixels as tokens
#
# With patches of one pixel a token is a hit, nothing is summed away, and a jet of
# 2012 has about a thousand of them, of 15,625 places. Can our model be trained on
# that with two cores? Its local convolution goes from token to token there, for a
# dense grid would be empty for nine places of ten.
#
# **Prediction.** Four times as many tokens, through blocks that grow linearly: a quarter
# of the rate. We time three training steps on either kind of patch.

# %%
def training_rate(patch, width=64, batch=8, steps=3):
    """Tokens a jet, and jets a second of training steps, with patches of a size."""
    source = jets.subset(train[:4 * batch])
    source.attributes = {**source.attributes, "patch": (patch, patch)}
    made = recipe("scratch", profile).but(
        grid=None, model={"tokens": "active", "dim": width})
    objective = build(made, source, torch.arange(len(source))).train()
    some = source.batch(torch.arange(batch), "active")
    seconds = []
    for _ in range(steps + 1):  # the first warms up
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            objective.loss(some)[0].backward()
        seconds.append(time.perf_counter() - start)
    return some.tokens.valid.sum(1).float().mean().item(), batch / min(seconds[1:])

# %%
rates = {patch: training_rate(patch, 16 if SMALL else 64, 2 if SMALL else 8)
         for patch in (5, 1)}
experiment.values["rates"] = {str(patch): {"tokens": n, "jets_s": rate}
                              for patch, (n, rate) in rates.items()}
for patch, (n, rate) in rates.items():
    print(f"patch {patch}: {n:,.0f} tokens a jet, {rate:.0f} jets/s in training; "
          f"6,000 jets seen 8 times: {6000 * 8 / rate / 60:.0f} min")
(fewer, fast), (more, slow) = rates.values()
print(f"{more / fewer:.1f} times as many tokens, {fast / slow:.1f} times as slow")

# %% [markdown]
# The prediction is too kind: the rate falls by more than the tokens grow. The likely
# reason is the local convolution, which has to look up the neighbours of each token
# where on a full grid it slides. Even so a model on single pixels trains within an
# hour on two cores. With softmax its scores would take most of the step, as the shares
# above say.
#
# ## 4. What we saw
#
# - **At towers** (5 × 5 pixels, at most 625 tokens) dropping empty tokens is the
#   larger saving: from 625 to 219 tokens, a factor of three on every part of
#   a block. The crossing with softmax lies at a few hundred tokens or below, right
#   where a jet is, so a linear mechanism saves part of what is left; how much in a
#   real training step, the price list of notebook 08 says.
# - **At pixels** (about a thousand tokens, several thousand with the pile-up to
#   come) both are needed: most places are empty, and softmax on those that
#   are left would dominate the step.
# - **Memory** does not decide: the fused softmax holds no matrix either, and grows
#   linearly as the others do.
# - **Operations** give the exponents and not the crossings.
#
# With what limits? One machine, one core, one width: a wider model has dearer
# linear maps and moves each crossing to the right, a GPU has a faster softmax
# kernel and does so too. The exponents are fitted to five points each, and their
# intervals are those of a straight line, so what caches do to the largest
# sizes widens them.
#
# ## Exercises
#
# **Quick.** How much faster is a block with linear attention at
# 200 pile-up collisions with patches of one pixel? Read it off the figure first.
#
# **Medium.** Measure width 256 instead of 64 (`scaling.WIDTH`). Where does the
# crossing of the block move to, and why?
#
# **Project.** Train our model on pixel tokens. Does the resolution
# that the patches throw away help?
#
# <details><summary>Solutions</summary>
#
# *Pixels.* At the right end of the band of patch 1, in the right panel; between two
# measured sizes a straight line of the logarithms will do:
#
# ```python
# def seconds(name, count):
#     n, t = np.log([[p["tokens"], p["seconds"]] for p in rows_of(name, "block")]).T
#     return np.exp(np.interp(np.log(count), n, t))
#
# count = tokens[max(tokens)][1]
# faster = seconds("softmax", count) / seconds("relu_linear", count)
# print(f"{count:,.0f} tokens: {faster:.0f} times as fast")
# ```
#
# *Width.* Set `scaling.WIDTH = 256` before `measure`, with a new file. The linear
# maps grow as the square of the width, attention by softmax only in proportion:
# $N = 6D$ of section 2 is now 1,536, and the crossing of the block moves to the right,
# too, because the heads are four times as wide.
#
# *Project.* Give the jets the attribute `patch` as in `training_rate`, then
# `runs.train` with that recipe; the cell above prints how long 6,000 jets seen 8 times
# take.
# </details>
#
# ## Recap
#
# | term | meaning |
# |---|---|
# | exponent | the slope of log time against log tokens |
# | crossing | number of tokens from which on one is faster than the other |
# | pile-up | other collisions in the same crossing of the beams |
# | fused kernel | attention in one piece, which keeps no matrix of scores |
# | occupancy | share of the places that hold something |
#
# ## References
#
# - A. Katharopoulos et al., *Transformers are RNNs*, arXiv:2006.16236.
# - T. Dao et al., *FlashAttention*, arXiv:2205.14135 (the fused kernel).
# - C. Zheng, *L2ViT*, arXiv:2501.16182; A. El-Nouby et al., *XCiT*,
#   arXiv:2106.09681.

# %%
print(experiment.save().name)
