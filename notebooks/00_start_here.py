# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#     cell_metadata_filter: tags,-all
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 00 · What made this jet, and can a small network tell?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/00_start_here.ipynb)
#
# Two protons collide at nearly the speed of light, and a spray of particles
# hits the detector: a *jet*. Some jets are the remains of a top quark, the
# heaviest particle we know; most are the remains of an ordinary quark or
# gluon. To the eye their pictures look much alike. In the next few minutes
# you make such jets, look at them, cut them into *tokens*, and train a small
# transformer to name their origin. The answer in one sentence: it learns
# something real from a thousand pictures in under a minute, and whether that
# is *enough* is a question we can only ask honestly beside a simpler rival.
#
# **You will** simulate a jet from the collision up, read its eight-channel
# image, turn it into tokens, train a classifier, and put an interval on what
# it achieved.
#
# **You need** nothing but this notebook: about a minute on two cores,
# or with a GPU. No physics is assumed; the later notebooks explain
# every word that is only waved at here.

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
import re
import time

import torch
from IPython.display import Markdown, display

from lib import profiles
from lib.data.batches import Batches
from lib.data.images import JetImages
from collider.course import course_files
from course import figures
from collider.simulate import simulate
from lib.cms import CHANNELS
from lib.data.tokens import densify, tokenize
from lib.models.baselines import MassCut
from lib.models.vit import JetViT, ViTConfig

# %%
import drawings.start
from lib.report import plots
from drawings import diagrams
from lib.report.results import Experiment
from lib.evaluation import metrics
from lib.evaluation.predictions import predict
from lib.training.fit import FitSettings, fit
from lib.training.objectives import Supervised
from lib.training.recipe import recipe

profile = profiles.get(PROFILE, DATA)
plots.style()
torch.manual_seed(0)
print(f"PyTorch {torch.__version__}, profile {profile.name}, {DATA} jets")

# %% [markdown]
# ## 1. Two jets, from nothing
#
# We begin with the pictures, and ask afterwards where they come from. Positions
# on them are angles: $\phi$ runs around the beam of protons, $\eta$
# (*pseudorapidity*) along it, zero at right angles to the beam.


# %%
def some_jets(count: int, seed: int) -> JetImages:
    """`count` jets: simulated now, or the first ones of the public file."""
    if DATA == "cms":
        labelled = JetImages.open(course_files(profile)["labelled"])
        return labelled.subset(slice(0, count))
    path = profile.data_dir / f"start_{count}.h5"
    return JetImages.open(simulate("top_qcd", count, path, seed=seed))


# %%
start = time.perf_counter()
pair = some_jets(2 if DATA == "simulated" else 20, seed=11)
print(f"{time.perf_counter() - start:.1f} s for {pair}")
top = int((pair.labels == 1).nonzero()[0])
qcd = int((pair.labels == 0).nonzero()[0])

# %% tags=["figure"]
fig = drawings.start.pair({"a top jet": pair.dense([top])[0],
                           "a QCD jet": pair.dense([qcd])[0]})
plots.save(fig, "00_pair", profile);

# %% [markdown]
# *Figure: two jets. Squares are the energy in the calorimeters, brighter for
# more; circles are the tracks of charged particles, larger for a larger
# momentum.*
#
# On the left are the remains of a top quark, on the right those of an ordinary
# quark or gluon. The simulation that made them has four steps, and notebook 01
# walks through each of them.
#
# 1. **Pythia 8** draws a proton collision: either a pair of top quarks, or a
#    pair of ordinary quarks and gluons (physicists call these *QCD* jets,
#    after the theory that makes them).
# 2. **Pile-up** is added: some twenty-five further, soft
#    collisions that happened
#    in the same crossing of the beams.
# 3. **FastJet** gathers nearby particles into jets with the anti-$k_T$ rule,
#    radius 0.8, and keeps those with transverse momentum above 400 GeV.
# 4. A **detector** model bends, smears and absorbs the particles and writes
#    what its sensors saw onto a grid of 125 × 125 pixels.
#
# The first call also prepares the pool of pile-up collisions, which every
# later notebook shares; that takes longer than the jets.
#
# The object `pair` is a `JetImages`: a list of images that stores only the pixels
# that are not zero, with the label (1 is top, 0 is QCD), the jet's mass and
# its transverse momentum beside them. The mass is what the *reconstruction*
# made of the spray, everything that was clustered included. It is not the
# mass of the particle behind it: a QCD jet has a mass too, because its
# particles fly apart.

# %%
for name, i in {"top": top, "QCD": qcd}.items():
    print(f"{name}: mass {pair.mass[i]:.0f} GeV, pT {pair.pt[i]:.0f} GeV")

# %%
image = pair.dense([top])[0]  # (C, H, W) = (8, 125, 125)

# %% tags=["figure"]
fig = drawings.start.channels(dict(zip(CHANNELS, image)))
fig.suptitle("a simulated top jet" if DATA == "simulated"
             else "a top jet of the public file")
plots.save(fig, "00_jet", profile);

# %% [markdown]
# *Figure: eight panels of one top jet on 125 × 125 pixels in η (vertical) and
# φ (horizontal): isolated dots in the three track channels, small clusters
# in the electromagnetic calorimeter (ECAL), blocks of 5 × 5 pixels in the
# hadronic one (HCAL), and a fine dust of hits in the three pixel layers. Lone
# pixels are painted three pixels wide, or the eye would miss them.*
#
# One panel is one kind of sensor. Tracks are the bent paths of charged
# particles (their momentum, and how far they pass from the collision point).
# The two calorimeters stop particles and measure their energy. The barrel
# pixel layers (BPIX) count hits close to the beam, and since pile-up leaves
# hits everywhere, those panels are never empty. What all panels share is
# that they are mostly dark. Let us put numbers on that, and on the encoding:
# as in the public data, every channel of every image was scaled to integers
# from 0 to 255.

# %%
zeros = (pair.dense(slice(None)) == 0).float().mean().item()
print(f"share of zero pixels: {zeros:.4f}")
assert 0.9 < zeros < 1
assert (image == image.round()).all() and 0 <= image.min()
for name, plane in zip(CHANNELS, image):
    print(f"{name:9s} {int((plane > 0).sum()):5d} hits, "
          f"max {plane.max():.0f}")
assert image.max() in (254, 255)

# %% [markdown]
# ## 2. From image to tokens
#
# (The HCAL's 500 hits are 20 readings: one of its *towers* is written as a block of
# 5 × 5 equal pixels.)
#
# A transformer reads a list of *tokens*. For a picture the usual recipe is to cut
# it into square patches and to call each patch a token: 5 × 5 pixels times 8
# channels are 200 numbers, and 25 × 25 = 625 patches cover the image. But a patch
# in which nothing was measured says nothing, so we leave it out. What remains is a
# list whose length differs from jet to jet; the position of each patch goes with
# it, so that nothing is lost.

# %%
hits = pair.hits([top, qcd])
tokens = tokenize(hits, pair.grid, keep="active")
B, K, F = tokens.features.shape  # jets, tokens, C·5·5 numbers a token
print(f"features {B, K, F}, position {tuple(tokens.position.shape)}")
print("patches with something in them:", tokens.valid.sum(1).tolist())

# %% [markdown]
# "Nothing is lost" is a claim, so we execute it: put the tokens back on the
# grid and compare.

# %%
assert F == 8 * 5 * 5 and K <= 625
torch.testing.assert_close(densify(tokens), pair.dense([top, qcd]))

# %% tags=["figure"]
fig = drawings.start.tokens_on_image(
    {"top": pair.dense([top])[0], "QCD": pair.dense([qcd])[0]})
plots.save(fig, "00_tokens", profile);

# %% [markdown]
# *Figure: the same top jet and a QCD jet, all channels summed; patches of 5 × 5
# pixels that hold no hit are grey squares. In the others single pixels are coloured
# by the sum of their values, and empty pixels stay white.*
#
# The grey patches are work that nobody has to do. For a layer whose cost
# grows with the *square* of the number of tokens, as ordinary attention does,
# dropping them saves more than their share. This course uses attention whose
# cost grows in proportion to the number of tokens: hence its name, jets in
# linear time.

# %% [markdown]
# ## 3. A few more jets, and a rival
#
# Two jets teach nothing. We simulate some more, from another seed (files of
# different seeds have no event in common), and cut them in three: 70 % to
# train on, 10 % to watch the training (*validation*), 20 % to look at once,
# at the end (*test*).

# %%
COUNT = {"smoke": 160, "laptop": 1_600, "full": 6_000}[profile.name]
start = time.perf_counter()
jets = some_jets(COUNT, seed=12)
split = jets.split()
print(f"{len(jets)} jets in {time.perf_counter() - start:.0f} s:",
      *(len(part) for part in split))

# %%
parts = [set(part.tolist()) for part in split]
assert sum(map(len, parts)) == len(jets) == len(set().union(*parts))
tops = jets.labels.float().mean().item()
print(f"share of tops: {tops:.3f}; always guessing the commoner class is "
      f"right for {max(tops, 1 - tops):.1%} of the jets")

# %% [markdown]
# Before training anything, look for the cheapest thing that could work. A
# top quark is heavy, and its decay products carry its mass into the jet. So
# the jet mass alone should tell something. `MassCut` reads off, in slices of
# the mass, which share of the training jets were tops: two histograms and a
# division.

# %%
train, test = split.train, split.test
rival = MassCut(bins=12).fit(jets.mass[train].numpy(),
                             jets.labels[train].numpy())

# %% tags=["figure"]
grid = torch.linspace(40, 320, 281)
fig = drawings.start.mass_alone(jets.mass[train], jets.labels[train],
                                grid, rival.predict(grid.numpy()))
plots.save(fig, "00_mass", profile);

# %% [markdown]
# *Figure: above, the spectrum of the jet mass for QCD and top jets; below, the
# share of tops among training jets of each slice of mass.*
#
# A jet of 90 GeV is rarely a top, one of 190 GeV usually is, and the curve in
# the lower panel says so without any network. One thing is not quite fair in
# this rivalry: the mass was computed from energies that the 8-bit images no
# longer contain. The network has to get by on the picture.

# %% [markdown]
# ## 4. A small transformer
#
# The model embeds each token as a vector, adds a vector for its position, passes
# the list through one or more *blocks* in which tokens exchange information, pools
# the tokens into one vector for the jet (their mean and their maximum, and beside
# them the number of hits, the energy and the width of each channel), and answers
# two questions: top or QCD, and which mass? The figure is drawn from the very
# settings of the model below; notebook 03 builds a larger one of the same kind,
# line by line, and explains its words. ("2 heads of 16" are two exchanges of
# information side by side; "factorised" says that the vector of a position is one
# for its row plus one for its column.)

# %%
config = ViTConfig.of(jets.grid, dim=32, depth=1, heads=2,
                      position="factorised")
torch.manual_seed(0)
model = JetViT(config)
count = sum(p.numel() for p in model.parameters())

# %% tags=["figure"]
fig = diagrams.model_diagram(config, count)
plots.save(fig, "00_model", profile);

# %% [markdown]
# *Figure: boxes from left to right: the image of 8 × 125 × 125 pixels, its
# 625 patches of which only those with a hit go on, scaling and embedding,
# one transformer block, pooling, and two heads for class and mass.*
#
# Images hold values from 1 to 255, masses are hundreds of GeV, and a network
# likes numbers of order one. The scales are fitted on the training jets,
# never on the test, and kept inside the model with its weights.

# %%
batch = jets.batch(train)
model.fit_scales(jets.hits(train), batch.tokens, batch.mass)
with torch.no_grad():
    logits, mass = model(batch.tokens)
assert logits.shape == (len(train), 2) and mass.shape == (len(train),)
print(f"untrained: {(logits.argmax(1) == batch.label).float().mean():.1%} "
      f"right, mass off by {(mass - batch.mass).abs().mean():.0f} GeV")

# %% [markdown]
# Untrained, it guesses. Training means: take a few dozen jets, compute how wrong
# the answers are (the *loss*), and nudge every weight a little in the direction
# that makes the loss smaller; again and again. One nudge is an *update*. Our loss
# is a sum of two. For the class it is the *cross-entropy*, $-\ln p$ of the
# probability that the network gave to the true class: 0 for certainty,
# $\ln2\approx0.69$ for a coin. For the mass it is *Huber's loss* of the error in
# units of the spread of masses: its square when it is small, its size when it is
# large, so that one badly measured jet does not rule the batch. Every so often we
# look at the validation jets, which the nudging never sees, and in the end we keep
# the weights that had the highest AUC there (section 5 says what that is).

# %%
UPDATES = {"smoke": 20, "laptop": 240, "full": 1_000}[profile.name]
settings = FitSettings(updates=UPDATES, batch_size=32, lr=2e-3,
                       every=UPDATES // 6)
objective = Supervised(model)
history = fit(objective, Batches(jets, train, 32, shuffle=True),
              Batches(jets, split.validation, 64), settings)
print(f"{history.train_seconds:.0f} s of training")

# %% tags=["figure"]
fig = drawings.start.training(history, best=history.best_update)
plots.save(fig, "00_training", profile);

# %% [markdown]
# *Figure: losses on training jets (solid) and validation jets (dashed) against
# the number of updates, then AUC and mean error of the mass on validation; a
# dotted line marks the weights that were kept.*
#
# Where the solid line falls and the dashed one no longer follows, the lesson does
# not carry over: the network starts to know its training jets by heart. With few of
# them that happens soon, and a longer training does not help then; more jets would.
# (A point of the solid line is a mean over the 40 updates before it, in which the
# network was still worse. That is why the line begins above the dashed one. And the
# weights were chosen by the AUC, so they need not have the lowest loss.)
#
# Remember the height of the AUC on the validation jets. In a moment the test
# jets will be asked the same.

# %% [markdown]
# ## 5. The test
#
# Now, once, the test jets. Accuracy depends on where one cuts the score, so
# the usual measure is the **AUC**: the probability that a random top gets a
# higher score than a random QCD jet. Guessing gives 0.5, perfection 1. And a
# number from a few hundred jets is uncertain, so it comes with an interval:
# resample the test jets with replacement many times, compute the AUC of each
# resample, take the middle 95 % (the *bootstrap*; notebook 07 builds it by
# hand).
#
# **Prediction before looking**: the network beats guessing by a wide margin.
# It does *not* clearly beat the jet mass, which was handed the answer to half
# of the question.

# %%
seen = predict(objective, Batches(jets, split.validation, 64))
network = predict(objective, Batches(jets, test, 64))
by_mass = metrics.Predictions.of(jets, test, rival.predict(network.m))
found = {name: metrics.summary(p, ["auc"])["auc"]
         for name, p in {"network": network, "mass alone": by_mass}.items()}
checked = metrics.summary(seen, ["auc"])["auc"]
for name, row in {**found, "validation": checked}.items():
    print(f"AUC of {name:10s} {row['mean']:.3f} "
          f"[{row['low']:.3f}, {row['high']:.3f}]")

# %% [markdown]
# The last line is the network again, on the validation jets. That the two agree so
# well is luck: the intervals say that each could have come out 0.05 higher or
# lower. Nor are they on an equal footing. We looked at the validation jets six
# times and kept the weights that did best *there*, and the largest of six noisy
# numbers is too large on average. That is why a number to believe comes from jets
# that nobody has looked at, and this course looks once.

# %% tags=["figure"]
bands = {"network": metrics.roc(network), "mass alone": metrics.roc(by_mass)}
ax = figures.roc(bands, {name: f"AUC {row['mean']:.3f}"
                       for name, row in found.items()})
plots.save(ax, "00_roc", profile);

# %% [markdown]
# *Figure: background rejection, one over the share of QCD jets that pass a cut on
# the score, against the share of tops that pass it; higher is better. Two curves
# with bands of 95 %, the network and the mass alone; chance is the dotted line.*
# (The flat piece of the mass curve is one of its twelve slices: all jets in it have
# the same score.)
#
# Two intervals that overlap do not mean "no difference": both systems saw the
# *same* jets, and luck that helps one often helps the other. So we resample
# the jets once and look at the difference of the two AUCs.

# %%
paired = metrics.compare(network, by_mass, ["auc"])["auc"]
verdict = ("the network is better" if paired["low"] > 0 else
           "the mass alone is better" if paired["high"] < 0 else
           "this test cannot tell them apart")
display(Markdown(
    f"AUC of the network minus AUC of the mass: "
    f"**{paired['difference']:+.3f}** "
    f"[{paired['low']:+.3f}, {paired['high']:+.3f}] on {len(test)} jets: "
    f"**{verdict}**."))

# %% [markdown]
# And the two jets we started with? The network has never seen them (they came
# from another seed). Two jets prove nothing either way; but look where their
# masses lie in the figure of section 3 before you read the answer.

# %%
with torch.no_grad():
    logits, mass = model(pair.batch([top, qcd]).tokens)
for name, i, p, m in zip(("top", "QCD"), (top, qcd), logits.softmax(1), mass):
    print(f"{name}: P(top) = {p[1]:.2f}; mass {m:.0f} GeV predicted, "
          f"{pair.mass[i]:.0f} GeV reconstructed")

# %% [markdown]
# The top has a mass of 98 GeV, where the figure of section 3
# shows hardly any tops, and the rule would call it QCD. The network cannot decide
# (0.53) and takes it for far heavier than it is. The QCD jet it recognises.
#
# ## 6. What we saw
#
# Some seconds of training on about a thousand pictures give a classifier well above
# chance. The intervals are wide, for a few hundred test jets cannot say more; your
# numbers differ from ours by about that much if you change the seed.

# %%
network_auc, mass_auc = found["network"], found["mass alone"]
halves = (network_auc["low"] > 0.5, paired["low"] <= 0)
first, second = ("right" if came_true else "wrong" for came_true in halves)
display(Markdown(
    f"The network reaches an AUC of **{network_auc['mean']:.3f}** "
    f"[{network_auc['low']:.3f}, {network_auc['high']:.3f}], the mass alone "
    f"**{mass_auc['mean']:.3f}**: {verdict}. Of our prediction the first half "
    f"was {first}, the second {second}."))

# %% [markdown]
# The mass is hard to beat because it was computed from energies that the 8-bit
# images no longer contain. The network has to learn it from a thousand
# pictures, and its own estimate (the last panel of the training figure) is rough;
# the rule gets it for nothing. What the network could know beyond the mass, whether the jet
# has three cores, takes more jets to learn. This is one seed: whether a
# transformer *earns its keep* is a question that notebooks 07 and 08 take
# seriously, with more jets, a better model, stronger rivals and several seeds.
#
# ## 7. The map of the course
#
# Each notebook asks one question. This list is made from the files that are
# there, so it never promises what does not exist.

# %%
rows = ["| notebook | question |", "|---|---|"]
for path in sorted((profiles.ROOT / "notebooks").glob("[0-9][0-9]_*.py")):
    title = re.search(r"^# # (?:\d\d · )?(.+)$", path.read_text(), re.M)[1]
    rows.append(f"| [{path.stem}]({path.stem}.ipynb) | {title} |")
display(Markdown("\n".join(rows)))

# %% [markdown]
# Each notebook ends with a recap of its terms. Here are all of them, with the
# notebook that uses the term first.

# %%
first = {}
for path in sorted((profiles.ROOT / "notebooks").glob("[0-9][0-9]_*.py")):
    recap = path.read_text().partition("# ## Recap\n")[2].partition("# ## ")[0]
    for term in re.findall(r"^# \| (.+?) \| .+ \|$", recap, re.M)[1:]:
        first.setdefault(term, f"[{path.stem[:2]}]({path.stem}.ipynb)")
display(Markdown(" · ".join(f"{term} {first[term]}" for term in sorted(
    first, key=str.lower))))

# %% [markdown]
# ## 8. How to run it
#
# `./run_all.sh` in the folder of the repository makes its own environment,
# executes the notebooks in order, and builds figures, results and the report.
# `./run_all.sh --only 07` runs one notebook; `--profile smoke` checks in
# minutes that everything works; `--data cms` takes the public CMS files in
# place of simulated jets, after `python -m lib download labelled`. What was
# trained once is kept in `runs/` and loaded the next time, unless the code
# has changed since. Inside a notebook the same three choices are in the cell
# that sets `PROFILE`, `DATA` and `GRIDS`.

# %%
rows = ["| profile | labelled jets | test jets | model | updates |",
        "|---|---|---|---|---|"]
for name in profiles.NAMES:
    p = profiles.get(name)
    ours = recipe("scratch", p)
    size = ", ".join(f"{k} {ours.model[k]}" for k in ("dim", "depth", "heads")
                     if k in ours.model)
    rows.append(f"| {name} | {p.labelled:,} | {p.test:,} | {size} "
                f"| {ours.fit.updates:,} |")
display(Markdown("\n".join(rows)))

# %% [markdown]
# On **Colab**, open a notebook through its badge: its first code cell fetches
# the repository and the few packages that Colab lacks. It never replaces the
# PyTorch that is there. A GPU is used where there is one; two cores are
# enough.
#
# ## Exercises
#
# **Quick.** Change `seed=11` in section 1 and look at five top jets. How many
# show three separate cores in the HCAL panel, as a top's three quarks should
# make them?
#
# **Medium.** Train on a quarter of the training jets (`train[::4]`), with the
# same number of updates. Before you run it: which curve of the training
# figure changes more, and by how much does the AUC fall? Is the fall larger
# than the interval?
#
# **Project.** The network does not know the mass, the mass rule does not know
# the picture. Add the two logits, $\ln p/(1-p)$ each, and use the sum as
# score. Is it better than either, on the same test jets, paired?
#
# <details><summary>Solutions</summary>
#
# *Quick.* Few do. At this boost the quarks are often closer together than one
# HCAL tower can resolve, one of them may be soft or outside the jet, and
# pile-up adds blobs of its own. This is why the problem is one for statistics
# and not for the eye.
#
# *Medium.* The training loss falls *faster* (fewer jets are easier to learn by
# heart), the validation loss should turn up earlier. A fall of the AUC by a
# few hundredths would be about the width of the interval from a few hundred
# test jets: a paired comparison, or a larger test, is needed to be sure.
#
# *Project.*
#
# ```python
# import numpy as np
#
# def logit(p):
#     p = p.clip(1e-4, 1 - 1e-4)
#     return np.log(p / (1 - p))
#
# both = logit(network.score) + logit(by_mass.score)
# together = metrics.Predictions.of(jets, test, 1 / (1 + np.exp(-both)))
# gain = metrics.compare(together, by_mass, ["auc"])["auc"]
# ```
#
# The sum is what one would do if, within each class, the two knew independent
# things. They do not quite (the network sees much of the mass in the picture),
# so fitting two weights on the *validation* jets is better than adding.
# </details>
#
# ## Recap
#
# | term | meaning |
# |---|---|
# | jet | spray of particles from one quark, gluon or boosted heavy particle |
# | top, QCD | the two classes: label 1 and label 0 |
# | jet mass | invariant mass of everything clustered, pile-up included |
# | pile-up | further collisions in the same crossing of the beams |
# | channel | one kind of sensor: tracks (3), ECAL, HCAL, pixel layers (3) |
# | token | a patch of 5 × 5 pixels that holds at least one hit |
# | update | one step of the optimiser on one batch |
# | AUC | probability that a random top scores above a random QCD jet |
#
# ## References
#
# - C. Bierlich et al., *A comprehensive guide to the physics and usage of
#   PYTHIA 8.3*, SciPost Phys. Codebases 8 (2022).
# - M. Cacciari, G. Salam, G. Soyez, *FastJet user manual*, Eur. Phys. J. C 72
#   (2012) 1896; *The anti-kt jet clustering algorithm*, JHEP 04 (2008) 063.
# - M. Andrews et al., *End-to-end jet classification of boosted top quarks
#   with the CMS Open Data*, arXiv:2104.14659.
# - A. Dosovitskiy et al., *An image is worth 16x16 words*, arXiv:2010.11929.
# - C. Zheng, *L2ViT*, arXiv:2501.16182.

# %%
# The results of this notebook.
experiment = Experiment(
    "00_start_here", profile,
    uses=["sample.top_qcd", "fit", "baselines"])
experiment.add_run("tiny", network, labels=len(train), parameters=count,
                   train_seconds=history.train_seconds)
experiment.add_run("mass_only", by_mass, labels=len(train))
experiment.compare("tiny", "mass_only", ["auc", "accuracy"])
experiment.values = {"sample": {"jets": len(jets), "zeros": zeros}}
print(experiment.save().name)
