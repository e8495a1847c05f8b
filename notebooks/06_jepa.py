# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#     cell_metadata_filter: tags,-all
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 06 · Is it enough to know what a hidden patch would mean?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/06_jepa.ipynb)
#
# A masked autoencoder (notebook 05) paints the hidden patches of a jet, pixel by
# pixel. Most of what it is asked to paint is chance: which crystal a photon hit,
# how noise fluctuated. A *joint-embedding predictive architecture* (JEPA) asks
# for less and, one hopes, for the right thing: not the pixels of a hidden patch
# but its *features*, as another encoder sees them in the whole jet. The price is
# a trap. Nobody has fixed what the features are, so the easiest way to make them
# predictable is to make them all alike. In one sentence: *a prediction of
# features is worth something only if the features are kept from collapsing, and
# whether it saves labels has to be measured at equal cost.*
#
# A comparison makes the difference plain. Asked for a hidden word in "the cat sat
# on the …", a painter of pixels would have to draw each letter in the right
# typeface. A predictor of features has to say no more than "something flat, near
# the floor". For jets the typeface is the noise of the detector, and the meaning
# might be "the second half of a narrow cluster".
#
# **You will** mask jets in three ways, write the step by hand, provoke a
# collapse and recognise it, judge features with three probes beside random
# encoders, weigh fine-tuning against training from scratch with few labels, and
# time linear attention on thousands of active cells.
#
# **You need** notebooks 03 (linear attention), 04 (collapse, probes) and 05
# (masks); about five minutes on two cores, and three more where the jets have yet
# to be simulated. The grid of seeds and variants takes about an hour of one core;
# `GRIDS = True` runs it.

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
import dataclasses
import time

import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from sklearn.decomposition import PCA, MiniBatchDictionaryLearning
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.manifold import TSNE
from torch import nn

# %%
from collider.closure import NEAR, closure_quark_gluon
from collider.course import course_jets
from course import ledger, weights
from lib import profiles
from lib.cms import PIXEL
from lib.data.augment import Noise
from lib.data.tokens import Grid, TokenBatch, by_patch, tokenize
from lib.data.views import transformed
from lib.evaluation import metrics, probes
from lib.evaluation.metrics import Predictions
from lib.models.vit import JetViT, ViTConfig
from lib.training import masked, runs
from lib.training.jepa import sigreg
from lib.training.recipe import build, changed, recipe
from lib.training.split import indices

# %%
import drawings.finetune
import drawings.jepa
from lib.report import plots, results
from lib.report.numbers import markdown_table, verdict, with_interval
from lib.report.results import Experiment

# %%
profile = profiles.get(PROFILE, DATA)
SMALL = profile.name == "smoke"
USES = ["sample.quark_gluon", "objective.jepa", "objective.mae",
        "objective.simclr", "objective.supervised", "views", "probes"]
experiment = Experiment("06_jepa", profile, USES)
plots.style()
print(f"PyTorch {torch.__version__}, profile {profile.tag}")

# %% [markdown]
# ## 1. The idea, and a published system that has it
#
# Two encoders look at one jet. The **context encoder** sees only the patches
# that are left in view. The **target encoder** sees the whole jet, and gives
# every patch a vector. A small **predictor** gets the context encoder's vectors
# and the places of the hidden patches, and has to tell the target vectors there.
# What the target encoder does not encode, such as noise that nothing else in
# the jet knows of, need not be told.
#
# *Encoder* is here the whole JetViT of notebook 03 without its heads: tokens in,
# one vector of $D=64$ numbers a token out. The target encoder is never trained. It
# is a moving average of the context encoder: after each update its weights move a
# small step towards those of the other. It therefore knows what the context
# encoder knew some hundred updates ago, and changes slowly enough to be aimed at.
#
# The project summary that this notebook follows (R4) builds a *foundation model*
# for quark and gluon jets on this idea, with linear attention ("FastAttention")
# inside. Its flow, from its own diagram:

# %% tags=["figure"]
plots.save(drawings.jepa.flow(), "06_flow", profile);

# %% [markdown]
# *Figure: R4's flow. A jet is cut into patches and most are hidden; the context
# encoder sees the rest, the target encoder, a moving average of it, the whole;
# the predictor tells the features of the hidden patches, and the loss compares.
# Afterwards the context encoder's pooled vector serves the classification.*
#
# R4 claims: 75.53 % accuracy; a loss from 0.8 to 0.3; manifolds of quarks and
# gluons that separate without labels; resistance to noise; and, with JEPA and
# FastAttention together, "+15 % AUC" over a plain transformer where multiplicity
# is high. It gives no intervals, and neither the mask nor the attention is
# defined. So we take its words, build the parts, and measure each claim. The last
# cell of the notebook puts every claim beside what was found.
#
# ## 2. Quarks and gluons
#
# A gluon carries two colours, a quark one. So a gluon radiates about twice as
# much ($C_A/C_F = 9/4$ to first order): its jet holds more particles, is wider,
# and shares its momentum among more of them. Our jets are simulated like the
# public set: three channels (tracks, ECAL, HCAL) of 125 × 125 pixels, energies
# in GeV, $p_T$ around 100 GeV, label 1 for quarks. (*Colour* is the charge of the
# strong force; $p_T$ is the momentum transverse to the beam, and a *track* the
# bent path of one charged particle.)
#
# This is a harder task than top against QCD. A top jet has three hard prongs, which
# no gluon imitates often. Quark and gluon jets are both sprays around a single
# axis, and differ in how many particles there are and how the momentum is
# shared: two distributions that overlap over most of their range.

# %%
jets, train, held, test_jets, test, hold_out = course_jets(
    profile, "quark_gluon")
grid = jets.grid

# %%
assert grid == Grid(3, 125, 125, 5, 5) and jets.encoding == "gev"
active = jets.batch(train[:500], "active").tokens.valid.sum(1).float()
print(f"{len(train):,} jets to train on, {len(held):,} to validate, "
      f"{len(test):,} to test; {active.mean():.0f} of {grid.patches} patches "
      "hold something")

# %% [markdown]
# About a tenth of the patches is active. At 100 GeV a jet has fewer particles than
# at 500, so these lists of tokens are short, and section 10 will have to
# overlay many jets before the length of a list matters.

# %% tags=["figure"]
axes = drawings.jepa.pair(jets, train)
plots.save(axes[0, 0], "06_jets", profile);

# %% [markdown]
# *Figure: a quark jet and a gluon jet, tracks and calorimeters (GeV, logarithmic
# colours). One of each proves nothing: the classes overlap widely.*
#
# How like the public set are they? Its shares of zeros are known, the ranges of
# its pixels, and how well networks tell its classes apart. Two thresholds of the
# calorimeters were **fitted** to two rows; no fit has seen the others.

# %% tags=["figure"]
rows = experiment.values["closure"] = closure_quark_gluon(jets)
display(Markdown(drawings.jepa.closure(rows)))

# %% [markdown]
# *Table: ranges are medians over jets, with the middle 95 % of the jets: the
# public ones were printed without saying of how many jets. The last row is a
# bound: multiplicity alone must not beat the published networks.*
#
# The table is a warning as much as a test. Rows that say "no" are places where
# our detector is simpler than that of CMS: its calorimeters have less noise below
# zero, and a hadronic pixel is larger. What a network could learn from exactly
# such details is not claimed to hold for the public jets. What follows compares
# methods on *our* jets, where all of them have the same chance.
#
# **The rival.** Four numbers are the textbook's: the multiplicity of tracks, their
# width $\sum p_T r/\sum p_T$, the sharing $p_TD=\sqrt{\sum p_T^2}/\sum p_T$ and the
# jet mass. Tracks count within $R = 0.4$ of the axis, the radius of these jets: the
# image is wider, and what lies outside is pile-up for the most part, which would
# hide the difference between quarks and gluons. Boosted trees on the four are what
# a new method has to beat.
#
# In numbers, for three tracks of 50, 30 and 20 GeV at distances $r$ of 0.01, 0.05
# and 0.20 from the axis: the multiplicity is 3, the width
# $(0.5+1.5+4)/100=0.06$, and
# $p_TD=\sqrt{2500+900+400}/100=0.62$. Had one track carried everything, $p_TD$
# would be 1; a hundred equal tracks would have 0.1. Gluons, with more and softer
# tracks, have the smaller values.
#
# The function works on the list of hits: `bincount` adds up, jet by jet, a weight
# for each track.

# %%
def four(source, index):
    """Multiplicity, width, pTD and mass of jets: (n, 4)."""
    hits = source.hits(index)
    away = torch.hypot(hits.row - 62.0, hits.column - 62.0) * PIXEL
    near = (hits.channel == 0) & (away < NEAR)
    track, radius = hits.select(near), away[near]
    count, energy, width, square = (
        torch.bincount(track.image, w, minlength=hits.images)
        for w in (None, track.value, track.value * radius, track.value**2))
    energy = energy.clamp(min=1e-6)
    return torch.stack([count, width / energy, square.sqrt() / energy,
                        source.mass[index]], 1).numpy()


# %% [markdown]
# The trees are shallow (at most eight leaves) and learn slowly; notebook 07 says
# why that suits four numbers and some thousand jets. They get all the labels of
# the training jets.

# %%
y = test_jets.labels[test].numpy()
trees = HistGradientBoostingClassifier(
    max_iter=150, learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=30,
    random_state=0).fit(four(jets, train), jets.labels[train].numpy())
x = four(test_jets, test)

# %% [markdown]
# Each of the four is also judged alone, turned round where quarks have the smaller
# values. An AUC is the chance that a quark jet gets a higher score than a gluon
# jet: one half for a coin.

# %%
experiment.add_run("trees", Predictions.of(
    test_jets, test, trees.predict_proba(x)[:, 1]), labels=len(train))
for name, column in zip(("multiplicity", "width", "pTD", "mass"), x.T):
    sign = -1 if name != "pTD" else 1  # quarks: fewer, narrower, lighter
    alone = metrics.auc(y, sign * column)
    experiment.values.setdefault("alone", {})[name] = alone
    print(f"{name:13s} AUC {alone:.3f}")
print("trees on all four:", with_interval(experiment.summary()["trees"]["auc"]))

# %% [markdown]
# The sign of the labels is checked on the way: label 1 must be the class with
# *fewer* tracks, or the file is read the wrong way round.
#
# Then the recipes. Everything below is the course's own recipe with two changes: patches of one
# scale (the active ones), because coarse tokens would blur what is hidden, and no
# mass head, because the mass of a quark jet is no property of a quark. `arm` is the
# one place where such a recipe is made.

# %%
assert experiment.values["alone"]["multiplicity"] > 0.5
MODEL = {"tokens": "active", "mass_head": False}
LENGTH = {"laptop": {"updates": 400, "every": 100}}  # of a pretraining


def arm(name, seed=profile.seeds[0], **changes):
    """A recipe of the course, on patches of one scale and classes alone."""
    model = {**MODEL, **changes.pop("model", {})}
    chosen = recipe(name, profile, seed, changes.pop("start", None)).but(
        hold_out=hold_out, model=model)
    if name in ("jepa", "mae", "simclr"):
        chosen = chosen.but(fit=LENGTH.get(profile.name, {}))
    return chosen.but(**changes)


# %%
seed, TEST = profile.seeds[0], None if hold_out else test_jets
assert set(held.tolist()) == set(indices(arm("jepa"), jets)[1].tolist())

# %% [markdown]
# Pretraining reads the *training* jets without their labels. The validation jets
# judge every choice; the test jets are for the tables of sections 7 to 10. The
# assertion makes sure that no validation jet is in the pretraining: an encoder
# that has seen a jet, even without its label, may know it again.
#
# ## 3. What is hidden
#
# Of the active patches of each jet the same share is hidden, 60 %, however many
# there are: nothing is cut to the smallest jet of a batch. *Which* ones is a
# choice. **Random**, R4's word, leaves neighbours of every hidden patch in view,
# and a neighbour tells a lot. **Blocks** hide what lies nearest to four centres,
# so that a whole region is gone (I-JEPA, arXiv:2301.08243). With **energy** the
# centres are drawn in proportion to the patches' energy, and the core of the jet
# is hidden more often than its rim.
#
# Worked out for a jet of 65 active patches: 39 are hidden and 26 stay in view. With
# the random mask a hidden patch in a cluster of nine has on average three of its
# eight neighbours left, so its features can nearly be copied from next door. A
# task that copying solves teaches nothing else. That is the reason for blocks.

# %%
def objective(seed=seed, **loss):
    """The JEPA of a seed before its first update."""
    torch.manual_seed(seed)
    return build(arm("jepa", seed, loss=loss), jets, train).eval()


# %% [markdown]
# The three masks on the same 32 jets. Two properties are asserted: nothing is
# hidden that was not there, and each jet loses its own 60 %.

# %%
some = jets.batch(held[:32], "active").tokens
maps = {}
for mask in ("random", "block", "energy"):
    torch.manual_seed(1)
    pool, hidden = objective(mask=mask).hide(some)  # (B, 625) bool each
    assert not (hidden & ~pool).any()
    assert torch.equal(hidden.sum(1), (0.6 * pool.sum(1)).round().long())
    maps[mask] = (pool.int() + (hidden & pool).int())[0].view(25, 25)

# %% tags=["figure"]
axes = plots.grid_map(maps, kinds={"empty": "#ffffff", "in view": plots.CYCLE[0],
                                   "hidden": "#a6cbe3"})
plots.save(axes[0, 0], "06_masks", profile);

# %% [markdown]
# *Figure: the patches of one jet under the three masks; each hides 60 % of those
# that hold something.*
#
# Under the random mask, dark and light are mixed like salt and pepper; under the
# other two the hidden ones lie together. The course's recipe uses blocks; a grid at
# the end can compare all three.
#
# The convolutions of the blocks stay alive: they work on the grid of patches and
# find a learned *mask token* where a patch was hidden (notebook 05, section 5,
# shows what becomes of convolutions that are skipped).
#
# ## 4. The step, by hand
#
# Let $x$ be the tokens of a jet, $H$ the hidden ones, $f_\theta$ the context
# encoder, $f_{\bar\theta}$ the target encoder and $g$ the predictor. Each target
# is normalised over its $D$ numbers, as in I-JEPA, and then each of the $D$
# numbers over the tokens of the batch: what all patches share is not worth
# telling. With these $\hat y$ the loss is
#
# $$ L=\frac{1}{|H|\,D}\sum_{i\in H}\sum_{d}
#      s\bigl(g(f_\theta(x_{\setminus H}))_{id}-\hat y_{id}\bigr),\qquad
#    y=f_{\bar\theta}(x), $$
#
# with $s(e)=e^2/2$ for $|e|<1$ and $|e|-1/2$ beyond. The backslash in
# $x_{\setminus H}$ says "without the hidden ones". The function $s$ is called
# *smooth L1*: small errors are squared, large ones count by their size, so that one
# odd patch cannot pull the whole batch. After each update the
# target follows, $\bar\theta\leftarrow m\bar\theta+(1-m)\theta$, with $m$ rising
# from 0.996 to 1. There is no gradient into $\bar\theta$: the target cannot make
# itself easy.
#
# **In numbers.** Say $D=3$ and the target encoder gives a hidden patch
# $y=(2, 4, 9)$. Its mean is 5 and its standard deviation 2.94, so
# $\hat y=(-1.02, -0.34, 1.36)$ after the first step. A predictor that says
# $(0, 0, 1)$ is wrong by 1.02, 0.34 and 0.36; the first error is beyond 1 and
# counts $1.02-0.5$, the others half their squares: 0.52, 0.06, 0.07, on average
# 0.21. A predictor that says nothing, $(0, 0, 0)$, pays 0.48.

# %%
print(F.layer_norm(torch.tensor([2.0, 4, 9]), (3,)), *(
    round(F.smooth_l1_loss(torch.tensor(told), F.layer_norm(
        torch.tensor([2.0, 4, 9]), (3,))).item(), 2)
    for told in ([0.0, 0, 1], [0.0, 0, 0])))

# %% [markdown]
# The 0.48 is no accident: the squares of a normalised vector average to one, so that
# half of them would be 0.5, and the gentler slope beyond 1 takes off a little.
# Every loss of this notebook has to be read against such a value.
#
# Now the whole step, on 32 jets. Three things need care where jets differ in
# length: what is in view is packed anew, so that no jet is cut to the shortest;
# the predictor is asked at all active places, those in view included, and the
# loss reads only the hidden ones; and a target has to be looked up by its
# *place*, because its position in the packed list has changed.

# %%
def step_by_hand(jepa, tokens):
    """The loss of a batch, line by line."""
    pool, hidden = jepa.hide(tokens)                      # (B, P)
    seen = masked.in_view(tokens, hidden)                 # packed
    fill = hidden[..., None] * jepa.mask_token            # (B, P, D)
    x = jepa.model.encode(seen, fill=fill)                # (B, K', D)
    told, place, valid = jepa.predictor(x, seen, pool)    # (B, N, D)
    with torch.no_grad():
        y = jepa.target.encode(tokens)                    # (B, K, D)
    y = F.layer_norm(y, y.shape[-1:])
    rows = y[tokens.valid]
    y = (y - rows.mean(0)) / (rows.var(0, correction=0) + 1e-3).sqrt()
    jet, row = (hidden.gather(1, place) & valid).nonzero(as_tuple=True)
    at = (tokens.position[jet] == place[jet, row, None]) & tokens.valid[jet]
    e = told[jet, row] - y[jet, at.int().argmax(1)]
    return torch.where(e.abs() < 1, e**2 / 2, e.abs() - 0.5).mean()


# %% [markdown]
# The proof is in the comparison: with the same random numbers for the mask, the
# library's objective has to give the same loss, and no gradient may reach the
# target encoder.

# %%
jepa = objective()
torch.manual_seed(2)
by_hand = step_by_hand(jepa, some)
torch.manual_seed(2)
loss, parts = jepa.loss(jets.batch(held[:32], "active"))
torch.testing.assert_close(by_hand, loss)
loss.backward()
assert all(p.grad is None for p in jepa.target.parameters())
print(f"untrained: loss {loss.item():.3f}; telling every hidden patch the "
      f"mean target would cost {parts['mean'].item():.3f}")

# %% [markdown]
# The second number is the trivial answer, and no loss below stands without it. The
# untrained predictor is a little worse than trivial, because it says something,
# and what it says has nothing to do with the jet.
#
# One number by hand for the average: a weight that jumps from 0 to 1 and stays
# there is followed by $1-m^n$ after $n$ updates. With $m=0.996$ half of the way
# takes $n=\ln 0.5/\ln 0.996=173$ updates; the target is a slow copy.

# %%
with torch.no_grad():
    start = jepa.target.norm.weight[0].item()
    jepa.model.norm.weight[0] = start + 1
    for _ in range(173):
        jepa.after_update(0.0)  # m as at the start
followed = jepa.target.norm.weight[0].item() - start
print(f"after 173 updates the target has gone {followed:.3f} of the way")
assert abs(followed - (1 - 0.996**173)) < 1e-3

# %% [markdown]
# ## 5. Collapse, provoked and seen
#
# Take the brakes off: let the context encoder be its own target, *with* gradient,
# and normalise each target by itself only. Then the loss has a perfect solution
# that knows nothing, all features alike. Between the two stands I-JEPA's recipe:
# moving average and stopped gradient, but the layer norm alone.
#
# > **Prediction.** Within a hundred updates the loss of `own` falls far below
# > the others, and with it the loss of the mean target: a small loss because
# > there is nothing left to tell. The effective rank of the jets' features falls
# > and their cosine goes towards one. A linear probe, which rescales every
# > direction, may notice last.
#
# Four quantities watch the features of the validation jets. The *deviation* is
# their spread from jet to jet, averaged over the directions of the pooled vector
# (176: mean and maximum of the tokens, and an energy-weighted mean for each
# channel); zero means that all jets look alike. The *mean cosine* is that of the
# angle between two jets' vectors; one means the same direction. The *effective
# rank* is the number of directions that share the spread: with spreads in
# proportion 1 : 1 : 0 it is 2, and with 10 : 1 : 0 it is 1.4. The *probe* is a
# logistic regression on the vectors, with the labels of 1,000 jets.

# %%
full = arm("jepa").fit.updates
short = max(2, full // 4)
monitor = runs.probe(profile, jets, 1_000 if not SMALL else 100)
untrained = monitor(objective())


# %% [markdown]
# Every pretraining goes through the cache of runs, with the monitor looking on.

# %%
def pretrained(name, chosen):
    """A pretraining through the cache, watched."""
    return runs.train(f"06-{name}-{chosen.seed}", chosen, jets, TEST,
                      runs=profile.runs_dir, monitor=monitor,
                      log=lambda line: None)


# %% [markdown]
# Three pretrainings: two brief ones without brakes or with half of them, a quarter
# as long, and the recipe itself.

# %%
brief = {"updates": short, "every": max(1, short // 4)}
OWN = {"target": "own", "norm": "layer"}
brakes_off = pretrained("own", arm("jepa", loss=OWN, fit=brief))
layer = pretrained("layer", arm("jepa", loss={"norm": "layer"}, fit=brief))
run = pretrained("jepa", arm("jepa"))
history = list(run.history)

# %%
print(f"{run.parameters:,} weights, {run.history.updates} updates of "
      f"{run.recipe.fit.batch_size} jets in {run.train_seconds:.0f} s")

# %% tags=["figure"]
fig = drawings.jepa.watch(
    {"the recipe": history, "own target, with gradient":
     list(brakes_off.history), "average, layer norm alone":
     list(layer.history)}, untrained)
plots.save(fig, "06_watch", profile);

# %% [markdown]
# *Figure: held-out loss and the loss of the mean target; effective rank,
# deviation and mean cosine of the jets' features; AUC of a linear probe; against
# updates, for the recipe, for a target that is its own, and for the moving average
# with the layer norm alone.*
#
# Read the two panels of losses together. A curve is good news only as far as it lies
# below the curve of the mean target of the same colour. The last rows as numbers:

# %%
ends = {"jepa": history[-1], "layer": layer.history[-1],
        "own": brakes_off.history[-1], "random": untrained}
NAMED = {"jepa": "the recipe", "layer": "layer norm alone",
         "own": "own target", "random": "untrained"}
KEYS = ("val_loss", "val_mean", "effective_rank", "feature_std",
        "mean_cosine", "probe_auc")

# %%
experiment.values["watch"] = {
    name: {k: row[k] for k in KEYS if k in row} for name, row in ends.items()}
display(Markdown(drawings.jepa.watch_table(ends, NAMED, KEYS)))

# %%
fell = ends["own"]["val_mean"] / ends["jepa"]["val_mean"]
rank = ends["own"]["effective_rank"] / untrained["effective_rank"]
display(Markdown(drawings.jepa.collapse(ends, fell, rank)))

# %% [markdown]
# The prediction was right in its first half: loss and mean target fell together,
# and the cosine went to 0.98. It was wrong about the effective rank. The recipe has
# the *lower* one, because training concentrates the features on the directions
# that it needs, and a collapse shrinks all of them alike. It was right about the
# probe, which hardly noticed.
#
# Look at the middle row as well. With the layer norm alone the loss is no smaller
# than that of the mean target: the predictor has learned the mean and nothing
# beyond it. Normalising each number over the tokens of the batch is what
# the recipe adds, and there the loss is a quarter below the mean's.
#
# Two lessons for the rest. The loss of a JEPA is no measure of progress: it was
# *lowest* where nothing was learned, and with a moving target it may rise while
# the features get richer. And so no weights are chosen by it: the recipe keeps
# the last ones. Read it beside the loss of the mean target: what it is below that
# has been learned from the patches in view.
#
# There are other brakes, each one setting away. `target="teacher"` takes the
# features of a network that is already trained and stays as it is, here the
# masked autoencoder of notebook 05 on these jets: nothing moves, so nothing can
# collapse, and the loss means the same from the first update to the last.
# `target="sigreg"` needs neither average nor stopped gradient (LeJEPA,
# arXiv:2511.08544): a second term of the loss presses the features of all tokens
# into the shape of a standard normal cloud. It looks at them along random
# directions $u$, and measures with the characteristic function
# $\varphi_u(t)=\langle e^{it\,u\cdot y}\rangle$ of the $N$ projections how far
# they are from normal,
#
# $$ N\int\bigl|\varphi_u(t)-e^{-t^2/2}\bigr|^2 e^{-t^2/2}\,dt , $$
#
# about one for a normal cloud; for a point or a line it grows with $N$. A collapse
# is a point, and features along one direction are a line, so both become
# expensive. Three clouds of 500 vectors show it:

# %%
print({name: round(sigreg(cloud).item(), 1) for name, cloud in {
    "normal": torch.randn(500, 16), "point": torch.zeros(500, 16),
    "line": torch.randn(500, 1).expand(-1, 16)}.items()})

# %% [markdown]
# The point costs most, the line less than half of it, the normal cloud next to
# nothing. A grid in section 11 can compare these brakes.
#
# ## 6. What a probe can read
#
# Three probes of the frozen encoder, each with the labels of the same 1,000
# training jets, judged on the validation jets: logistic regression on the pooled
# vector; the vote of nearest neighbours; and an **attentive** probe, which may
# choose where to look. With a loss on hidden patches alone, the tokens in view can
# become messengers, and what they know of themselves may be pooled away. The
# attentive probe is the fair judge then.
#
# *Frozen* means that the encoder's weights stay as they are: a probe asks what is
# already there, and fine-tuning (section 7) what can be made of it. The attentive
# probe has four learned queries. Each gives every token a score, a softmax turns
# scores into weights, and the weighted means of the tokens go to a linear answer:
# notebook 03's attention with queries that do not depend on the jet.

# %%
class Attentive(nn.Module):
    """A few learned queries look at the tokens of a frozen encoder."""

    def __init__(self, dim, queries=4):
        super().__init__()
        self.look = nn.Linear(dim, queries)
        self.answer = nn.Linear(queries * dim, 1)

    def forward(self, x, valid):  # (B, K, D), (B, K)
        score = self.look(x).masked_fill(~valid.unsqueeze(-1), -1e4)
        seen = score.softmax(1).transpose(1, 2) @ x     # (B, queries, D)
        return self.answer(seen.flatten(1)).squeeze(1)


# %% [markdown]
# It needs the vectors of all tokens, where the other two need one a jet. They are
# computed 200 jets at a time, which bounds the memory.

# %%
@torch.no_grad()
def tokens_of(model, index):
    """What an encoder gives each patch of jets: (n, K, D) and (n, K)."""
    t = jets.batch(index, "active").tokens
    parts = [model.encode(TokenBatch(t.features[i], t.position[i], t.valid[i],
                                     grid))
             for i in torch.arange(len(t)).split(200)]
    return torch.cat(parts), t.valid


# %% [markdown]
# The probe is trained for 120 updates on the 1,000 known jets. Features are
# standardised first, so that an encoder of small numbers has no handicap. The
# token lists are padded; `valid` keeps the padding out of mean, spread and softmax.

# %%
known, judges = (torch.as_tensor(i) for i in (monitor.known, monitor.held))
label = jets.labels[known].numpy()


def attentive(model, steps=120):
    """P(quark) of the validation jets by an attentive probe."""
    torch.manual_seed(0)
    (x, valid), (other, there) = (tokens_of(model, i) for i in (known, judges))
    mean, std = x[valid].mean(0), x[valid].std(0) + 1e-6
    probe, y = Attentive(x.shape[-1]), jets.labels[known].float()
    adam = torch.optim.AdamW(probe.parameters(), lr=1e-2, weight_decay=1e-2)
    for _ in range(steps if not SMALL else 5):
        i = torch.randint(len(x), (200,))
        loss = F.binary_cross_entropy_with_logits(
            probe((x[i] - mean) / std, valid[i]), y[i])
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        return probe((other - mean) / std, there).sigmoid().numpy()


# %% [markdown]
# One function for all three, and one that notes their answers as results.

# %%
def judged(model, kinds=("linear", "neighbours", "attentive")):
    """{kind: predictions of a probe for the validation jets}."""
    x, other = (probes.embed(model, jets, i) for i in (known, judges))
    how = {"linear": lambda: probes.linear_probe(x, label, other),
           "neighbours": lambda: probes.neighbour_probe(x, label, other),
           "attentive": lambda: attentive(model)}
    return {k: Predictions.of(jets, judges, how[k]()) for k in kinds}


def add_probes(out, name, answers, seed=seed):
    for kind, predictions in answers.items():
        out.add_run(f"{name}_{kind}", predictions, seed=seed,
                    labels=len(known), metrics=["auc"])


# %% [markdown]
# The pretrained encoder, the random one from which it started, and as a rival the
# trees on four numbers with the same 1,000 labels.

# %%
add_probes(experiment, "jepa", judged(run.model()))
add_probes(experiment, "random", judged(objective().model))
trees_known = HistGradientBoostingClassifier(
    max_iter=60, learning_rate=0.05, max_leaf_nodes=8,
    random_state=0).fit(four(jets, known), label)
experiment.add_run("trees_known", Predictions.of(
    jets, judges, trees_known.predict_proba(four(jets, judges))[:, 1]),
    labels=len(known), metrics=["auc"])

# %% [markdown]
# One random encoder is an anecdote. So the linear probe and the neighbours also
# judge a crowd of them; the pretrained encoder should lie outside the crowd. A
# random encoder is no straw man. It sums and mixes the pixels in ways that nobody
# has chosen, but hit counts and energies survive any mixing, and they
# tell quarks from gluons.

# %%
CROWD = 2 if SMALL else 30 if GRIDS else 8
crowd = {"linear": [], "neighbours": []}
for s in range(100, 100 + CROWD):
    for kind, p in judged(objective(s).model, crowd).items():
        crowd[kind].append(metrics.auc(p.y, p.score))
summary = experiment.summary()

# %%
experiment.values["crowd"] = {
    kind: {"lowest": min(found), "highest": max(found),
           "mean": float(np.mean(found)), "encoders": CROWD}
    for kind, found in crowd.items()}
for kind in ("linear", "neighbours", "attentive"):
    experiment.compare(f"jepa_{kind}", f"random_{kind}", ["auc"])
experiment.compare("jepa_linear", "trees_known", ["auc"])

# %% tags=["figure"]
KIND = {kind: kind for kind in ("linear", "neighbours", "attentive")}
ax = drawings.jepa.probed(summary, crowd, KIND)
plots.save(ax, "06_probes", profile);

# %% [markdown]
# *Figure: AUC of the probes on validation jets with 95 % intervals over jets, for
# the JEPA encoder, the random one that it started from, and boosted trees with the
# same labels; grey ticks: other random encoders.*
#
# The ticks are the lesson: random encoders differ from each other by as much as
# pretraining is supposed to bring. A single pair, pretrained and its own start,
# would have shown a gain or a loss by the luck of the draw.
#
# The same differences in numbers, pair by pair on the same jets:

# %%
for row in experiment.comparisons:
    print(f"{row['a']} minus {row['b']}: {with_interval(row)}, "
          f"{verdict(row)}")
print(drawings.jepa.behind(summary, crowd))

# %% [markdown]
# For the linear probe and the neighbours nothing has been gained: the pretrained
# encoder lies below all eight of the crowd (by less than a hundredth; for the
# linear probe its own start lies there, too), and its difference from that start,
# 0.001 [−0.025, 0.028] for the linear probe, holds zero. The attentive probe sees
# more, 0.022 above its random partner, but the interval of [−0.016, 0.059] holds
# zero too. If there is a gain, it sits in single tokens and not in the pooled
# vector, as one would expect of a loss that asks for single tokens only. With 600
# validation jets a difference would have to be about 0.04 to be seen.

# %% [markdown]
# ## 7. Does it save labels?
#
# The question that pretraining is for. From the pretrained encoder and from
# scratch, the same model, the same labelled jets, the same number of updates;
# and a third arm, **scratch at equal total compute**, which gets the jets that
# the pretraining has seen as further updates on its labels. The third arm is the
# accountant. Whoever may compute as long as the pretraining took could have
# spent that time on the labels as well.
#
# > **Prediction.** With 300 labels the pretrained start helps, for scratch has
# > little to go by; with all labels both end alike. Equal total compute should
# > help scratch with all labels, and hardly with 300, which it knows by heart.

# %%
COUNTS = {"100": 100, "300": 300, "1000": 1000, "all": None}
if SMALL:
    COUNTS = {"100": 20, "300": 40, "1000": 80, "all": None}
most = arm("scratch").fit.updates // 4
UPDATES = {"100": most // 4, "300": most // 3, "1000": most // 2,
           "all": most}

# %% [markdown]
# The price list: a pretraining has seen `full` batches, and as many jets become
# `PAID` further updates of the third arm.

# %%
PAID = full * run.recipe.fit.batch_size // arm("scratch").fit.batch_size
if SMALL:
    UPDATES, PAID = dict.fromkeys(UPDATES, 3), 3


# %%
def labelled(count, seed=seed, start=None, paid=0, **changes):
    """The recipe of a classifier with so many labels."""
    updates = UPDATES[count] + paid
    return arm("finetune" if start else "scratch", seed, start=start,
               labels=COUNTS[count], loss={"mass_weight": 0.0},
               fit={"updates": updates, "every": max(1, updates // 8)},
               **changes)


# %%
def trained(name, chosen):
    """A classifier through the cache, with its predictions for the test."""
    return runs.train(f"06-{name}-{chosen.seed}", chosen, jets, TEST,
                      runs=profile.runs_dir, log=lambda line: None)


def add(out, name, found):
    out.add_run(name, found, metrics=["accuracy", "auc", "loss_class"])


# %% [markdown]
# Five trainings while the notebook runs: two numbers of labels, pretrained or not,
# and the third arm where it matters most, with 300.

# %%
LIVE = ("300", "all")
tuned = {}
for count in LIVE:
    tuned |= {
        f"jepa_{count}": trained(f"jepa-{count}", labelled(
            count, start=run.folder.name)),
        f"scratch_{count}": trained(f"scratch-{count}", labelled(count))}
tuned["paid_300"] = trained("paid-300", labelled("300", paid=PAID))
for name, found in tuned.items():
    add(experiment, name, found)

# %%
for count in LIVE:
    experiment.compare(f"jepa_{count}", f"scratch_{count}", ["auc"])
experiment.compare("jepa_300", "paid_300", ["auc"])
experiment.compare("jepa_all", "trees", ["auc"])
experiment.compare("scratch_all", "trees", ["auc"])
summary = experiment.summary()

# %%
WHO = {"jepa": "pretrained by JEPA", "scratch": "scratch",
       "paid": "scratch, equal total compute", "trees": "trees, four numbers",
       "softmax": "scratch, softmax attention", "mae": "pretrained by MAE",
       "simclr": "pretrained by SimCLR"}
display(Markdown(drawings.jepa.systems(tuned, summary, WHO, len(train))))

# %% [markdown]
# The table has one column for the money: updates and seconds of the training on
# labels, without the pretraining, whose seconds are printed below. (The networks'
# 6,000 labels include the 600 validation jets by which the epoch was chosen.)
# Single rows have wide intervals, because they hold the luck of these 4,000 test
# jets. Differences on the same jets are far sharper, and they are what the question
# asks for.

# %%
def said(found):
    """Differences in words, one line each."""
    for row in found["comparisons"]:
        if row["metric"] == "auc":
            print(f"{row['a']} minus {row['b']}: AUC {with_interval(row)}, "
                  f"{verdict(row)}")


# %%
said({"comparisons": experiment.comparisons[4:]})
print(f"pretraining took {run.train_seconds:.0f} s; R4's accuracy is 0.7553, "
      f"that of a coin is {max(y.mean(), 1 - y.mean()):.3f} here")

# %% tags=["figure"]
display(Markdown(drawings.jepa.labels_saved(experiment.comparisons)))

# %% [markdown]
# For this seed the prediction fails with 300 labels: the pretrained start ends
# behind scratch by 0.012, a small loss, but its interval holds no zero. With
# all labels both end alike, as predicted: the difference is below 0.001. The third
# part was too kind. Further updates on 300 jets do not merely fail to help, they
# do harm: scratch at equal total compute ends 0.026 behind the pretrained start,
# because a network that knows its training jets by heart becomes sure of
# everything it has seen.
#
# Intervals here are over test jets, for one seed; the grid of section 11 has three
# seeds and the other pretrainings. What a pretraining costs could have been spent
# on the labels: that is the second line. But on so few labels the longer training
# overfits and ends behind the shorter one, so the rival to beat is in the first
# line, and JEPA does not beat it.
#
# ## 8. Noise, lost patches, calibration
#
# R4 says that a prediction of features makes a model "resistant to detector
# noise". Then the fine-tuned JEPA should lose *less* than the model from scratch
# when the test jets are damaged: patches lost, or every reading changed by a
# random share. The trees take the same damage.
#
# > **Prediction.** If R4 is right, JEPA's AUC falls by less than that of scratch
# > under both kinds of damage. We expect no difference: both were fine-tuned on the
# > same undamaged jets, and that is where either would have to learn resistance.

# %%
def lost(rate):
    """Each patch is lost with this probability."""
    def change(hits):
        keep = torch.rand(hits.images, grid.patches) >= rate
        return hits.select(keep[hits.image, by_patch(hits, grid)[0]])
    return change


DAMAGE = {"patches lost": (lost, (0.1, 0.3, 0.5)),
          "noise on readings": (lambda share: Noise(
              grid, "gev", levels=255 * share), (0.2, 0.5, 1.0))}
judge = test[:1_500]

# %%
compared = {"pretrained by JEPA": tuned["jepa_all"],
            "scratch": tuned["scratch_all"]}

# %% [markdown]
# Each strength is applied to the same 1,500 test jets; strength 0 is the undamaged
# jet, from which the loss is counted.

# %%
robust = {}
for damage, (make, strengths) in DAMAGE.items():
    for strength in (0, *strengths):
        hurt = test_jets.subset(judge)
        if strength:
            hurt = transformed(hurt, make(strength))
        truth, index = hurt.labels.numpy(), torch.arange(len(hurt))
        said_of = {n: r.predict(hurt, index).score for n, r in compared.items()}
        said_of["trees"] = trees.predict_proba(four(hurt, index))[:, 1]
        for name, score in said_of.items():
            robust.setdefault(damage, {}).setdefault(name, []).append(
                metrics.auc(truth, score))

# %%
experiment.values["robust"] = {
    d: {n: {"whole": v[0], "worst": v[-1], "lost": v[0] - v[-1]}
        for n, v in found.items()} for d, found in robust.items()}

# %% tags=["figure"]
fig, (axes,) = plots.new(1, 2, 2.8, sharey=True)
for ax, (damage, found) in zip(axes, robust.items()):
    plots.lines({n: ((0, *DAMAGE[damage][1]), v) for n, v in found.items()},
                f"{damage}, share", "AUC on test jets", ax=ax, marks=True)
plots.save(fig, "06_robust", profile);

# %% [markdown]
# *Figure: AUC on damaged test jets against the share of patches lost (left) and
# the relative noise on every reading (right), for both models with all labels
# and for the trees.*
#
# Read slopes, not heights: resistance is what is *kept* of one's own AUC. All three
# learned from undamaged jets. Lost patches take about the same share of tracks from
# every jet, so the trees' four numbers keep their order for the most part, while a
# network sees jets unlike any that it was trained on. Noise on readings leaves
# counts as they are and blurs what is weighed with energies.

# %%
for damage, found in experiment.values["robust"].items():
    worst = {n: row["lost"] for n, row in found.items()}
    print(f"{damage}, strongest: AUC lost", {
        n: round(v, 3) for n, v in worst.items()})

# %% [markdown]
# The prediction was right, and R4's claim finds no support. With half of the
# patches lost, JEPA loses 0.085 of its AUC and scratch 0.083; with the strongest
# noise 0.048 and 0.044. There is no interval on these differences of a few
# thousandths, and one seed. Most likely pretraining has changed neither, because
# 350 updates on undamaged jets follow it, and nothing in them asks for resistance.
# The trees lose least and end ahead of both networks.
#
# A second property is easily lost in fine-tuning: whether a score can be taken at
# its word. A jet with score 0.8 should be a quark in eight cases of ten.

# %%
calibrated = {n: {"ece": metrics.evaluate(r.predictions)["ece"]}
              for n, r in compared.items()}
experiment.values["calibration"] = calibrated

# %% tags=["figure"]
fig = drawings.finetune.calibration(
    {n: metrics.reliability(r.predictions.y, r.predictions.score)
     for n, r in compared.items()}, "quark")
plots.save(fig, "06_calibration", profile);

# %% [markdown]
# *Figure: share of quarks among jets of a given score: on the diagonal a score
# means what it says.*
#
# Both networks are a little too sure of themselves: their curves lie above the
# diagonal on the left and below it on the right. The expected calibration error
# (the mean distance from the diagonal, weighted by jets) is 0.037 with pretraining
# and 0.038 from scratch, so this, too, is equal. It matters where a score is used
# as a probability, for instance as the weight of a jet in a fit of quark and gluon
# shares.
#
# ## 9. "Distinct manifolds"
#
# R4 shows a t-SNE plane of its features in which quarks and gluons separate. Such a
# plane needs a rival, an encoder of random weights, and a number beside it, for
# eyes find islands in anything. *t-SNE* places each jet in a plane so that its near
# neighbours in 176 dimensions stay near; distances between islands and their sizes
# mean nothing. How near is near is set by the *perplexity*, the number of
# neighbours that count, 30 here.

# %%
show = judges[:500]
planes = {}
for name, model in (("random encoder", objective().model),
                    ("JEPA", run.model())):
    x = probes.embed(model, jets, show)
    x = (x - x.mean(0)) / (x.std(0) + 1e-6)
    near = min(30, len(show) // 4)
    planes[name] = {"plane": TSNE(perplexity=near, init="pca", random_state=0,
                                  max_iter=500).fit_transform(x),
                    "auc": summary["jepa_linear" if name == "JEPA" else
                                   "random_linear"]["auc"]["mean"]}

# %% tags=["figure"]
fig = drawings.jepa.planes(planes, jets.labels[show])
plots.save(fig, "06_tsne", profile);

# %% [markdown]
# *Figure: t-SNE of validation jets, from a random encoder (left) and from the
# pretrained one (right), neither of which has seen a label. Axes have no
# meaning; below each panel the AUC of a linear probe.*
#
# Both planes show structure, and both colours run through all of it. The
# numbers below the panels are those of section 6, and there the two encoders
# cannot be told apart. So the structure is that of the jets (how many patches, how
# much energy), which a random encoder shows as well; it is no sign that
# quarks and gluons were found.
#
# R4 adds that its features invite *dictionary learning*: each jet as a sum of few
# out of many learned patterns. If that is so, five of 32 patterns should tell
# quarks from gluons better than 32 principal components of the same features.

# %%
def sparse_minus_pca(model, atoms=32):
    """Probe AUC of sparse codes minus that of principal components."""
    x, other = (probes.embed(model, jets, i) for i in (known, judges))
    mean, std = x.mean(0), x.std(0) + 1e-6
    x, other = (x - mean) / std, (other - mean) / std
    sparse = MiniBatchDictionaryLearning(
        atoms, max_iter=20, transform_n_nonzero_coefs=5, random_state=0)
    found = [Predictions.of(jets, judges, probes.linear_probe(
        how.fit(x).transform(x), label, how.transform(other)))
        for how in (sparse, PCA(atoms, random_state=0))]
    return metrics.compare(*found, ["auc"])["auc"]


# %% [markdown]
# Both codes have 32 numbers a jet; the sparse one uses five of them at a time. The
# difference of their probes is taken for JEPA and, as a control, for the random
# encoder.

# %%
experiment.values["dictionary"] = {
    "jepa": sparse_minus_pca(run.model()),
    "random": sparse_minus_pca(objective().model)}
for name, row in experiment.values["dictionary"].items():
    print(f"{name}: sparse codes minus principal components, AUC "
          f"{with_interval(row)}, {verdict(row)}")

# %% [markdown]
# It is the other way round: with JEPA's features the sparse codes are *behind* the
# principal components, by 0.04 with an interval of [−0.07, −0.01]. What
# tells the classes apart is spread over many directions and changes smoothly, like
# a multiplicity does, and five patterns cannot hold it.
#
# ## 10. FastAttention
#
# R4 does not define its attention; "linear" and "sparse" it must be. Two
# candidates of notebook 03 fit: ReLU-linear attention, and the additive attention
# of Fastformer (arXiv:2108.09084). Finest patches, a pixel each, make every
# active cell a token. One of our jets has some hundred; overlaid, they make up to
# 4,096, as a pile-up of jets would. How does the time of the model grow?
#
# A *cell* is here one pixel that measured something. Softmax compares each of $N$
# cells with each other, $N^2$ pairs: 65 thousand for 256 cells and nearly 17 million for
# 4,096. The additive form first sums all cells into one vector, so that each cell
# is compared with that sum alone.
#
# > **Prediction.** Softmax: with the square, from about a thousand cells on.
# > Both others: in proportion.
#
# Sixty jets, laid on top of each other, give the cells; a random order makes any
# first $n$ of them a fair sample.

# %%
fine = Grid(3, 125, 125, 1, 1)
hits = jets.hits(train[:60])
together = tokenize(dataclasses.replace(hits, image=0 * hits.image, images=1),
                    fine)
torch.manual_seed(0)
order = torch.randperm(together.valid.shape[1])
LENGTHS = [n for n in (256, 512, 1024, 2048, 4096) if n <= len(order)]


# %%
def cells(n):
    """An image of n active cells as tokens, one a pixel."""
    i = order[:n]
    return TokenBatch(together.features[:, i], together.position[:, i],
                      together.valid[:, i], fine)


# %% [markdown]
# The model is that of section 7 without the local convolutions, which cost the
# same for all three and would blur the comparison. Of five calls the fastest
# counts, since other work on the machine can only add.

# %%
FAST = {"softmax": "softmax", "ReLU-linear": "relu_linear",
        "additive": "additive"}
taken = {name: [] for name in FAST}
for name, mechanism in FAST.items():
    settings = {**arm("scratch").model, "attention": mechanism, "lcm_kernel": 0}
    model = JetViT(ViTConfig.of(fine, **settings)).eval()
    with torch.no_grad():
        for n in LENGTHS:
            image, spent = cells(n), []
            for _ in range(5):
                began = time.perf_counter()
                model(image)
                spent.append(time.perf_counter() - began)
            taken[name].append(1e3 * min(spent))

# %% [markdown]
# The exponent is the slope over the last three lengths, in logarithms: the growth
# where it matters.

# %%
tail = slice(-3, None)
experiment.values["exponent"] = {
    n: float(np.polyfit(np.log(LENGTHS[tail]), np.log(v[tail]), 1)[0])
    for n, v in taken.items()}
experiment.values["milliseconds"] = {n: v[-1] for n, v in taken.items()}

# %% tags=["figure"]
ax = plots.lines({n: (LENGTHS, v) for n, v in taken.items()},
                 "active cells", "milliseconds an image", log="xy", marks=True)
plots.ticks(ax.xaxis, LENGTHS)
plots.save(ax, "06_cost", profile);

# %% [markdown]
# *Figure: time of one image through the model against the number of active
# cells, a token each, with three attentions.*
#
# The slope on the right is what counts: 1 on these axes means twice the cells,
# twice the time. On the left the embedding and the MLPs take most of the time,
# whatever the attention. The prediction was right in kind: softmax comes near the
# square (the exponents are printed below), and the two others stay below one,
# because the fixed cost of a call is still part of their time. Between the two
# linear ones there is little to choose. What the cells *know* is another matter:
# attention without the local convolutions, as timed here, is a worse classifier
# (notebook 12).

# %%
for name, power in experiment.values["exponent"].items():
    print(f"{name:12s} time grows as cells^{power:.2f}; "
          f"{taken[name][-1]:.0f} ms at {LENGTHS[-1]:,}")

# %% [markdown]
# ### "+15 % AUC where multiplicity is high"
#
# The claim compares with a "vanilla transformer". Ours: the same model with softmax
# attention, trained on the same jets for as many updates. Test jets are cut into
# quartiles of the multiplicity of tracks, and within each the two are compared on
# the same jets.
#
# Why should multiplicity matter at all? Softmax has no weakness in long
# lists except its cost: given the time, it computes what a linear attention
# approximates. A gain of 0.15 for the linear one would need a reason, for instance
# that the rival was cut off at some length. Our lists are not cut.
#
# > **Prediction.** Nothing beyond 0.02 in any quartile: an average of some 65
# > patches is no length at which softmax has a handicap.

# %%
tuned["softmax_all"] = trained("softmax-all", labelled(
    "all", model={"attention": "softmax"}))
add(experiment, "softmax_all", tuned["softmax_all"])
experiment.compare("scratch_all", "softmax_all", ["auc"])

# %% [markdown]
# The multiplicity is the first of the four numbers of section 2. Its three
# quartiles cut the test jets into four parts of about a thousand.

# %%
number = four(test_jets, test)[:, 0]
quartile = np.searchsorted(np.quantile(number, [0.25, 0.5, 0.75]), number)
parts = {f"quartile {q + 1}": quartile == q for q in range(4)}

# %%
against = {}
for name in ("scratch_all", "jepa_all"):
    one, other = (tuned[n].predictions for n in (name, "softmax_all"))
    against[name] = {what: metrics.compare(
        one.where(keep), other.where(keep), ["auc"])["auc"]
        for what, keep in parts.items()}
experiment.values["quartiles"] = against

# %% tags=["figure"]
ax = plots.intervals({"linear": against["scratch_all"],
                      "linear, pretrained by JEPA": against["jepa_all"]},
                     "AUC minus softmax attention", vertical=True)
plots.save(ax, "06_quartiles", profile);

# %% [markdown]
# *Figure: AUC minus that of softmax attention in quartiles of the track
# multiplicity, with 95 % intervals over test jets; one seed.*

# %%
top = against["jepa_all"]["quartile 4"]
display(Markdown(drawings.jepa.quartiles(against, top)))

# %% [markdown]
# Over all test jets the linear model from scratch is even behind the one with
# softmax, by 0.003 [0.001, 0.005]: little, and the other way than R4 has it.
#
# ## 11. The grid
#
# Seeds: JEPA, MAE and SimCLR, pretrained on the same jets for as many updates,
# fine-tuned with 300 and with all labels, beside scratch and scratch at equal total
# compute. And, in a grid of their own, variants of JEPA itself, judged by the
# probes after half of the updates: the masks, the targets, the further terms of the
# loss.
#
# Each variant changes one thing of the recipe (`block`). Two take a brake off:
# `stop_gradient` lets the target be the context encoder itself, without gradient;
# `own` with it. `context` also asks for the patches in view, with half the weight,
# and `jepa_mae` for pixels beside features. The validation jets judge them, so no
# test jet has a say in which variant looks best.

# %%
VARIANTS = {
    "block": {}, "random_mask": {"mask": "random"},
    "sigreg": {"target": "sigreg"}, "teacher": {"target": "teacher"},
    "context": {"context": 0.5}, "jepa_mae": {"pixels": 0.3},
    "layer_norm": {"norm": "layer"}, "energy_mask": {"mask": "energy"},
    "stop_gradient": {"momentum": 0.0}, "own": {"target": "own"}}

# %%
half = {"updates": max(2, full // 2), "every": max(1, full // 2)}


def variant(name, start=None):
    """A variant of the JEPA at half length."""
    given = {"start": start} if name == "teacher" else {}
    return arm("jepa", loss=VARIANTS[name], fit=half).but(**given)


def settled(name, seed=seed):
    """Recipe of a pretraining of the grid."""
    return arm(name, seed)


# %% [markdown]
# One seed of the grid is three pretrainings and nine classifiers. All differences
# are taken seed by seed on the same jets, so their intervals hold both: the luck
# of the weights and the luck of the test jets.

# %%
def seeds_of(out, s):
    """All rows of one seed."""
    for name in ("jepa", "mae", "simclr"):
        start = pretrained(name, settled(name, s)).folder.name
        for count in LIVE:
            add(out, f"{name}_{count}", trained(
                f"{name}-{count}", labelled(count, s, start=start)))
    for count in LIVE:
        add(out, f"scratch_{count}", trained(
            f"scratch-{count}", labelled(count, s)))
    add(out, "paid_300", trained("paid-300", labelled("300", s, paid=PAID)))


# %%
def compare_seeds(out):
    out.comparisons = []  # of the seeds so far
    for count in LIVE:
        for name in ("jepa", "mae", "simclr"):
            out.compare(f"{name}_{count}", f"scratch_{count}", ["auc"])
    for name in ("jepa", "mae", "simclr"):
        out.compare(f"{name}_300", "paid_300", ["auc"])
    for name in ("mae", "simclr"):
        out.compare("jepa_300", f"{name}_300", ["auc"])


# %% [markdown]
# Without `GRIDS` the cell does nothing. With it, results are saved after each
# seed and each variant: whoever stops it after half an hour keeps what is there.

# %%
if GRIDS:
    out = Experiment("06_jepa_grid", profile, USES)
    out.curves["settings"] = {n: settled(n).to_json()
                              for n in ("jepa", "mae", "simclr")}
    for s in profile.seeds:
        seeds_of(out, s)
        compare_seeds(out)
        out.save()  # whoever stops here has fewer seeds
    other = Experiment("06_variants_grid", profile, USES)
    teacher = pretrained("mae", settled("mae")).folder.name
    add_probes(other, "random", judged(objective().model))
    for name in VARIANTS:
        found = pretrained(name, variant(name, teacher))
        add_probes(other, name, judged(found.model()))
        other.values[name] = {k: found.history[-1][k] for k in KEYS[:5]}
        if name != "block":
            other.compare(f"{name}_linear", "block_linear", ["auc"])
            other.compare(f"{name}_attentive", "block_attentive", ["auc"])
        other.save()

# %%
def published(name):
    """A published grid and where it is from."""
    try:
        found = results.load(name, profile)
        return found, results.whence(found)
    except results.ResultsError:
        return None, ("No grid has been published for this profile; "
                      f"{results.how_to_make(name, profile)}.")


# %% [markdown]
# The published grid comes with a line on where and when it was made, and with a
# warning if one of its recipes is no longer the present one.

# %%
seeds, made = published("06_jepa_grid")
if seeds and (since := changed(seeds["curves"]["settings"], {
        n: settled(n) for n in ("jepa", "mae", "simclr")})):
    print("settings have changed since:", ", ".join(since))
display(Markdown(made))
if seeds:
    display(Markdown(drawings.jepa.grid(seeds["summary"], WHO)))

# %% tags=["figure"]
drawn = seeds or {"comparisons": experiment.comparisons}
rows = {f"{r['a']} − {r['b']}".replace("_", " "): r
        for r in drawn["comparisons"] if r["a"].split("_")[1] in COUNTS
        and r["metric"] == "auc"}
ax = plots.intervals({"": rows}, "difference in AUC on test jets")
plots.save(ax, "06_labels", profile);

# %% [markdown]
# *Figure (grid; where there is none, the live runs): differences in AUC on test
# jets with 95 % intervals over seeds and jets; ticks are single seeds. The number
# after a name is that of labels; "paid" is scratch at equal total compute.*
#
# Read it in two steps. Rows "− scratch" ask whether a pretraining beats the same
# number of updates without it. Rows "− paid" charge it its price. Only a
# pretraining whose rows lie to the right of zero in both has saved labels; a gain
# over "paid" alone shows how badly a long training does on few labels.
#
# **JEPA has saved no labels that one could see.** With three seeds its difference
# from scratch is −0.019 [−0.055, 0.019] with 300 labels, so the loss that section 7
# found with one seed is not confirmed, and 0.001 [−0.022, 0.024] with all; the
# masked autoencoder cannot be told from scratch either. **SimCLR can**: it is ahead
# by 0.036 [0.014, 0.058] with 300 labels and by 0.011 [0.005, 0.017] with all.
# Whether it is worth its price stays open, for 0.034 [−0.025, 0.095] against "paid"
# is not decidable with three seeds. The views of SimCLR state what does not matter
# in a jet. JEPA has only the jet itself to learn from, and perhaps that is the
# difference.

# %%
variants, made_of = published("06_variants_grid")
if variants:
    table = [[n.replace("_", " "), *(variants["summary"][f"{n}_{k}"]["auc"]
                                     for k in KIND),
              variants["values"].get(n, {}).get("effective_rank")]
             for n in ("random", *VARIANTS)]
    display(Markdown(made_of), Markdown(markdown_table(
        ["variant", *KIND.values(), "effective rank"], table)))
else:
    display(Markdown(made_of))

# %% tags=["figure"]
if variants:
    ax = drawings.jepa.varied(variants["comparisons"], VARIANTS)
    plots.save(ax, "06_variants", profile)

# %% [markdown]
# *Figure (grid): what each change to the recipe does to two probes, after half of
# the updates; one seed, intervals over validation jets.*
#
# If nothing mattered at all, one in twenty intervals would still miss zero, so a
# single row beside the line is no discovery; look for changes that both probes see,
# and for the variants with the brakes off.
#
# **The mask is what both probes see.** Random patches, R4's own word, are ahead of
# blocks by 0.054 [0.026, 0.081] in the linear probe and by 0.034 [0.003, 0.064] in
# the attentive one. By Holm's rule for eighteen differences three of the linear
# probe stand (smallest p 0.018): the random mask, pixels beside features, and the
# layer norm alone. None of the attentive one does.
#
# That is less than it seems. At half length our recipe, with blocks, has 0.736 in the
# linear probe, and the random encoder 0.765: most of what wins here wins back what
# blocks have lost. And the brakes-off variants lose nothing, `own` is even ahead by
# 0.020 [−0.013, 0.054], although its loss says that it has learned next to nothing.
# So the probes do not measure what JEPA has learned, as the crowd of section 6 has
# said already. With one seed the next thing to try is the random mask, judged with
# labels; this grid does not show that it pays.
#
# ## 12. What we saw
#
# **Collapse is real, and a small loss is its sign.** Without the moving average
# and the stopped gradient the targets of the patches lose their variety within
# the first updates, because equal targets are the cheapest to tell. The loss of
# the mean target shows it at once. The pooled vectors of jets are slower: they
# also hold maxima, which still differ from jet to jet, and a linear probe
# rescales whatever is left.
#
# **A random encoder is a serious rival.** Sums over a jet's hits carry most of what
# tells quarks from gluons, and any encoder hands them on. A probe's AUC is
# therefore no proof of learning; its distance from a crowd of random encoders would
# be.
#
# **No labels were saved by JEPA**, as far as three seeds can tell, while SimCLR at
# the same length is ahead of scratch (section 11). Resistance to noise and lost
# patches is what training from scratch has as well.
#
# **Claims and findings.** Accuracies on other jets cannot be compared digit by
# digit; R4's 75.53 % would stand for an AUC near 0.84, above everything published
# on the full public set (about 0.81).

# %% tags=["figure"]
display(Markdown(drawings.jepa.claims(summary, against, experiment.values)))

# %% [markdown]
# The trees on four numbers stand in every table above, because a network that
# does not beat them has found nothing in the image that the textbook lacks.
#
# **Limits.** A small encoder, some thousand jets, a dozen passes; I-JEPA was made
# for a million photographs and hundreds of passes. A null result here says that
# this size of pretraining does not pay, not that none does. On another machine the
# last digits of losses will differ, and probes by about as much as another seed.
#
# ## Exercises
#
# **Quick.** How many updates does the moving average need for 90 % of a jump, with
# $m=0.996$ and with $m=0.9$?
#
# **Quick.** Show that the loss of an untrained predictor, which says zero, is
# below 1/2 for *any* normalised target.
#
# **Medium.** Hide 90 % instead of 60 %. What happens to the loss of the mean
# target, and what to the loss? Think first.
#
# **Medium.** Add the context term (`context=0.5`) and look at the patches in view:
# is their loss below that of the hidden ones?
#
# **Project.** Let the target encoder see the jet with another jet's pile-up
# (notebook 04's `pile_up`) and the context encoder without. Does the encoder learn
# to overlook it?
#
# <details><summary>Solutions</summary>
#
# *Average.* $n=\ln 0.1/\ln m$: 575 updates, and 22.
#
#     for m in (0.996, 0.9):
#         print(m, np.log(0.1) / np.log(m))
#
# *Zero.* The $D$ numbers of a normalised target have mean square one, and
# $s(e)\le e^2/2$, so the loss of saying zero is at most 1/2.
#
#     y = F.layer_norm(torch.randn(1000, 64) ** 3, (64,))
#     assert F.smooth_l1_loss(torch.zeros_like(y), y) <= 0.5
#
# *Ninety per cent.* The targets do not depend on the mask, so the mean target
# costs the same up to which patches are asked; the loss is larger, for less is
# in view.
#
#     for ratio in (0.6, 0.9):
#         torch.manual_seed(0)
#         trial = objective(ratio=ratio)
#         print(ratio, trial.loss(jets.batch(held[:32], "active")))
#
# *Context.* Yes, after training: what is in view has only to be passed on.
#
#     trial = arm("jepa", loss={"context": 0.5}, fit=brief)
#     row = pretrained("context-trial", trial).history[-1]
#     print(row["val_loss"], row["val_context"])
#
# *Project.* A batch's `other` can hold the second view (`lib.data.views.Damaged`
# gives such a pair); let `targets` read it. Judge by the probe on jets with
# `pile_up` of a larger rate.
# </details>
#
# ## Recap
#
# | term | meaning |
# |---|---|
# | JEPA | features of what is hidden are told from what is in view |
# | context, target encoder | sees the rest; sees the whole and is a slow copy of the first |
# | predictor | small transformer between the two, thrown away afterwards |
# | stop-gradient | the loss does not move the target |
# | moving average | $\bar\theta\leftarrow m\bar\theta+(1-m)\theta$ |
# | collapse | all features alike; loss zero, nothing learned |
# | SIGReg | features are pressed into a normal cloud instead |
# | attentive probe | a classifier that may choose which tokens to look at |
#
# ## References
#
# - M. Assran et al., *Self-supervised learning from images with a joint-embedding
#   predictive architecture* (I-JEPA), arXiv:2301.08243.
# - R. Balestriero, Y. LeCun, *LeJEPA*, arXiv:2511.08544 (SIGReg).
# - *SALT: frozen teachers for joint-embedding prediction*, arXiv:2509.24317;
#   *V-JEPA 2.1*, arXiv:2603.14482 (the context term).
# - M. Andrews et al., *End-to-end jet classification of quarks and gluons with the
#   CMS open data*, arXiv:1902.08276.
# - C. Wu et al., *Fastformer: additive attention can be all you need*,
#   arXiv:2108.09084.
# - A. Bhat, project summary, GitHub (R4).

# %%
# The results of this notebook, and its weights.
experiment.values["training"] = {
    "updates": run.history.updates, "seconds": run.train_seconds,
    "parameters": run.parameters, "paid_updates": PAID,
    "active_patches": float(active.mean()), "test_jets": len(test)}
experiment.curves["history"] = history
weights.publish("jepa", run, profile,
                "Context encoder of a JEPA on quark and gluon jets "
                "(3 x 125 x 125, GeV): `JetViT.from_pretrained(folder)` of "
                "`lib.models.vit`; a start for fine-tuning, no classifier.",
                "quark_gluon")
print(experiment.save().name)

# %% [markdown]
# ## R4's claims, one by one
#
# Each with what was found here (speed and saliency in notebook 10, from its last
# run). A claim holds where the whole interval lies on its side, fails where none
# of it does, and is not decidable otherwise.

# %% tags=["figure"]
display(Markdown(ledger.markdown(profile, "R4")))
