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
# **You need** notebook 03 (the mechanisms); about 2 minutes on two cores.

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

import drawings.comparison
from collider import events
from collider.course import course_jets, more_jets
from course import scaling
from lib import profiles
from lib.data.images import JetImages
from lib.data.tokens import Grid, tokenize
from lib.report import plots
from lib.report.numbers import markdown_table
from lib.report.results import Experiment
from lib.training.recipe import build, recipe

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
# tower and our patch. Nearly half of a jet's active patches hold a few hits of the
# pixel layers and nothing else, the floor that pile-up leaves. *Two-scale* tokens
# keep the patches with a track or calorimeter energy and sum the rest into coarse
# tokens of 5 × 5 patches. Our model reads these.

# %%
index = train[:1]
one = tokenize(jets.hits(index), jets.grid)
two = tokenize(jets.hits(index), jets.grid, keep="two_scale")
kind = torch.zeros(jets.grid.patches, dtype=torch.long)
kind[one.position[one.valid]] = 1
where = two.position[two.valid]
fine = where < jets.grid.patches
kind[where[fine]] = 2
coarse = torch.zeros(jets.grid.coarse, dtype=torch.bool)
coarse.view(-1)[where[~fine] - jets.grid.patches] = True
torch.testing.assert_close(one.features.sum(), two.features.sum())
some = jets.hits(train[:200])
count = {keep: tokenize(some, jets.grid, keep).valid.sum(1).float().mean()
         for keep in ("all", "active", "two_scale")}
print({k: f"{v:.0f} tokens a jet" for k, v in count.items()})
assert count["two_scale"] < count["active"] < count["all"]
experiment.values["two_scales"] = {k: float(v) for k, v in count.items()}

# %% tags=["figure"]
fig = drawings.comparison.scales(
    kind.view(jets.grid.rows, jets.grid.columns), coarse)
plots.save(fig, "11_two_scales", profile);

# %% [markdown]
# *Figure: the patches of one training jet. Left, dark: patches with a track or
# calorimeter energy; light: patches with pixel hits only. Right: the light
# ones summed into 25 coarse tokens (grey lines).*
#
# No energy is lost, as the first cell checks, but resolution is: within a
# coarse token a hit keeps only the patch that it came from. Notebook 12 finds
# that it costs no AUC.
#
# ### Patches of other sizes, and more pile-up
#
# In 2012 a collision of interest came with 21 others (in our simulation 25, which
# notebook 01 fits); at the high-luminosity LHC it will be 140 to 200. And nothing forces a patch to be a tower: a patch of one
# pixel throws no resolution away.
#
# **Prediction.** Tokens grow with pile-up until all patches are active; then
# nothing is empty any more, and dropping empty tokens saves nothing.

# %%
PATCHES, PILE_UP = (25, 5, 1), (0, 60, 140, 200)


def occupied(source, patch, images=40):
    """Mean number of active patches of a jet, cut into patches of a size."""
    grid = Grid(*source.grid.shape, patch, patch)
    hits = source.hits(torch.arange(min(images, len(source))))
    place = hits.row // patch * grid.columns + hits.column // patch
    return float(torch.unique(hits.image * grid.patches + place).numel()
                 / hits.images)


samples = {round(events.PILE_UP): jets}  # of the course
if DATA == "simulated":
    for mean in PILE_UP:
        samples[mean] = JetImages.open(more_jets(
            profile, "test", f"tokens_{mean}", 8 if SMALL else 40,
            pile_up=float(mean)))
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
# The prediction holds for towers: there are only 625 of them, more than half are
# active already in 2012, and nearly all with 200 collisions. It fails for pixels,
# because 15,625 are more than any jet can fill: with 200 collisions two thirds are
# still empty, in 2012 nine of ten. So there dropping empty tokens always pays,
# *and* what is left is a large number, a thousand to several thousand.
#
# ## 2. How time and memory grow
#
# One image of $N$ tokens, forward and backward, on one core, from 64 tokens to
# 16,384; width 64, four heads, float32. Softmax is the fused kernel of PyTorch,
# which keeps no $N \times N$ matrix. Mechanisms take turns within a round, and the
# best round counts. Time is that of the processor, so other work on the machine
# adds nothing. `python -m lib bench --scaling` measures the same, with more rounds.
#
# **Prediction.** Written as a power law, $t \propto N^a$, softmax has $a = 2$ and
# the others 1 where the tokens' part dominates; below that a pass costs its
# fixed calls and $a$ is nearer to zero.

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


def fitted(what):
    """Exponents from 1,024 tokens on, and the tokens of the crossing."""
    found, from_ = {}, min(scaling.LINEAR_FROM, sizes[0] if SMALL else 1024)
    for name in names:
        rows = rows_of(name, what)
        late = [row for row in rows if row["tokens"] >= from_]
        slope, error = scaling.exponent(late, "seconds")
        last = rows_of("softmax", what)[-1]["seconds"] / rows[-1]["seconds"]
        found[name] = {
            "mean": slope, "low": slope - error, "high": slope + error,
            "memory": scaling.exponent(late, "bytes")[0]
            if all(row["bytes"] for row in late) else np.nan,
            "crossing": scaling.crossing(rows, rows_of("softmax", what)),
            "faster": last, "megabytes": rows[-1]["bytes"] / 1e6}
    return found


grown = {what: fitted(what) for what in ("attention", "block")}
experiment.values["scaling"] = {what: {
    name: {k: v for k, v in row.items() if np.isfinite(v)}
    for name, row in found.items()} for what, found in grown.items()}
experiment.curves["points"] = points

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
# The prediction holds for the slopes. What it leaves out is where the lines cross.
# Alone, most linear mechanisms overtake the fused softmax at a few hundred
# tokens or fewer, yet in a block the gain is diluted: with as many tokens as a jet
# of 2012 has, projections, MLP and convolution cost more than either
# attention.

# %%
def share(name, count):
    """Part of a block's time that its attention takes."""
    one, block = (next(row["seconds"] for row in rows_of(name, what)
                       if row["tokens"] == count)
                  for what in ("attention", "block"))
    return one / block


for count in sizes[::2]:
    print(f"{count:6,} tokens: of a block's time softmax takes "
          f"{share('softmax', count):.0%}, ReLU-linear "
          f"{share('relu_linear', count):.0%}")

# %% [markdown]
# ## 3. Pixels as tokens
#
# With patches of one pixel a token is a hit, nothing is summed away, and a jet of
# 2012 has about a thousand of them, of 15,625 places. Can our model be trained on
# that with two cores? Its local convolution goes from token to token there, for a
# dense grid would be empty for nine places of ten.

# %%
def training_rate(patch, width=64, batch=8, steps=3):
    """Jets a second of training steps on patches of a size."""
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


rates = {patch: training_rate(patch, 16 if SMALL else 64, 2 if SMALL else 8)
         for patch in (5, 1)}
experiment.values["rates"] = {str(patch): {"tokens": n, "jets_s": rate}
                              for patch, (n, rate) in rates.items()}
for patch, (n, rate) in rates.items():
    print(f"patch {patch}: {n:,.0f} tokens a jet, {rate:.0f} jets/s in training")

# %% [markdown]
# ## 4. What we saw
#
# - **At towers** (5 × 5 pixels, at most 625 tokens) dropping empty tokens is the
#   larger saving: from 625 to some 220 tokens, a factor of three on every part of
#   a block. The crossing with softmax lies at two to four hundred tokens, right
#   where a jet is, so a linear mechanism saves part of what is left; how much in a
#   real training step, the price list of notebook 08 says.
# - **At pixels** (about a thousand tokens, several thousand with the pile-up to
#   come) both are needed: most places are empty, and softmax on those that
#   are left would dominate the step.
# - **Memory** does not decide: the fused softmax holds no matrix either, and grows
#   linearly as the others do.
#
# With what limits? One machine, one core, one width: a wider model has dearer
# linear maps and moves each crossing to the right, a GPU has a faster softmax
# kernel and does so too. The exponents are fitted to five points each, and their
# intervals are those of a straight line, so what caches do to the largest
# sizes widens them.
#
# ## Exercises
#
# **Quick.** Read off the figure how much faster a block with linear attention is at
# 200 pile-up collisions with patches of one pixel.
#
# **Medium.** Measure width 256 instead of 64 (`scaling.WIDTH`). Where does the
# crossing of the block move to, and why?
#
# **Project.** Train our model on pixel tokens for an hour. Does the resolution
# that the patches throw away help?
#
# <details><summary>Solutions</summary>
#
# *Pixels.* The right end of the band of patch 1, in the right panel: the ratio of
# the two curves there, about ten or more.
#
# *Width.* Set `scaling.WIDTH = 256` before `measure`, with a new file. The linear
# maps grow as the square of the width, attention by softmax only in proportion:
# in a block the crossing moves to the right, by about four.
#
# *Project.* Give the jets the attribute `patch` as in `training_rate`, then
# `runs.train` with that recipe; 6,000 jets seen 8 times take about an hour.
# </details>
#
# ## Recap
#
# | term | meaning |
# |---|---|
# | exponent | the slope of log time against log tokens |
# | crossing | number of tokens from which on one is faster than the other |
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
