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
# 4 minutes on two cores, 1 with a GPU.

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

# %%
import drawings.mae
from lib.cms import CHANNELS
from lib.report import plots
from lib.report.numbers import against, markdown_table, verdict
from lib.report.numbers import with_interval
from lib.report.results import Experiment
from lib.evaluation import metrics, probes
from lib.evaluation.predictions import resolve_precision
from lib.training import runs
from lib.evaluation.metrics import Predictions
from lib.training.split import indices, make_batches
from lib.training.masked import expected, reconstruction
from lib.training.recipe import PRETRAININGS, build, passes, recipe

profile = profiles.get(PROFILE, DATA)
USES = ["sample.top_qcd", "objective.mae", "objective.denoising", "views",
        "probes"]  # parts of results/contract.json
experiment = Experiment("05_mae", profile, USES)
plots.style()
files = course_files(profile)
# Without the large public file the labelled training jets serve.
source = files["unlabelled"] or files["labelled"]
unlabelled = JetImages.open(source)
labelled = JetImages.open(files["labelled"])
print(f"PyTorch {torch.__version__}, profile {profile.tag}, "
      f"{len(unlabelled):,} unlabelled jets")

# %% [markdown]
# ## 1. Fill in the blanks
#
# A masked autoencoder (MAE, arXiv:2111.06377) has two parts. The **encoder** is
# the network we want: it gets the patches that are left, and *only* those. The
# **decoder** is scaffolding: it gets the encoder's output at the places in
# view, a learned *mask token* at the hidden ones, every place with its position,
# and paints the hidden patches. The loss looks at hidden patches alone, for
# copying what is in view is no art. Afterwards the decoder is thrown away.
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
R1_WAY = PRETRAININGS["r1_mae"]["loss"]
RECIPE = {"a": "r1_mae", "e": "mae", "dae": "dae"}
LABEL = {"a": "a, as R1", "e": "e, mended", "dae": "denoising",
         "random": "random encoder", "summary": "32 sums, no encoder"}
seed, KEEP = profile.seeds[0], recipe("mae", profile).tokens


def arm(name):
    """Recipe of an arm: one pass over the unlabelled jets."""
    return passes(RECIPE[name], profile, 1.0, seed)


learn, check = indices(arm("e"), unlabelled)  # to learn from, held out


def untrained(name):
    """The objective of an arm before its first update."""
    torch.manual_seed(seed)
    return build(arm(name), unlabelled, learn).eval()


as_r1, mended = untrained("a"), untrained("e")
assert (mended.mask, mended.lcm, mended.reconstruct) == (
    "active", "token", "two_part")
grid = unlabelled.grid
print(f"{len(learn):,} jets to learn from, {len(check)} held out; "
      f"{arm('e').fit.updates} updates of {arm('e').fit.batch_size} jets")

# %% [markdown]
# ## 2. What is hidden
#
# The recipe fits in five lines: list the places in play, shuffle, hide the
# first 75 %. The only question is which places are *in play*: all of them, as on
# photographs, or those that hold something. (With the two-scale tokens of
# notebook 02 there are 625 patches and 25 coarse blocks, which hold what the
# pixel layers saw elsewhere. So a patch counts as *active* here if it holds a
# track or calorimeter energy; one with hits of the pixel layers alone has given
# them to its block and counts as empty. On R1's dense image any hit would count,
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


# %%
tokens = unlabelled.batch(check[:64], KEEP).tokens
places = mended.hide(tokens)[0].shape[1]
active = torch.zeros(len(tokens), places + 1, dtype=torch.bool)
where = tokens.position.where(tokens.valid, places)
active = active.scatter_(1, where, True)[:, :places]  # (B, S)
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
# What does a mask over *all* places cost? Count what it hides: patches, and the
# pixels in them.

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
    print(f"{LABEL[name]}: of the hidden patches "
          f"{share[name]['empty_patches']:.0%} are empty, of the pixels asked "
          f"for {share[name]['empty_pixels']:.2%}; of the active patches "
          f"{share[name]['active_hidden']:.0%} are hidden")
experiment.values["hidden"] = share

# %%
_, everywhere = as_r1.hide(tokens)
_, chosen = mended.hide(tokens)
shape, P = (grid.rows, grid.columns), grid.patches

# %% tags=["figure"]
kind = {name: (2 * active + hidden)[0, :P].view(shape) for name, hidden in {
    "75 % of all patches": everywhere,
    "75 % of the active patches": chosen}.items()}
axes = plots.grid_map(kind, kinds=drawings.mae.KINDS)
plots.save(axes[0, 0], "05_masks", profile);

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
# With the mask the rest is short: what is left goes through the encoder, packed;
# the decoder gets the codes at their places and a mask token at the others, and
# paints. `S` counts places, `K` tokens, `N` the places that are asked for.

# %%
def masked_step(objective, tokens):
    """Tokens (B, K) -> the decoder's answer (B, N, outputs), its places."""
    pool, hidden = objective.hide(tokens)  # (B, S): in play, covered
    left = tokens.valid & ~hidden.gather(1, tokens.position)  # (B, K)
    order = (~left).int().argsort(dim=1, stable=True)
    order = order[:, :int(left.sum(1).max())]  # (B, K'): those in view first
    seen = TokenBatch(
        tokens.features.gather(1, order[..., None].expand(
            -1, -1, tokens.features.shape[-1])),
        tokens.position.gather(1, order), left.gather(1, order), grid)
    fill = None  # R1 skips the convolutions; mended: a token where hidden
    if objective.mask_token is not None:
        fill = hidden[:, :grid.patches, None] * objective.mask_token
    local = objective.lcm != "skip"
    code = objective.model.encode(seen, local, fill)  # (B, K', D)
    return objective.decoder(code, seen, pool, local)


for objective in (as_r1, mended):
    answers = []
    for make in (masked_step, type(objective).reconstructed):
        torch.manual_seed(7)  # the same places hidden
        with torch.no_grad():
            answers.append(make(objective, tokens) if make is masked_step
                           else objective.reconstructed(tokens))
    asked = answers[1][3]
    torch.testing.assert_close(answers[0][0][asked], answers[1][0][asked],
                               rtol=1e-4, atol=1e-4)
print("the step on this page is the course's")

# %% [markdown]
# ## 3. Nothing leaks
#
# If the content of a hidden patch reached the encoder by any path (a
# convolution, a pooled sum, a padded token), the task would be a riddle with
# the solution on the back. Two tests: put something absurd into every hidden
# patch, and the encoder must not notice; do the same to a patch in view, and it
# must. We listen at the encoder's last layer.

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
    left = (tokens.valid & ~hidden.gather(1, tokens.position)).sum(1)
    padding = torch.arange(heard[0].shape[1]) >= left[:, None]
    return heard[0].masked_fill(padding[..., None], 0), target, hidden


def with_absurd(tokens, where):
    """Tokens with 99 in every pixel of the places (B, S)."""
    change = where.gather(1, tokens.position) & tokens.valid
    features = tokens.features.masked_fill(change.unsqueeze(-1), 99.0)
    return TokenBatch(features, tokens.position, tokens.valid, grid)


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
# things at once: *is there a hit* and *how large is it*. Where hits are rare and
# nothing more is known, the best answer is a small fraction of a hit,
# everywhere: a fog.
#
# **Two parts.** Ask separately. The decoder gives each pixel a logit $\ell$ and
# a value $v$. With $h = [t \neq 0]$
#
# $$ L_{\mathrm{two}} = \bigl\langle \mathrm{BCE}(\ell, h) \bigr\rangle
#    + \frac{\sum h\,(v - t)^2}{\sum h} , $$
#
# binary cross-entropy over all pixels plus the square over the pixels *that have
# a value*. The second mean is taken over hits alone, so the empty pixels cannot
# drown it. (A statistician would call this a hurdle model.) Its answer for the
# pixel itself is the product $\sigma(\ell)\,v$, `expected` in the course's code,
# so it can be judged by the mean square, too.

# %%
def by_hand(output, target, asked, kind):
    o, t = output[asked], target[asked]
    if kind == "mse":
        return (o - t).square().mean()
    logit, value = o.chunk(2, -1)
    p, hit = logit.sigmoid(), t != 0
    entropy = -torch.where(hit, p.log(), (1 - p).log()).mean()
    return entropy + (value - t)[hit].square().mean()


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
# In the second printed line `occupancy` and `value` are the two terms of the loss,
# and `mse…` is the square of the expected pixel, with its own trivial answers. Why
# is an untrained network not at $\ln 2$ in the first term? Its bias starts at
# $\ell=-3$, a hit probability of five per cent: it is born knowing that hits are
# rare.
#
# `zero` and `mean` in these lines are what two answers without any insight
# would cost on the very same pixels. *Zero*: there is nothing (with the
# two-part loss, a hit has probability 0.001, for a flat no would cost
# infinitely much). *Mean*: for each of the pixels of a patch its average over
# the batch, the same for all patches. They follow from the targets alone:

# %%
def trivial(target, asked, kind):
    t, hit = target[asked], target[asked] != 0
    rate = hit.float().mean(0)  # (F,)
    if kind == "mse":
        return {"zero": t.square().mean(),
                "mean": (t - t.mean(0)).square().mean()}
    value = t.sum(0) / hit.sum(0).clamp(min=1)
    answers = {"zero": (torch.full_like(rate, 1e-3), 0 * value),
               "mean": (rate.clamp(1e-6, 1 - 1e-6), value)}
    return {name: by_hand(torch.cat([p.logit(), v]).expand(len(t), -1), t,
                          slice(None), kind)
            for name, (p, v) in answers.items()}


for kind in ("mse", "two_part"):
    wide = torch.cat([target, target], -1) if kind == "two_part" else target
    _, parts = reconstruction(wide, target, asked, kind)
    for name, cost in trivial(target, asked, kind).items():
        torch.testing.assert_close(cost, parts[name], rtol=1e-3, atol=1e-6)

# %%
trivial_losses = {}
for objective in (as_r1, mended):
    with torch.no_grad():
        _, target, _, asked = objective.reconstructed(tokens)
    for kind in ("mse", "two_part"):
        cost = {k: v.item() for k, v in trivial(target, asked, kind).items()}
        trivial_losses[f"{objective.mask}_{kind}"] = cost
        print(f"mask {objective.mask:6s} {kind:8s} zero {cost['zero']:.4f}, "
              f"mean {cost['mean']:.4f}: the mean saves "
              f"{1 - cost['mean'] / cost['zero']:.0%} of zero's")
experiment.values["trivial"] = trivial_losses

# %% [markdown]
# This is why a reconstruction loss on its own says nothing. With R1's mask and
# loss an answer of *nothing at all* has a mean square that looks like the end
# of a successful training. It is the scale that is small, not the error: as a
# share of what there is to explain it is everything. In the rest of this
# notebook a loss never stands without these two.
#
# ## 5. Weights that are never asked
#
# R1's second reason can be checked with one backward pass: which weights of the
# encoder get a gradient?

# %%
def asked_for(objective):
    """{part: (weights, weights with a gradient)} of the encoder."""
    objective.loss(unlabelled.batch(check[:8], KEEP))[0].backward()
    found = {}
    for name, p in objective.model.named_parameters():
        part = ("convolutions" if "lcm" in name else "heads and pooling"
                if name.split(".")[0] in ("class_head", "mass_head", "hidden",
                                          "flow") else "all else")
        total, moved = found.get(part, (0, 0))
        grad = p.grad is not None and bool((p.grad != 0).any())
        found[part] = (total + p.numel(), moved + grad * p.numel())
    objective.zero_grad()
    return found


# %%
for name, objective in (("a", as_r1), ("e", mended)):
    found = asked_for(objective)
    print(f"{LABEL[name]:12s}", {k: f"{m:,} of {n:,} weights"
                                 for k, (n, m) in found.items()})
    assert (found["convolutions"][1] == 0) == (objective.lcm == "skip")
    assert found["heads and pooling"][1] == 0 < found["all else"][1]
published = JetViT(ViTConfig.of(grid, **R1))
left = sum(p.numel() for n, p in published.named_parameters() if "lcm" in n)
print(f"R1's model: {left:,} weights of convolutions, "
      f"{left / sum(p.numel() for p in published.parameters()):.1%} of all")
experiment.values["without_gradient"] = {
    k: {"weights": n, "trained": m} for k, (n, m) in asked_for(as_r1).items()}

# %% [markdown]
# The heads belong to the later task and are not asked by any pretraining here,
# nor is the map behind the energy-weighted pooling, which works on whole jets.
# The convolutions are another matter. They sit *between* the layers that are
# trained: a fine-tuning that starts from arm a switches on, in the middle of a
# trained network, a part with random weights. How much does that disturb? A
# model whose convolutions have been taken out tells.

# %%
def without_convolutions(model):
    """A copy in which the blocks have no local convolution."""
    model = copy.deepcopy(model)
    for block in model.blocks:
        block.lcm = None
    return model


def disturbance(model):
    """How far the convolutions move the features, relative to their spread."""
    a, b = (probes.embed(m, unlabelled, check[:256])
            for m in (model, without_convolutions(model)))
    return np.linalg.norm(a - b) / np.linalg.norm(b - b.mean(0))


print(f"untrained: the convolutions move the features by "
      f"{disturbance(as_r1.model):.1f} times their spread over jets")

# %% [markdown]
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
NAME = {name: LABEL[name] for name in live}
for name, run in live.items():
    print(f"{LABEL[name]}: {run.history.updates} updates, "
          f"{run.train_seconds:.0f} s")

# %% tags=["figure"]
def curves(run, kind):
    """Held-out losses of a run beside those of trivial answers."""
    rows = list(run.history)
    start, more = ("val_mse", "_") if kind == "pixels" else ("val_", "")
    model = "val_mse" if kind == "pixels" else "val_loss"
    lines = {k: f"{start}{more}{k}" for k in ("zero", "mean", "input")}
    return {"update": [r["update"] for r in rows],
            "model": {"model": [r[model] for r in rows]},
            "trivial": {k: [r[v] for r in rows] for k, v in lines.items()
                        if v in rows[0]}}


fig = drawings.mae.losses({
    "as R1, mean square": curves(live["a"], "loss"),
    "mended, two-part loss": curves(live["e"], "loss"),
    "denoising, two-part loss": curves(live["dae"], "loss"),
    "denoising, mean square": curves(live["dae"], "pixels")})
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
    mse = "val_mse" if "val_mse" in row else "val_loss"
    head = "val_mse_" if "val_mse" in row else "val_"
    found = {"loss_to_zero": row["val_loss"] / row["val_zero"],
             "loss_to_mean": row["val_loss"] / row["val_mean"],
             "mse_to_zero": row[mse] / row[f"{head}zero"],
             "mse_to_mean": row[mse] / row[f"{head}mean"]}
    if "val_mse_input" in row:
        found["mse_to_input"] = row[mse] / row["val_mse_input"]
    return found


HEADS = {"loss_to_zero": "loss / zero", "loss_to_mean": "loss / mean",
         "mse_to_mean": "square / mean", "mse_to_input": "square / input"}
found = {name: relative(run) for name, run in live.items()}
experiment.values["losses"] = found
display(Markdown(markdown_table(["live", *HEADS.values()], [
    [NAME[n], *(round(row[k], 3) if k in row else "–" for k in HEADS)]
    for n, row in found.items()])))

# %% [markdown]
# One minus such a number is the share of what the trivial answer left open that
# the network explains. Where the last column is above one, handing the damaged
# jet back would have been the better answer in mean square: most of its pixels
# are unharmed, and a decoder has first to learn to pass them on.
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
# smoother than any jet: an expected tower of half the height in two places, not
# one tower in the right place. (In arm a negative answers are shown as zero.)
# The lower row profits from its hint, the list of the active patches.
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


# %%
torch.manual_seed(0)
_, batches = make_batches(arm("dae"), unlabelled)
damaged = unlabelled.batch(check[:64], KEEP, augment=batches.augment)

# %% tags=["figure"]
fig = drawings.mae.reconstructions(
    {NAME["dae"]: restored(trained["dae"], damaged)}, UNIT)
plots.save(fig, "05_denoising", profile);

# %% [markdown]
# *Figure: the same jet (left), damaged (middle), and as the denoiser gives it
# back (right).*
#
# ## 8. Does it know more than a map?
#
# `zero` and `mean` are weak rivals. A better one costs nothing either: a *map*
# of how often each pixel of each place is hit, given that the place holds
# something. It knows that energy lies in the middle and that pixel layers fill
# up with η, but nothing of the jet at hand. We rank all pixels of hidden, active
# patches by the probability that the network gives, and by the map's, channel
# by channel; the AUC is the chance that a pixel with a hit is ranked above one
# without.

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


table_of = occupancy_map(learn[:2000])
many = unlabelled.batch(check[:200], KEEP).tokens
ranked = {}
for name in ("a", "e"):
    score, hit, place = asked_about(trained[name], many)
    ranked[NAME[name]] = auc_by_channel(score, hit)
ranked["map"] = auc_by_channel(table_of[place], hit)
ranked["same for all patches"] = auc_by_channel(
    table_of.mean(0).expand(len(hit), -1), hit)
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
# The gap between the mended arm and the map, channel by channel, is what it has
# drawn from the rest of *this* jet. Where there is none, the patches in view
# say nothing about a hidden one that its place does not say already: pile-up
# hits of the pixel layers are independent of everything else. Where it is negative
# (look at the impact parameters), the network has not even learned the map: what is
# rare teaches slowly.
#
# The denoiser can be examined in the same spirit. Of the pixels that the damaged
# jet shows empty, does it know which were hit? Of the hits that it shows, which
# are real? Handing the damaged jet back would score one half in both.

# %%
with torch.no_grad():
    output, target, place, asked = trained["dae"].reconstructed(damaged)
score, hit = output[asked][:, :grid.patch_dim], target[asked] != 0
given = torch.zeros(len(damaged), places, grid.patch_dim, dtype=torch.bool)
t = damaged.tokens
row = torch.arange(len(damaged))[:, None].expand_as(t.position)
given[row[t.valid], t.position[t.valid]] = t.features[t.valid] != 0
given = given.gather(1, place[..., None].expand(-1, -1, grid.patch_dim))[asked]
lost, false = ~given & hit, given & ~hit
print(f"{lost.sum():,} pixels lost, {false.sum():,} added by the damage")
experiment.values["denoising"] = {
    what: metrics.auc(hit[among].numpy(), score[among].numpy())
    for what, among in (("lost", ~given), ("real", given))}
print({k: round(v, 3) for k, v in experiment.values["denoising"].items()})

# %% [markdown]
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


# %%
def pulls(objective, tokens):
    """Share of the loss and length of the gradient of each kind of pixel."""
    weights = [p for p in objective.model.parameters() if p.requires_grad]
    torch.manual_seed(4)
    output, target, _, asked = objective.reconstructed(tokens)
    each = pixel_loss(output, target, asked, objective.reconstruct)
    full, _ = reconstruction(output, target, asked, objective.reconstruct)
    torch.testing.assert_close(each.sum(), full)
    hit, filled = target != 0, (target != 0).any(-1, keepdim=True)
    found, gradient = {}, {}
    for kind, among in {"empty patches": ~filled, "empty pixels": filled & ~hit,
                        "hits": hit}.items():
        part = each[among.expand_as(each)].sum()
        g = torch.autograd.grad(part, weights, retain_graph=True)
        gradient[kind] = torch.cat([x.flatten() for x in g])
        found[kind] = {"loss": (part / full).item(),
                       "gradient": gradient[kind].norm().item()}
    sky = gradient["empty patches"] + gradient["empty pixels"]
    found["cosine"] = F.cosine_similarity(sky, gradient["hits"], 0).item()
    return found


# %%
few = unlabelled.batch(check[:32], KEEP).tokens
pulling = {f"{NAME[n]}{when}": pulls(objective[n], few)
           for when, objective in ((", before", {"a": untrained("a"),
                                                 "e": untrained("e")}),
                                   ("", trained)) for n in ("a", "e")}
rows = []
for name, found in pulling.items():
    total = sum(found[k]["gradient"] for k in list(found)[:3])
    rows.append([name, *(f"{found[k]['loss']:.0%} / "
                         f"{found[k]['gradient'] / total:.0%}"
                         for k in list(found)[:3]), round(found["cosine"], 2)])
display(Markdown(markdown_table(
    ["loss / gradient", "empty patches", "empty pixels", "hits", "cosine"],
    rows)))
experiment.values["pulls"] = pulling

# %% [markdown]
# Each entry gives a kind of pixel's share of the loss and its gradient's length
# as a share of the three lengths. How to read it: a decoder that has not learned
# anything babbles, and babble over empty sky costs; that is unlearned first. For
# the answer "nothing", an empty pixel costs nothing and pulls at nothing, and
# every bit of loss and gradient is due to *hits*. In between lies the fog: there
# both kinds pull, and where training comes to rest their gradients must add up to
# zero, so they are equally long and opposite (a cosine of −1), however different
# their shares of the loss. So "the loss is dominated by background" is not a
# property of the images alone: it depends on mask, loss and stage of training,
# and the rows say for which of them it holds.
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


def judged(features):
    """Predictions of a linear probe; features: jets (n,) -> (n, D)."""
    score = probes.linear_probe(
        features(known), labelled.labels[known].numpy(), features(held))
    return Predictions.of(labelled, held, score)


def judge(model):
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return judged(lambda index: probes.embed(model, labelled, index))


def sums(index):
    """The model's fixed summary: nothing in it is learned."""
    tokens, model = labelled.batch(index, KEEP).tokens, untrained("e").model
    return model.summary(patch_sums(tokens.features, grid.channels),
                         tokens).numpy()


# %%
def add(name, predictions, **more):
    experiment.add_run(name, predictions, seed=seed, labels=len(known),
                       metrics=["auc", "accuracy"], **more)


add("random", judge(untrained("e").model))
add("random_no_lcm", judge(without_convolutions(untrained("e").model)))
add("summary", judged(sums))
for name, run in live.items():
    add(name, judge(run.model()), parameters=run.parameters,
        train_seconds=run.train_seconds)
add("a_no_lcm", judge(without_convolutions(live["a"].model())))
for name in ("a", "e", "dae", "summary", "random_no_lcm"):
    experiment.compare(name, "random", ["auc"])
experiment.compare("a_no_lcm", "a", ["auc"])

# %%
LABEL |= {"random_no_lcm": "random, convolutions out",
          "a_no_lcm": "a, convolutions out"}
gaps = against(vars(experiment), "random")
rows = [[LABEL[n], row["auc"], gaps.get(n, "–"),
         verdict(gaps[n], "better", "worse") if n in gaps else "–"]
        for n, row in experiment.summary().items()]
display(Markdown(markdown_table(
    ["encoder", "AUC of the probe", "minus random", ""], rows)))

# %% [markdown]
# Intervals are over jets, for *these* weights and one seed; differences are paired.
# The random encoder is the very one that the arms began with. Another would lie a
# hundredth higher or lower: notebook 04 has thirty, and judges R1's variant against
# them with several seeds. Compare the two random encoders with each other first: it
# shows what convolutions of random weights do to a pooled vector, before any
# pretraining is blamed or praised.

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
# Set this beside the loss curves. A loss that falls throughout while a probe stands
# still says that what the decoder learns about pixels is not what separates tops
# from QCD. The *neighbours* may even fall while the loss improves: they weigh all
# directions of the features by their variance, and painting pixels spends variance
# on where pile-up lies. The linear probe may choose among directions; neighbours
# may not.
#
# ## 11. Which of R1's reasons holds?
#
# Each becomes a number of this run.

# %%
before, after = (pulling[f"{NAME['a']}{when}"] for when in (", before", ""))
hits = [100 * x["hits"]["loss"] for x in (before, after)]
no_lcm, = (row for row in experiment.comparisons if row["a"] == "a_no_lcm")
experiment.values["reasons"] = {"hits_before": hits[0], "hits_after": hits[1]}
display(Markdown(
    f"1. *The loss is dominated by background.* Hits have {hits[0]:.0f} % of the "
    f"loss before training and {hits[1]:.0f} % after one pass: "
    + ("**no**, not as stated; background is unlearned first, and what is left "
       "to learn is hits." if hits[1] > 50 else "**yes**, still after a pass.")))
display(Markdown(
    "2. *Convolutions of random weights harm.* Taking them out of the frozen "
    f"encoder changes the probe's AUC by {with_interval(no_lcm)}: "
    + verdict(no_lcm, "**yes**, they harm", "**no**, they help even untrained",
              "**not decidable** at this budget") + "."))

# %% [markdown]
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
# **Use.** Read the verdicts with the width of their intervals. "Cannot be told
# apart" is not "equal": a wide interval excludes neither no gain nor a large one. If
# the 32 sums do as well as the arms, this probe has shown no use of the pretraining.
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
