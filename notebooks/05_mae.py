# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#     cell_metadata_filter: tags,-all
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 05 · What is there to guess in a picture that is almost empty?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/05_mae.ipynb)
#
# Cover three quarters of a photograph and ask a network to paint what is under
# the cover: to do it well it has to know what faces and trees look like. That
# is masked autoencoding, and it needs no labels. Now cover three quarters of a
# jet image. Nearly all of what is hidden is *nothing*, and a network that
# paints nothing is nearly always right. A published study found that such
# pretraining made its jet classifier worse, and gave two reasons. We take the
# method apart, one part at a time, and mend it. In one sentence: *a
# reconstruction is worth what it knows beyond the trivial answer, and whether
# that helps anybody else has to be measured separately.*
#
# **You will** mask a jet by hand, write the masked step and prove that nothing
# leaks, derive two reconstruction losses and what trivial answers cost in each, find
# the weights that never get a gradient, measure which pixels pull at the encoder,
# and judge R1's variant, a mended one and a denoising autoencoder, all of one
# length, against encoders of random weights.
#
# **You need** notebook 02 (patches and tokens) and 04 (probes, and the judge); about
# 3 minutes on two cores, 1 with a GPU.

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
import copy

import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display

from lib import profiles
from lib.data.images import JetImages
from collider.course import course_files
from lib.data.tokens import TokenBatch, densify
from lib.models.embedding import patch_sums
from lib.models.vit import R1, JetViT, ViTConfig
import drawings.mae
from lib.cms import CHANNELS
from lib.report import plots
from lib.report.numbers import (against, markdown_table, verdict,
                                with_interval)
from lib.report.results import Experiment
from lib.evaluation import metrics, probes
from lib.evaluation.metrics import Predictions
from lib.evaluation.predictions import resolve_precision
from lib.training import runs
from lib.training.split import indices, make_batches
from lib.training.masked import expected, reconstruction
from lib.training.recipe import build, passes, recipe

# %%
profile = profiles.get(PROFILE, DATA)
USES = ["sample.top_qcd", "objective.mae", "objective.denoising", "views",
        "probes"]  # parts of results/contract.json
experiment = Experiment("05_mae", profile, USES)
plots.style()
print(f"PyTorch {torch.__version__}, profile {profile.tag}")

# %% [markdown]
# ## 1. Fill in the blanks
#
# A masked autoencoder (MAE, arXiv:2111.06377) has two parts. The **encoder**
# is the network we want: it gets the patches that are left, and *only* those.
# What it makes of each patch, a vector of 64 numbers, is the patch's *code*.
# The **decoder** is scaffolding: it gets the codes at the places in view, a
# learned vector, the *mask token*, at the hidden ones, every place with its
# position, and paints the hidden patches.
#
# The loss looks at hidden patches alone, for copying what is in view is no
# art. Afterwards the decoder is thrown away. What is hoped for: who can
# complete a jet has understood how jets are built, and that understanding
# sits in the encoder.
#
# The study that this course starts from (R1) reports 86.05 % accuracy after
# MAE pretraining, against 89.10 % from scratch: three points *lost*, with one
# seed. It names two reasons:
#
# 1. *98.8 % of the pixels are zero*, so the loss is dominated by background
#    that is trivial to predict;
# 2. masking breaks the grid of patches that local convolutions (LCM) need, so
#    these are *skipped* in pretraining and start random in fine-tuning.
#
# Both are plausible, and neither was tested. As settings of one program they
# can be: what is hidden, how an answer is scored, and what becomes of the
# convolutions.
#
# | arm | hidden | convolutions | loss |
# |---|---|---|---|
# | a, as R1 | 75 % of all patches | skipped | mean square of every pixel |
# | e, mended | 75 % of the **active** patches | **alive**, mask tokens on the grid | **two parts**: hit or not, and how large |
#
# Beside them a **denoising** autoencoder, the masked one's older sibling. Model,
# jets, seed and length are equal for all three: one pass over the unlabelled jets.
# (The model is that of notebook 07, not R1's of forty times its size.)

# %%
files = course_files(profile)
labelled = JetImages.open(files["labelled"])
# Without the large public file the labelled training jets serve.
unlabelled = JetImages.open(files["unlabelled"] or files["labelled"])
grid, seed = unlabelled.grid, profile.seeds[0]

# %% [markdown]
# A recipe says how an arm is trained: model, objective, length. `passes` stretches it
# to one pass over the jets.

# %%
RECIPE = {"a": "r1_mae", "e": "mae", "dae": "dae"}
LABEL = {"a": "a, as R1", "e": "e, mended", "dae": "denoising",
         "random": "random encoder", "summary": "32 sums, no encoder"}
KEEP = recipe("mae", profile).tokens


def arm(name):
    """Recipe of an arm: one pass over the unlabelled jets."""
    return passes(RECIPE[name], profile, 1.0, seed)

# %% [markdown]
# Some jets are held out (`check`): the loss is judged on them. `untrained`
# gives an arm before its first update, the same weights for all; what is put
# together there is encoder, decoder and loss, the *objective*.

# %%
learn, check = indices(arm("e"), unlabelled)  # to learn from, held out


def untrained(name):
    """The objective of an arm before its first update."""
    torch.manual_seed(seed)
    return build(arm(name), unlabelled, learn).eval()

# %% [markdown]
# Two of the three arms hide patches. The assertion says in the words of the
# settings what makes the mended one different.

# %%
as_r1, mended = untrained("a"), untrained("e")
assert (mended.mask, mended.lcm, mended.reconstruct) == (
    "active", "token", "two_part")
print(f"{len(learn):,} jets to learn from, {len(check)} held out; "
      f"{arm('e').fit.updates} updates of {arm('e').fit.batch_size} jets")

# %% [markdown]
# ## 2. What is hidden
#
# The recipe fits in five lines: list the places in play, shuffle, hide the
# first 75 %. The only question is which places are *in play*: all of them, as
# on photographs, or those that hold something.
#
# A word on "hold". With the two-scale tokens of notebook 02 there are 625
# patches and 25 coarse blocks, which hold what the pixel layers saw
# elsewhere. So a patch counts as *active* here if it holds a track or
# calorimeter energy; one with hits of the pixel layers alone has given them
# to its block and counts as empty. (On R1's dense image any hit would count,
# and fewer than half of the patches would be empty.)

# %%
def hide_by_hand(active, everywhere, ratio=0.75):
    """active (S,) bool -> which places of one jet are hidden (S,)."""
    pool = torch.ones_like(active) if everywhere else active
    places = pool.nonzero().squeeze(1)
    shuffled = places[torch.randperm(len(places))]
    hidden = torch.zeros_like(active)
    hidden[shuffled[:round(ratio * len(places))]] = True
    return hidden


# %% [markdown]
# Try it on 64 held-out jets. `tokens` lists the active patches of each jet with their
# positions; we spread them over the 650 places, true where something is.

# %%
tokens = unlabelled.batch(check[:64], KEEP).tokens
places = mended.hide(tokens)[0].shape[1]
active = torch.zeros(len(tokens), places + 1, dtype=torch.bool)
where = tokens.position.where(tokens.valid, places)
active = active.scatter_(1, where, True)[:, :places]  # (B, S)

# %% [markdown]
# Does the course hide as many as we do, and nothing that is out of play?
# Which ones is chance, so we compare numbers.

# %%
for objective in (as_r1, mended):
    pool, hidden = objective.hide(tokens)
    all_of_them = objective.mask == "all"
    mine = torch.stack([hide_by_hand(x, all_of_them) for x in active])
    assert torch.equal(pool, active | all_of_them)
    assert not (hidden & ~pool).any()
    assert torch.equal(hidden.sum(1), mine.sum(1))  # as many, others
print(f"{places} places, {active.sum(1).float().mean():.0f} of them active "
      "in an average jet")

# %% [markdown]
# About 200 of 650 places are active. What does a mask over *all* of them
# cost? Count what it hides: patches, and the pixels in them. `reconstructed`
# returns the decoder's answer, the target, the places, and which of these are
# asked for.

# %%
torch.manual_seed(0)
share = {}
for name, objective in (("a", as_r1), ("e", mended)):
    _, hidden = objective.hide(tokens)
    with torch.no_grad():
        _, target, _, asked = objective.reconstructed(tokens)
    share[name] = {
        "empty_patches": (hidden & ~active).sum() / hidden.sum(),
        "empty_pixels": (target[asked] == 0).float().mean(),
        "active_hidden": (hidden & active).sum() / active.sum()}
experiment.values["hidden"] = share

# %%
head = ["arm", "hidden patches: empty", "pixels asked for: empty",
        "active patches: hidden"]
display(Markdown(markdown_table(head, [
    [LABEL[n], *(f"{x:.1%}" for x in row.values())]
    for n, row in share.items()])))

# %% [markdown]
# Under R1's mask 68 % of what is hidden is empty sky, and of the pixels that the
# decoder has to paint 98.8 % are zero. Masking active patches alone leaves 96.3 %: a
# patch with a hit is still nearly empty. So the new mask cures less than one might
# hope, and the loss has to do the rest. The last column is equal: the encoder is not
# shown more of the jet in one arm than in the other.

# %%
_, everywhere = as_r1.hide(tokens)
_, chosen = mended.hide(tokens)


def plane(x):
    """The places (B, S) of the first jet on the grid, blocks left out."""
    return x[0, :grid.patches].view(grid.rows, grid.columns).int()

# %% tags=["figure"]
fig = drawings.mae.masks(plane(active), {
    "75 % of all patches": plane(everywhere),
    "75 % of the active patches": plane(chosen)})
plots.save(fig, "05_masks", profile);

# %% [markdown]
# *Figure: the patches of one jet under both masks: empty (white where in view,
# grey where hidden) and holding something (dark where in view, light where
# hidden).*
#
# The encoder sees about as much of the jet in both cases. The difference is in
# the question. On the left the decoder is asked hundreds of times about empty
# sky; on the right every question is about a place where something is, and the
# list of these places is given away with the question. That is a hint, and a
# large one: it draws the outline of the jet. What remains to be guessed is what
# kind of thing is there, and how much.
#
# ### The masked step
#
# With the mask the rest is short: what is left goes through the encoder,
# packed; the decoder gets the codes at their places and a mask token at the
# others, and paints. `S` counts places, `K` tokens, `N` the places that are
# asked for.
#
# First the packing. Tokens in view are sorted to the front, and the list is
# cut at the length of the longest jet: the encoder works on a quarter of the
# tokens, which is why masked pretraining is cheap.

# %%
def in_view(tokens, hidden):
    """Tokens (B, K) without those at the places hidden (B, S), packed."""
    left = tokens.valid & ~hidden.gather(1, tokens.position)  # (B, K)
    order = (~left).int().argsort(dim=1, stable=True)
    order = order[:, :int(left.sum(1).max())]  # (B, K'): those in view first
    width = tokens.features.shape[-1]
    return TokenBatch(
        tokens.features.gather(1, order[..., None].expand(-1, -1, width)),
        tokens.position.gather(1, order), left.gather(1, order), grid)

# %% [markdown]
# Then the step. In the blocks of the encoder local convolutions look at neighbours
# on the grid. Where a neighbour is hidden R1 has no answer and skips them; in the
# mended arm they find a mask token there (`fill`).

# %%
def masked_step(objective, tokens):
    """Tokens (B, K) -> the decoder's answer (B, N, outputs), its places."""
    pool, hidden = objective.hide(tokens)  # (B, S): in play, covered
    seen, fill = in_view(tokens, hidden), None
    if objective.mask_token is not None:
        fill = hidden[:, :grid.patches, None] * objective.mask_token
    local = objective.lcm != "skip"
    code = objective.model.encode(seen, local, fill)  # (B, K', D)
    return objective.decoder(code, seen, pool, local)

# %% [markdown]
# Is it what the course trains? The same seed hides the same places, and the answers
# must agree wherever a question was asked.

# %%
for objective in (as_r1, mended):
    with torch.no_grad():
        torch.manual_seed(7)
        mine, *_ = masked_step(objective, tokens)
        torch.manual_seed(7)
        output, _, _, asked = objective.reconstructed(tokens)
    torch.testing.assert_close(mine[asked], output[asked],
                               rtol=1e-4, atol=1e-4)
print("the step on this page is the course's")

# %% [markdown]
# ## 3. Nothing leaks
#
# If the content of a hidden patch reached the encoder by any path (a
# convolution, a pooled sum, a padded token), the task would be a riddle with
# the solution on the back. Two tests: put something absurd into every hidden
# patch, and the encoder must not notice; do the same to a patch in view, and it
# must.
#
# We listen at the encoder's last layer, with a *hook*: a function that PyTorch
# calls with whatever a layer puts out. Then we ask for the targets and, from the
# places asked about, for what was hidden.

# %%
def overheard(objective, tokens):
    """Encoder output, targets and hidden places, with the same mask."""
    heard = []
    ear = objective.model.norm.register_forward_hook(
        lambda module, args, out: heard.append(out))
    torch.manual_seed(1)
    with torch.no_grad():
        _, target, place, asked = objective.reconstructed(tokens)
    ear.remove()
    hidden = torch.zeros(len(tokens), places, dtype=torch.bool)
    hidden = hidden.scatter_(1, place, asked)
    valid = in_view(tokens, hidden).valid  # not the padding
    return heard[0] * valid.unsqueeze(-1), target, hidden

# %% [markdown]
# The absurdity: 99 in every pixel, where scaled pixels are of order one.

# %%
def with_absurd(tokens, where):
    """Tokens with 99 in every pixel of the places (B, S)."""
    change = where.gather(1, tokens.position) & tokens.valid
    features = tokens.features.masked_fill(change.unsqueeze(-1), 99.0)
    return TokenBatch(features, tokens.position, tokens.valid, grid)


# %% [markdown]
# Three statements for each objective. The middle one makes sure that the absurdity
# arrived at all: the targets, which are what was hidden, have changed.

# %%
some = unlabelled.batch(check[:8], KEEP).tokens
for objective in (as_r1, mended):
    code, target, hidden = overheard(objective, some)
    other, shifted, _ = overheard(objective, with_absurd(some, hidden))
    torch.testing.assert_close(code, other)  # it has not noticed
    assert not torch.allclose(target, shifted)  # but the solution is new
    seen, *_ = overheard(objective, with_absurd(some, ~hidden))
    assert not torch.allclose(code, seen)
print("hidden patches do not reach the encoder, those in view do")

# %% [markdown]
# ## 4. Two ways to score an answer
#
# **Mean square.** With $t$ the (scaled) pixels of a hidden patch and $o$ the
# decoder's answer,
#
# $$ L_{\mathrm{mse}} = \bigl\langle (o - t)^2 \bigr\rangle ,$$
#
# the mean over all pixels of all hidden patches. One number has to say two
# things at once: *is there a hit* and *how large is it*. Where hits are rare
# and nothing more is known, the best answer is a small fraction of a hit,
# everywhere: a fog.
#
# In numbers: let one pixel in 27 hold a hit of size 1, as in the mended arm.
# *Nothing* costs $1/27=0.0370$. The best constant, 0.037 everywhere, costs
# $\frac1{27}\cdot\frac{26}{27}=0.0357$. All that a constant can know about
# the rate of hits is worth 4 %.
#
# **Two parts.** Ask separately. The decoder gives each pixel a logit $\ell$ and
# a value $v$. With $h = [t \neq 0]$
#
# $$ L_{\mathrm{two}} = \bigl\langle \mathrm{BCE}(\ell, h) \bigr\rangle
#    + \frac{\sum h\,(v - t)^2}{\sum h} , $$
#
# binary cross-entropy (minus the logarithm of the probability given to what
# is the case) over all pixels, plus the square over the pixels *that have a
# value*. The second mean is taken over hits alone, so the empty pixels cannot
# drown it. (A statistician would call this a hurdle model.)
#
# The same numbers: *nothing*, said as a probability of 0.001, costs
# $\frac1{27}\ln 1000=0.26$ for the hit that it denies, and 1 for its value.
# Who knows the rate and the size pays
# $-\frac1{27}\ln\frac1{27}-\frac{26}{27}\ln\frac{26}{27}=0.16$ and 0. Here
# the trivial knowledge is worth nearly all, and what is left to learn stands
# out.
#
# The answer for the pixel itself is the product $\sigma(\ell)\,v$, `expected`
# in the course's code, so it can be judged by the mean square, too.

# %%
def by_hand(output, target, asked, kind):
    o, t = output[asked], target[asked]
    if kind == "mse":
        return (o - t).square().mean()
    logit, value = o.chunk(2, -1)
    p, hit = logit.sigmoid(), t != 0
    entropy = -torch.where(hit, p.log(), (1 - p).log()).mean()
    return entropy + (value - t)[hit].square().mean()

# %% [markdown]
# The loss by hand and the course's, with the untrained decoder's answers:

# %%
for objective in (as_r1, mended):
    kind = objective.reconstruct
    with torch.no_grad():
        output, target, _, asked = objective.reconstructed(tokens)
    loss, parts = reconstruction(output, target, asked, kind)
    torch.testing.assert_close(loss, by_hand(output, target, asked, kind))
    print(kind, {"untrained": round(loss.item(), 4),
                 **{k: round(v.item(), 4) for k, v in parts.items()}})

# %% [markdown]
# ### The price of a trivial answer
#
# In the second printed line `occupancy` and `value` are the two terms of the
# loss, and `mse…` is the square of the expected pixel, with its own trivial
# answers. Why is an untrained network not at $\ln 2$ in the first term? Its
# bias starts at $\ell=-3$, a hit probability of five per cent: it is born
# knowing that hits are rare.
#
# `zero` and `mean` in these lines are what two answers without any insight
# would cost on the very same pixels. *Zero*: there is nothing (with the
# two-part loss, a hit has probability 0.001, for a flat no would cost
# infinitely much). *Mean*: for each of the pixels of a patch its average over
# the batch, the same for all patches. They follow from the targets alone.
# First the mean square:

# %%
def trivial_mse(t):
    """Mean squares of two constant answers for the pixels t (n, F)."""
    return {"zero": t.square().mean(), "mean": (t - t.mean(0)).square().mean()}

# %% [markdown]
# In two parts a constant answer is a probability and a value for each pixel, and
# `by_hand` says what it costs.

# %%
def trivial_two_part(t):
    """Two-part losses of two constant answers for the pixels t (n, F)."""
    hit = t != 0
    rate = hit.float().mean(0).clamp(1e-6, 1 - 1e-6)  # (F,)
    value = t.sum(0) / hit.sum(0).clamp(min=1)
    answers = {"zero": (torch.full_like(rate, 1e-3), 0 * value),
               "mean": (rate, value)}
    return {name: by_hand(torch.cat([p.logit(), v]).expand(len(t), -1), t,
                          slice(None), "two_part")
            for name, (p, v) in answers.items()}

# %% [markdown]
# The course computes the same beside every loss:

# %%
TRIVIAL = {"mse": trivial_mse, "two_part": trivial_two_part}
for kind in ("mse", "two_part"):
    wide = torch.cat([target, target], -1) if kind == "two_part" else target
    _, parts = reconstruction(wide, target, asked, kind)
    for name, cost in TRIVIAL[kind](target[asked]).items():
        torch.testing.assert_close(cost, parts[name], rtol=1e-3, atol=1e-6)

# %% [markdown]
# Now both masks with both losses. What does the step from *zero* to *mean* save?

# %%
prices = {}
for objective in (as_r1, mended):
    with torch.no_grad():
        _, target, _, asked = objective.reconstructed(tokens)
    for kind, trivial in TRIVIAL.items():
        cost = {k: v.item() for k, v in trivial(target[asked]).items()}
        prices[f"{objective.mask}_{kind}"] = cost
        print(f"mask {objective.mask:6s} {kind:8s} zero {cost['zero']:.4f}, "
              f"mean {cost['mean']:.4f}: "
              f"{1 - cost['mean'] / cost['zero']:.0%} saved")
experiment.values["trivial"] = prices

# %% [markdown]
# This is why a reconstruction loss on its own says nothing. With R1's mask and loss
# an answer of *nothing at all* has a mean square of 0.0117, which looks like the
# end of a successful training, and the mean saves 2 % of it. It is the scale that
# is small, not the error: as a share of what there is to explain it is everything.
# In the two-part loss with the mended mask zero costs 1.26 and the mean 0.45. That
# is the example of one pixel in 27 again, 1.26 and 0.16, but for the scatter of
# real hits in size, which no constant can know. In the rest of this notebook a loss
# never stands without these two.
#
# ## 5. Weights that are never asked
#
# R1's second reason can be checked with one backward pass: which weights of the
# encoder get a gradient?

# %%
HEADS = ("class_head", "mass_head", "hidden", "flow")


def part_of(name):
    """Which part of the encoder a weight belongs to."""
    return ("convolutions" if "lcm" in name else "heads and pooling"
            if name.split(".")[0] in HEADS else "all else")

# %% [markdown]
# A weight counts as asked if its tensor has a gradient that is not zero, for a batch
# of eight jets.

# %%
def asked_for(objective):
    """{part: (weights, weights with a gradient)} of the encoder."""
    objective.loss(unlabelled.batch(check[:8], KEEP))[0].backward()
    found = {}
    for name, p in objective.model.named_parameters():
        total, moved = found.get(part_of(name), (0, 0))
        grad = p.grad is not None and bool((p.grad != 0).any())
        found[part_of(name)] = (total + p.numel(), moved + grad * p.numel())
    objective.zero_grad()
    return found

# %%
for name, objective in (("a", as_r1), ("e", mended)):
    found = asked_for(objective)
    print(f"{LABEL[name]:12s}", {k: f"{m:,} of {n:,} weights"
                                 for k, (n, m) in found.items()})
    assert (found["convolutions"][1] == 0) == (objective.lcm == "skip")
    assert found["heads and pooling"][1] == 0 < found["all else"][1]

# %% [markdown]
# R1's model is larger. How many of its weights would start at random in
# fine-tuning?

# %%
published = JetViT(ViTConfig.of(grid, **R1))
left = sum(p.numel() for n, p in published.named_parameters() if "lcm" in n)
print(f"R1's model: {left:,} weights of convolutions, "
      f"{left / sum(p.numel() for p in published.parameters()):.1%} of all")
experiment.values["without_gradient"] = {
    k: {"weights": n, "trained": m} for k, (n, m) in asked_for(as_r1).items()}

# %% [markdown]
# The heads belong to the later task and are not asked by any pretraining
# here, nor is the map behind the energy-weighted pooling, which works on
# whole jets.
#
# The convolutions are another matter: in arm a none of their 3,072 weights
# gets a gradient, so R1's statement is right as a statement about the code.
# They are few, but they sit *between* the layers that are trained. A
# fine-tuning that starts from arm a switches on, in the middle of a trained
# network, a part with random weights. How much does that disturb? A model
# whose convolutions have been taken out tells.

# %%
def without_convolutions(model):
    """A copy in which the blocks have no local convolution."""
    model = copy.deepcopy(model)
    for block in model.blocks:
        block.lcm = None
    return model

# %% [markdown]
# The features of 256 jets with and without, as a distance in units of how far
# different jets lie apart:

# %%
def disturbance(model):
    """How far the convolutions move the features, relative to their spread."""
    a, b = (probes.embed(m, unlabelled, check[:256])
            for m in (model, without_convolutions(model)))
    return np.linalg.norm(a - b) / np.linalg.norm(b - b.mean(0))


print(f"untrained: the convolutions move the features by "
      f"{disturbance(as_r1.model):.1f} times their spread over jets")

# %% [markdown]
# They move the features further than jets differ from each other. Whether that
# *harms* is another question, for a shift that is the same for all jets does not.
# Section 11 comes back to it.
#
# ## 6. The experiment
#
# Three arms, one seed, one pass each. In the **denoising autoencoder** (Vincent et
# al., 2008) no patch is hidden; instead the jet is damaged the way a detector
# damages jets (noise on cells, readings lost, pile-up exchanged far from the axis),
# and the undamaged jet is to come out. The encoder sees whole jets, as it will
# later, its convolutions live, and the loss is the two-part one.
#
# **Prediction**, before the run. Arm a learns little more than the trivial
# answers. The mended arm does, for *active* patches change the question itself. As
# for use: a task that asks for single pixels need not care about the shape of a jet,
# so even the mended arm may end not far above random weights. What would count
# against us: arm a as good as e, or a random encoder as good as both.

# %%
monitor = runs.probe(profile, labelled)
live = {name: runs.pretrain(f"04-{RECIPE[name]}-{seed}", arm(name), profile,
                            unlabelled, labelled, log=lambda line: None)
        for name in RECIPE}

# %%
NAME = {name: LABEL[name] for name in live}
for name, run in live.items():
    print(f"{LABEL[name]}: {run.history.updates} updates, "
          f"{run.train_seconds:.0f} s")

# %% tags=["figure"]
a, e, dae = (list(run.history) for run in live.values())
fig = drawings.mae.losses({
    "as R1, mean square": (a, "val_"), "mended, two-part loss": (e, "val_"),
    "denoising, two-part loss": (dae, "val_"),
    "denoising, mean square": (dae, "val_mse")})
plots.save(fig, "05_losses", profile);

# %% [markdown]
# *Figure: losses on held-out jets against updates, each with the cost of
# predicting zero and of predicting the mean on the same pixels (dashed and
# dash-dotted). Below right, the denoiser's mean square, also beside handing back
# the damaged jet (dotted).*
#
# The four panels have different units and cannot be compared in height, only
# each with its grey lines. In the table all are expressed in mean squares, as a
# share of the trivial answers' on the same pixels.

# %%
def relative(run):
    """Held-out losses as fractions of those of trivial answers."""
    row = next(r for r in run.history
               if r["update"] == run.history.best_update)
    if "val_mse" not in row:  # arm a: its loss is the mean square
        row = row | {f"val_mse_{k}": row[f"val_{k}"] for k in ("zero", "mean")}
    mse = row.get("val_mse", row["val_loss"])
    found = {f"loss_to_{k}": row["val_loss"] / row[f"val_{k}"]
             for k in ("zero", "mean")}
    return found | {f"mse_to_{k}": mse / row[f"val_mse_{k}"]
                    for k in ("zero", "mean", "input") if f"val_mse_{k}" in row}

# %% [markdown]
# At the weights that were kept:

# %%
found = {name: relative(run) for name, run in live.items()}
experiment.values["losses"] = found
COLUMNS = {"loss_to_zero": "loss / zero", "loss_to_mean": "loss / mean",
           "mse_to_mean": "square / mean", "mse_to_input": "square / input"}
display(Markdown(markdown_table(["live", *COLUMNS.values()], [
    [NAME[n], *(round(row[k], 3) if k in row else "–" for k in COLUMNS)]
    for n, row in found.items()])))

# %% [markdown]
# One minus such a number is the share of what the trivial answer left open
# that the network explains. **The prediction was half right.** Arm a does
# learn more than the trivial answers, 12 % of the mean's square (0.878); that
# is little, and not nothing. The mended arm explains 29 % of its own loss
# (0.707). In mean squares, however, on its own harder pixels, it is where arm
# a is: 0.894. What it has learned beyond that is *whether* a pixel is hit,
# which a mean square hardly pays for.
#
# The denoiser stands at 0.541, because it sees most of the jet. Its last
# column is 1.8, above one: handing the damaged jet back would have been the
# better answer in mean square. Most of its pixels are unharmed, and a decoder
# has first to learn to pass them on.
#
# ## 7. Pictures
#
# One held-out jet, through arm a and through the mended one. We show the
# calorimeters (ECAL and HCAL, summed) in the scaled units in which the network
# works; here one HCAL tower is exactly one patch, hence the squares. At the
# places in view the reconstruction shows what was in view.

# %%
def picture(values, place, keep):
    """Scaled pixels (N, F) of patches of one jet -> its calorimeters (H, W)."""
    keep = keep & (place < grid.patches)  # coarse blocks have no pixels
    part = TokenBatch(values[None], place.clamp(max=grid.patches - 1)[None],
                      keep[None], grid)
    return densify(part)[0, 3:5].sum(0)  # ECAL, HCAL

# %% [markdown]
# Three pictures of one jet: what is true, what is in view, and what comes
# back.

# %%
def pictures(objective, tokens):
    torch.manual_seed(2)
    with torch.no_grad():
        output, target, place, asked = objective.reconstructed(tokens)
    answer = expected(output, objective.reconstruct)[0]
    target, place, asked = target[0], place[0], asked[0]
    covered = picture(torch.ones_like(target), place, asked) > 0
    truth = picture(target, place, torch.ones_like(asked))
    guess = picture(answer, place, asked).clamp(min=0)
    return {"the jet": truth, "in view": truth.masked_fill(covered, np.nan),
            "reconstruction": torch.where(covered, guess, truth)}


# %% [markdown]
# The objectives as trained, and a jet that none of them learned from:

# %%
trained = {name: run.objective() for name, run in live.items()}
one = unlabelled.batch(check[:1], KEEP).tokens
UNIT = "scaled value, ECAL + HCAL"

# %% tags=["figure"]
fig = drawings.mae.reconstructions(
    {NAME[n]: pictures(trained[n], one) for n in ("a", "e")}, UNIT)
plots.save(fig, "05_reconstructions", profile);

# %% [markdown]
# *Figure: a held-out jet (left), what the encoder sees of it (middle, hidden
# patches grey) and the reconstruction (right); above arm a, below the mended
# arm; colours follow the square root.*
#
# Both columns on the right are averages over what *could* be there, so they are
# smoother than any jet: an expected tower of half the height in two places, not one
# tower in the right place. (In arm a negative answers are shown as zero.) The lower
# row profits from its hint, the list of the active patches. The cross through the
# middle of the upper one is no physics. Most likely it comes from the positions:
# the place of a patch is given as a vector for its row plus one for its column, and
# of "middle" the decoder has learned "middle row" and "middle column" first.
#
# Try it: change `check[:1]` to another jet. Does either arm ever paint a second core
# that is wholly hidden?
#
# The denoiser has another riddle. Its column in the middle is complete, but not
# true.

# %%
def restored(objective, batch):
    """Clean, damaged and restored calorimeters of one jet."""
    with torch.no_grad():
        output, target, place, asked = objective.reconstructed(batch)
        damaged = objective.model.scale(batch.tokens.features)[0]
    guess = expected(output, objective.reconstruct)[0]
    return {"the jet": picture(target[0], place[0], asked[0]),
            "damaged": picture(damaged, batch.tokens.position[0],
                               batch.tokens.valid[0]),
            "restored": picture(guess, place[0], asked[0]).clamp(min=0)}


# %% [markdown]
# The damage is that of the training, drawn anew: a fifth of the readings lost, noise,
# and foreign hits far from the axis.

# %%
torch.manual_seed(0)
_, batches = make_batches(arm("dae"), unlabelled)
damaged = unlabelled.batch(check[:64], KEEP, augment=batches.augment)

# %% tags=["figure"]
fig = drawings.mae.reconstructions(
    {NAME["dae"]: restored(trained["dae"], damaged)}, UNIT)
plots.save(fig, "05_denoising", profile);

# %% [markdown]
# *Figure: the same jet (left), damaged (middle), and as the denoiser gives it back
# (right).*
#
# The cores come back in the right place but far too dim, and where nothing was a
# faint value remains, a chance of a hit times its height. The single crystals are
# gone. That is how a mean square of 1.8 times the damaged jet's looks.
#
# ## 8. Does it know more than a map?
#
# `zero` and `mean` are weak rivals. A better one costs nothing either: a
# *map* of how often each pixel of each place is hit, given that the place
# holds something. It knows that energy lies in the middle and that pixel
# layers fill up with η, but nothing of the jet at hand.
#
# **Prediction**: a network that has looked at a quarter of the jet knows more
# than the map. We rank all pixels of hidden, active patches by the
# probability that the network gives, and by the map's, channel by channel;
# the AUC is the chance that a pixel with a hit is ranked above one without.
#
# The map is a count. Where a place was rarely seen it is drawn towards the
# mean over all places, as if five more jets had shown that.

# %%
def occupancy_map(index, weight=5.0):
    """P(hit) of every pixel of every place, given that it is active: (S, F)."""
    hit, seen = torch.zeros(places, grid.patch_dim), torch.zeros(places, 1)
    for part in index.split(250):
        t = unlabelled.batch(part, KEEP).tokens
        where = t.position[t.valid]
        hit.index_add_(0, where, (t.features[t.valid] != 0).float())
        seen.index_add_(0, where, torch.ones(len(where), 1))
    anywhere = hit.sum(0) / seen.sum()  # drawn towards it where few were seen
    return (hit + weight * anywhere) / (seen + weight)

# %% [markdown]
# The network's scores: in two parts the logit, in arm a the painted value itself.

# %%
def asked_about(objective, tokens):
    """Scores, hits (n, F) and places (n,) of hidden patches with a hit."""
    torch.manual_seed(3)
    with torch.no_grad():
        output, target, place, asked = objective.reconstructed(tokens)
    asked = asked & (target != 0).any(-1)
    score = output[..., :grid.patch_dim]  # the logit, or the answer itself
    return score[asked], target[asked] != 0, place[asked]


# %%
def auc_by_channel(score, hit):
    both = (x.unflatten(-1, (grid.channels, -1)).movedim(1, 0).flatten(1)
            for x in (hit, score))
    return [metrics.auc(h.numpy(), s.numpy()) for h, s in zip(*both)]

# %% [markdown]
# Four rows: both arms, the map, and an answer that is the same for all
# patches. The map counts training jets, and is asked about the very patches
# of the mended arm.

# %%
table_of = occupancy_map(learn[:2000])
many = unlabelled.batch(check[:200], KEEP).tokens
ranked = {}
for name in ("a", "e"):
    score, hit, place = asked_about(trained[name], many)
    ranked[NAME[name]] = auc_by_channel(score, hit)
ranked["map"] = auc_by_channel(table_of[place], hit)
ranked["same for all patches"] = auc_by_channel(
    table_of.mean(0).expand(len(hit), -1), hit)

# %% [markdown]
# The mean over the eight channels of each:

# %%
experiment.values["occupancy"] = {
    "mended": np.nanmean(ranked[NAME["e"]]), "map": np.nanmean(ranked["map"])}
for name, row in ranked.items():
    print(f"{name:22s} mean over channels {np.nanmean(row):.3f}")

# %% tags=["figure"]
ax = plots.intervals({name: dict(zip(CHANNELS, found))
                      for name, found in ranked.items()},
                     "AUC, pixel hit or not", vertical=True, reference=0.5,
                     legend=False)
plots.legend_below(ax, 4)
plots.save(ax, "05_occupancy", profile);

# %% [markdown]
# *Figure: for each channel, how well pixels of hidden active patches are ranked
# by whether they hold a hit: by arm a (which is not told which patches are
# active), by the mended arm, by the map, and by an answer that is the same for
# all patches. Dotted: chance.*
#
# **The prediction was wrong.** The mean over channels is 0.677 for the mended
# arm and 0.698 for the map. The gap between the two, channel by channel, is
# what the network has drawn from the rest of *this* jet. In the calorimeters
# it is positive (ECAL 0.64 against 0.61, HCAL 0.78 against 0.77): energy
# comes in clusters, and neighbours in view betray it. In the pixel layers it
# is negative. There the patches in view say nothing about a hidden one that
# its place does not say already, because pile-up hits are independent of
# everything else, and in one pass the network has not even learned the map.
# Neither has it for the impact parameters (d0: 0.56 against 0.59): what is
# rare teaches slowly.
#
# Arm a has 0.577. It is asked about the same pixels without being told that
# the patch holds something, and its answer is a height, not a probability.
#
# The denoiser can be examined in the same spirit. Of the pixels that the
# damaged jet shows empty, does it know which were hit? Of the hits that it
# shows, which are real? Handing the damaged jet back would score one half in
# both.
#
# `given` marks the pixels that the damaged jet shows as hit, at the places
# that the denoiser is asked about.

# %%
with torch.no_grad():
    output, target, place, asked = trained["dae"].reconstructed(damaged)
score, hit = output[asked][:, :grid.patch_dim], target[asked] != 0
given = torch.zeros(len(damaged), places, grid.patch_dim, dtype=torch.bool)
t = damaged.tokens
row = torch.arange(len(damaged))[:, None].expand_as(t.position)
given[row[t.valid], t.position[t.valid]] = t.features[t.valid] != 0
given = given.gather(1, place[..., None].expand(-1, -1, grid.patch_dim))[asked]

# %% [markdown]
# Among the pixels shown empty the lost ones are to be found, among those
# shown as hit the real ones:

# %%
lost, false = ~given & hit, given & ~hit
print(f"{lost.sum():,} pixels lost, {false.sum():,} added by the damage")
experiment.values["denoising"] = {
    what: metrics.auc(hit[among].numpy(), score[among].numpy())
    for what, among in (("lost", ~given), ("real", given))}
print({k: round(v, 3) for k, v in experiment.values["denoising"].items()})

# %% [markdown]
# Both are above one half: 0.82 for what was lost, because a lost crystal of a shower
# has its neighbours, and 0.62 for what is real, because a foreign hit looks like any
# other. By its mean square, 1.8 times that of the damaged jet, one would have thrown
# the denoiser away; these two questions show what it knows.
#
# ## 9. Who pulls at the encoder?
#
# "The loss is dominated by background" can mean two things: that most of the
# *loss* is due to empty pixels, or that most of the *gradient* is. Split the loss
# into three sums, over pixels of empty patches, over empty pixels of patches with
# a hit, and over hits; each has a gradient of its own with respect to the
# encoder's weights. In the sum they may also cancel: a cosine near −1 between
# background and hits is a tug of war.

# %%
def pixel_loss(output, target, asked, kind):
    """The loss cut into pixels, (B, N, F): it is the sum of them."""
    asked, hit = asked.unsqueeze(-1), target != 0
    count = asked.sum() * target.shape[-1]
    if kind == "mse":
        return (output - target).square() * asked / count
    logit, value = output.chunk(2, -1)
    entropy = F.binary_cross_entropy_with_logits(
        logit, hit.float(), reduction="none")
    square = (value - target).square() * hit
    return (entropy / count + square / (hit & asked).sum()) * asked


# %% [markdown]
# The sum must be the loss, which is checked. Then the three kinds:

# %%
def three_sums(objective, tokens):
    """Kind of pixel -> its part of the loss; the three add up to it."""
    torch.manual_seed(4)
    output, target, _, asked = objective.reconstructed(tokens)
    each = pixel_loss(output, target, asked, objective.reconstruct)
    full, _ = reconstruction(output, target, asked, objective.reconstruct)
    torch.testing.assert_close(each.sum(), full)
    hit, filled = target != 0, (target != 0).any(-1, keepdim=True)
    kinds = {"empty patches": ~filled, "empty pixels": filled & ~hit,
             "hits": hit}
    return {kind: each[among.expand_as(each)].sum()
            for kind, among in kinds.items()}

# %% [markdown]
# And the gradient of each with respect to all weights of the encoder, as one long
# vector:

# %%
def pulls(objective, tokens):
    """Share of the loss and length of the gradient of each kind of pixel."""
    weights = [p for p in objective.model.parameters() if p.requires_grad]
    sums, found, gradient = three_sums(objective, tokens), {}, {}
    for kind, part in sums.items():
        g = torch.autograd.grad(part, weights, retain_graph=True)
        gradient[kind] = torch.cat([x.flatten() for x in g])
        found[kind] = {"loss": (part / sum(sums.values())).item(),
                       "gradient": gradient[kind].norm().item()}
    sky = gradient["empty patches"] + gradient["empty pixels"]
    found["cosine"] = F.cosine_similarity(sky, gradient["hits"], 0).item()
    return found

# %% [markdown]
# Two arms, before their training and after it, on the same 32 jets:

# %%
few = unlabelled.batch(check[:32], KEEP).tokens
pulling = {}
for when in (", before", ""):
    for n in ("a", "e"):
        objective = untrained(n) if when else trained[n]
        pulling[f"{NAME[n]}{when}"] = pulls(objective, few)
experiment.values["pulls"] = pulling

# %%
KINDS, rows = ("empty patches", "empty pixels", "hits"), []
for name, found in pulling.items():
    total = sum(found[k]["gradient"] for k in KINDS)
    rows.append([name, *(f"{found[k]['loss']:.0%} / "
                         f"{found[k]['gradient'] / total:.0%}" for k in KINDS),
                 round(found["cosine"], 2)])
display(Markdown(markdown_table(["loss / gradient", *KINDS, "cosine"], rows)))

# %% [markdown]
# Each entry gives a kind of pixel's share of the loss and its gradient's
# length as a share of the three lengths.
#
# Arm a, first row: before training, hits have 31 % of the loss; the rest is
# background. An untrained decoder babbles, and babble over empty sky costs.
# After one pass hits have 94 % of the loss. Background is unlearned first:
# for the answer "nothing" an empty pixel costs nothing and pulls at nothing,
# and what is left is hits.
#
# The gradients tell more. In the trained arm a hits have 45 % of the pull,
# though 94 % of the loss, and the cosine is −0.93. That is the fog: more of
# it would serve the hits, less of it the sky. Where training comes to rest,
# gradients must add up to zero, so they are equally long and opposite,
# however different their shares of the loss. The mended arm has no such tug
# of war (0.69): its two parts are two outputs, and its hits have 91 % of the
# loss from the beginning.
#
# So "the loss is dominated by background" is not a property of the images
# alone: it depends on mask, loss and stage of training.
#
# ## 10. What is it good for?
#
# A loss is about pixels; we want features of jets. Freeze the encoder, pool its
# tokens, and let a logistic regression learn from 1,000 labelled training jets
# (fewer in the smoke profile) to tell tops from QCD; judge it on the *validation*
# jets. The test jets stay closed here. The features are the learned ones only,
# without the model's fixed summary of sums.
#
# Two rivals could win. An **encoder of random weights**: a random network is no
# bad feature extractor, and pooling keeps energies. And the **32 sums** of the
# fixed summary, which need no encoder at all.

# %%
judge_of = runs.probe(profile, labelled, more=1000)
bf16 = resolve_precision(arm("e").fit.precision) == "bf16-mixed"
known, held = (torch.as_tensor(x) for x in (judge_of.known, judge_of.held))

# %% [markdown]
# `judged` takes any way to get features from jets: an encoder's, or none.

# %%
def judged(features):
    """Predictions of a linear probe; features: jets (n,) -> (n, D)."""
    score = probes.linear_probe(
        features(known), labelled.labels[known].numpy(), features(held))
    return Predictions.of(labelled, held, score)


def judge(model):
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return judged(lambda index: probes.embed(model, labelled, index))

# %% [markdown]
# The 32 sums need a model only for its formulas:

# %%
def sums(index):
    """The model's fixed summary: nothing in it is learned."""
    tokens, model = labelled.batch(index, KEEP).tokens, untrained("e").model
    return model.summary(patch_sums(tokens.features, grid.channels),
                         tokens).numpy()


# %%
def add(name, predictions, **more):
    experiment.add_run(name, predictions, seed=seed, labels=len(known),
                       metrics=["auc", "accuracy"], **more)

# %% [markdown]
# All are judged on the same jets, so differences are paired. Two rows have
# their convolutions taken out, one of a random and one of a trained encoder:
# R1's second reason.

# %%
add("random", judge(untrained("e").model))
add("random_no_lcm", judge(without_convolutions(untrained("e").model)))
add("summary", judged(sums))
for name, run in live.items():
    add(name, judge(run.model()), parameters=run.parameters,
        train_seconds=run.train_seconds)
add("a_no_lcm", judge(without_convolutions(live["a"].model())))

# %% [markdown]
# Everything is compared with the random encoder that all arms began with, arm
# a also with itself without convolutions, and the mended arm with arm a:

# %%
for name in ("a", "e", "dae", "summary", "random_no_lcm"):
    experiment.compare(name, "random", ["auc"])
experiment.compare("a_no_lcm", "a", ["auc"])
e_minus_a = experiment.compare("e", "a", ["auc"])["auc"]

# %%
LABEL |= {"random_no_lcm": "random, convolutions out",
          "a_no_lcm": "a, convolutions out"}
gaps = against(vars(experiment), "random")
rows = [[LABEL[n], row["auc"], gaps.get(n, "–"),
         verdict(gaps[n], "better", "worse") if n in gaps else "–"]
        for n, row in experiment.summary().items()]
display(Markdown(markdown_table(
    ["encoder", "AUC of the probe", "minus random", ""], rows)))
print(f"mended minus a: {with_interval(e_minus_a)}, {verdict(e_minus_a)}")

# %% [markdown]
# All three arms are ahead of the encoder that they began with: arm a by 0.013
# [0.002, 0.024], the mended one by 0.024 [0.012, 0.037], the denoiser by
# 0.020 [0.009, 0.030]. **The prediction held**: not far above random weights.
# Of what would count against us one thing has come: the mended arm and arm a
# cannot be told apart. The last printed line has the difference, whose
# interval still holds zero. The 32 sums, with 0.854, are no better than
# random weights, 0.852.
#
# Compare the two random encoders with each other, too: 0.004 [−0.006, 0.013].
# What convolutions of random weights do to a pooled vector, before any
# pretraining is blamed or praised, is nothing that this probe can see.
#
# Intervals are over jets, for *these* weights and one seed; differences are
# paired. The random encoder is the very one that the arms began with. Another
# would lie a hundredth higher or lower: notebook 04 has thirty, and judges
# R1's variant against them with several seeds.

# %%
watched = live["e"].history
untrained_row = monitor(untrained("e"))
flat = {LABEL["random"]: untrained_row,
        LABEL["summary"]: {"probe_auc":
                           experiment.summary()["summary"]["auc"]["mean"]}}
print("directions in use (effective rank): random "
      f"{untrained_row['effective_rank']:.0f}, after pretraining "
      f"{watched[-1]['effective_rank']:.0f}")

# %% tags=["figure"]
fig = drawings.mae.probe_curves(
    {NAME[n]: run.history for n, run in live.items()}, flat)
plots.save(fig, "05_probes", profile);

# %% [markdown]
# *Figure: AUC on validation jets of a linear probe (left) and of a vote of
# nearest neighbours (right) as the three arms are trained, beside the encoder of
# random weights and the 32 sums (lines; the sums have a linear probe only).*
#
# Set this beside the loss curves. All three losses fall throughout. The linear
# probe of the mended arm rises to 0.88, that of arm a stays at 0.86, where the
# random encoder is, so what arm a's decoder learns about pixels is hardly what
# separates tops from QCD. (The table above saw arm a ahead by a hundredth. It
# judges on 1,000 jets more than the 619 of these curves, and differences of a
# hundredth are where the two may disagree.) The *neighbours* of the mended arm even
# fall, from 0.83 to 0.80, while its loss improves. A likely reason: they weigh all
# directions of the features by their variance, and painting what is hidden spends
# variance on where pile-up lies. (The denoiser's neighbours rise, to 0.84: it sees
# the whole jet.) The effective rank points the same way, 86 directions in use after
# pretraining where there were 143. The linear probe may choose among directions;
# neighbours may not.
#
# ## 11. Which of R1's reasons holds?
#
# Each becomes a number of this run.

# %%
before, after = (pulling[f"{NAME['a']}{when}"] for when in (", before", ""))
hits = [100 * x["hits"]["loss"] for x in (before, after)]
no_lcm, = (row for row in experiment.comparisons if row["a"] == "a_no_lcm")
experiment.values["reasons"] = {"hits_before": hits[0], "hits_after": hits[1]}

# %%
display(Markdown(
    f"1. *The loss is dominated by background.* Hits have {hits[0]:.0f} % of the "
    f"loss before training and {hits[1]:.0f} % after one pass: "
    + ("**no**, not as stated; background is unlearned first, and what is left "
       "to learn is hits." if hits[1] > 50 else "**yes**, still after a pass.")))

# %%
display(Markdown(
    "2. *Convolutions of random weights harm.* Taking them out of the frozen "
    f"encoder changes the probe's AUC by {with_interval(no_lcm)}: "
    + verdict(no_lcm, "**yes**, they harm", "**no**, they help even untrained",
              "**not decidable** at this budget") + "."))

# %% [markdown]
# So the first reason is right about the beginning and wrong about the end, 31 % and
# 94 %. The second is right about the code (no gradient), and its harm cannot be seen
# in a frozen encoder: without convolutions the probe of arm a moves by 0.001 [−0.008,
# 0.009]. That does not acquit them in fine-tuning, where they are trained.
#
# ## 12. What we saw
#
# **The trivial answers.** With R1's mask and loss, zero and mean are so close
# together, and so small, that a small loss *alone* proves nothing. As a share of the
# mean's it does speak. What hiding active patches and asking in two parts change is
# the question, so "loss / mean" of different arms is no ranking. The better rival of
# a map stands in section 8.
#
# **R1's reasons** have their answers above. Both are about mechanisms; that the
# pretrained model is *worse* is a claim about fine-tuning, and there pretrained
# weights may help by where they let training start. Notebook 07 fine-tunes arm a
# itself, with the recipe of its rival from scratch.
#
# **Use.** One pass of any of the three is worth one or two hundredths of AUC to a
# probe; SimCLR's five passes in notebook 04 were worth more. Read the verdicts with
# the width of their intervals. "Cannot be told apart" is not "equal": an interval
# that holds zero excludes neither no gain nor one as large as its end.
#
# **Limits.** A small model, simulated jets unless you chose otherwise, one ratio
# (75 %), one decoder, one pass: photographs get hundreds, R1's jets up to fifty. Arm
# a has R1's mask, loss and skipped convolutions on *our* tokens, model and rate.
# Another machine's rounding will change the last digits of the losses and, by about
# as much as another seed, the probes.
#
# ## Exercises
#
# **Quick.** How would the share of empty patches among the hidden ones change
# with the ratio? Think first, then compute it for 0.5 and 0.9.
#
# **Quick.** Show that no constant answer beats the mean in the mean square, and
# that in the two-part loss the best constant is the pair (rate, mean of hits).
#
# **Medium.** The mended decoder is told which patches are active. Design a mask
# that hides blocks of neighbouring patches, active or not, and say what it would
# do to the hint and to the price of `zero`.
#
# **Medium.** Train the mended arm with the convolutions finding *zeros* instead
# of mask tokens (`lcm="zeros"`). Which is better by loss?
# By probe? (Look at the interval of the difference before you answer.)
#
# **Project.** Give the masked arm a target that is no pixel: log multiplicity and
# log energy of each channel of a patch (`patch_sums`, 16 numbers). You will have to
# change the target and the outputs in `lib/training/masked.py`. Is the probe
# better? Does the target look more like what separates the classes?
#
# <details><summary>Solutions</summary>
#
# *Ratio.* Not at all, on average: a random mask over all places takes empty and
# active ones in proportion, whatever the ratio. Only the scatter changes.
#
# ```python
# for ratio in (0.5, 0.9):
#     hidden = torch.stack([hide_by_hand(x, True, ratio) for x in active])
#     print(ratio, ((hidden & ~active).sum() / hidden.sum()).item())
# ```
#
# *Constants.* The derivative of $\langle(o-t)^2\rangle$ with respect to $o$ is
# $2(o-\langle t\rangle)$, zero at the mean. The cross-entropy
# $-r\log p-(1-r)\log(1-p)$ has its minimum at $p=r$, and the second part is a
# mean square over hits.
#
# *Blocks.* Neighbours are the best witnesses for a hidden patch, and a block
# removes them. If empty patches inside the block are asked for as well, the hint
# is gone and `zero` becomes cheaper again, though less than for a mask over
# everything, as blocks can be placed where the jet is. Compare losses with *its*
# trivial answers only.
#
# *Zeros.*
#
# ```python
# zeros = arm("e").but(loss={"lcm": "zeros"})
# run = runs.train("05-zeros", zeros, unlabelled, runs=profile.runs_dir)
# print(relative(run), metrics.evaluate(judge(run.model()))["auc"])
# ```
#
# With zeros, a convolution
# cannot tell *hidden* from *empty*; with a token it can.
#
# *Sums.* Write the target with `patch_sums(...).log1p()` on hidden patches, and
# let the decoder have 16 outputs. Quote the loss of the mean beside it, and three
# seeds.
# </details>
#
# ## Recap
#
# | term | meaning |
# |---|---|
# | masked autoencoder | the encoder sees some patches, a decoder paints the others |
# | mask token | learned vector that stands for "hidden" |
# | trivial answer | what a constant would say; the zero of every loss |
# | two-part (hurdle) loss | is there a hit, and if so how large |
# | denoising autoencoder | a damaged jet comes in, the whole one is to come out |
# | occupancy map | how often each pixel is hit, whatever the jet |
# | linear probe | logistic regression on frozen features |
# | random encoder | same architecture, untrained; the rival of every pretraining |
#
# ## References
#
# - K. He et al., *Masked autoencoders are scalable vision learners*,
#   arXiv:2111.06377.
# - P. Vincent et al., *Extracting and composing robust features with denoising
#   autoencoders*, ICML 2008, doi:10.1145/1390156.1390294.
# - Z. Xie et al., *SimMIM: a simple framework for masked image modeling*,
#   arXiv:2111.09886 (mask tokens in the encoder, no heavy decoder).
# - H. Bao et al., *BEiT: BERT pre-training of image transformers*,
#   arXiv:2106.08254 (tokens instead of pixels as targets).
# - K. Tian et al., *Designing BERT for convolutional networks: sparse and
#   hierarchical masked modeling*, arXiv:2301.03580 (convolutions that stay
#   alive under a mask).
# - R. Balestriero, Y. LeCun, *Learning by reconstruction produces uninformative
#   features for perception*, arXiv:2402.11337.
# - G. Alain, Y. Bengio, *Understanding intermediate layers using linear
#   classifier probes*, arXiv:1610.01644.
# - C. Zheng, *L2ViT*, arXiv:2501.16182 (the convolutions, LCM); XBastille,
#   *linearvit*, GitHub (R1).

# %%
# The results of this notebook.
experiment.values["held_out"] = len(check)
experiment.values["probe"] = {"labels": len(known), "validation": len(held)}
experiment.values["untrained"] = {
    k: untrained_row[k] for k in ("probe_auc", "neighbour_auc",
                                  "effective_rank")}
experiment.values["occupancy"]["channels"] = ranked
experiment.curves["histories"] = {n: list(r.history) for n, r in live.items()}
print(experiment.save().name)
