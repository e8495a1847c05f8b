"""Batches: the same for the same seed and epoch, little padding, an undistorted class mix."""

import numpy as np
import pytest
import torch

from lib.data.batches import Batches, active_patches
from lib.data.images import JetImages

BATCH = 32


@pytest.fixture(scope="module")
def jets():
    """1,600 jets whose number of active patches depends on the class, as for real jets.

    Sizes are log-normal, QCD smaller and more spread; they tell the classes apart with an AUC
    near 0.69.
    """
    rng = np.random.default_rng(1)
    count = 1_600
    label = (rng.random(count) < 0.4878).astype(np.int64)
    size = np.where(label == 1, rng.lognormal(np.log(215), 0.22, count),
                    rng.lognormal(np.log(180), 0.30, count)).clip(20, 625).astype(int)
    pixels = np.arange(0, 125, 5)
    corners = (pixels[:, None] * 125 + pixels).reshape(-1)  # one pixel in each of 625 patches
    indices = [np.sort(rng.choice(corners, n, replace=False)) for n in size]
    indptr = np.concatenate([[0], np.cumsum(size)])
    return JetImages.from_arrays(indptr, np.concatenate(indices), np.ones(indptr[-1]),
                                 (8, 125, 125), "cms8", labels=label, mass=size.astype(np.float32))


def numbers(batches):
    return [batch.tolist() for batch in batches.plan()]


def test_active_patches_are_what_tokens_hold(jets):
    counts = active_patches(jets)
    np.testing.assert_array_equal(counts, jets.mass.long())
    batch = jets.batch([5, 0, 9])
    assert batch.tokens.valid.sum(1).tolist() == counts[[5, 0, 9]].tolist()


def test_without_shuffling_every_jet_comes_in_order(jets):
    index = torch.arange(1500, 1400, -1)
    batches = Batches(jets, index, BATCH)
    assert len(batches) == len(list(batches)) == 4
    assert torch.cat([batch.index for batch in batches]).tolist() == index.tolist()
    assert len(numbers(batches)[-1]) == 100 - 3 * BATCH


def test_batches_carry_the_columns_of_their_jets(jets):
    batch = next(iter(Batches(jets, None, BATCH, shuffle=True)))
    assert torch.equal(batch.label, jets.labels[batch.index])
    assert torch.equal(batch.mass, jets.mass[batch.index])
    assert batch.pt is None
    assert batch.tokens.features.shape[0] == BATCH


@pytest.mark.parametrize("bucket", [True, False])
def test_an_epoch_depends_on_seed_and_number_only(jets, bucket):
    def epoch(seed, number, index=None):
        batches = Batches(jets, index, BATCH, shuffle=True, seed=seed, bucket=bucket)
        for earlier in range(number):  # having been through others changes nothing
            batches.set_epoch(earlier)
            batches.plan()
        batches.set_epoch(number)
        return numbers(batches)

    resumed = Batches(jets, None, BATCH, shuffle=True, seed=3, bucket=bucket)
    resumed.set_epoch(4)
    assert numbers(resumed) == epoch(3, 4)
    assert epoch(3, 4) != epoch(3, 5)
    assert epoch(3, 4) != epoch(4, 4)


def test_shuffling_drops_only_the_last_incomplete_batch(jets):
    batches = Batches(jets, torch.arange(100, 199), BATCH, shuffle=True)
    assert len(batches) == 3
    left_out = set()
    for epoch in range(20):
        batches.set_epoch(epoch)
        drawn = numbers(batches)
        assert [len(batch) for batch in drawn] == [BATCH] * 3
        flat = [number for batch in drawn for number in batch]
        assert len(set(flat)) == len(flat)
        left_out |= set(range(100, 199)) - set(flat)
    assert len(left_out) > 30, "other jets wait in every epoch"


def test_fewer_jets_than_a_batch_make_one_batch(jets):
    batches = Batches(jets, [4, 7, 9], BATCH, shuffle=True)
    assert len(batches) == 1
    [batch] = batches
    assert sorted(batch.index.tolist()) == [4, 7, 9]


def test_nothing_to_do_is_an_error(jets):
    with pytest.raises(ValueError, match="0 jets"):
        Batches(jets, [], BATCH)
    with pytest.raises(ValueError, match="batches of 0"):
        Batches(jets, None, 0)


def padding_and_mix(jets, bucket):
    """Padded over real tokens, and the class fraction of each batch, over ten epochs."""
    batches = Batches(jets, None, BATCH, shuffle=True, bucket=bucket)
    size, padded, real, mix, mean_size = active_patches(jets), 0, 0, [], []
    for epoch in range(10):
        batches.set_epoch(epoch)
        for index in batches.plan():
            padded += len(index) * int(size[index].max())
            real += int(size[index].sum())
            mix.append(float(jets.labels[index].float().mean()))
            mean_size.append(float(size[index].float().mean()))
    return padded / real, np.array(mix), np.array(mean_size)


def test_batches_of_similar_size_save_padding_and_keep_the_class_mix(jets):
    blind, mix_blind, _ = padding_and_mix(jets, bucket=False)
    bucketed, mix, size = padding_and_mix(jets, bucket=True)
    assert bucketed < 1.3 < 1.6 < blind
    share = float(jets.labels.float().mean())
    binomial = share * (1 - share) / BATCH
    assert mix_blind.var() == pytest.approx(binomial, rel=0.25)
    assert mix.var() < binomial
    assert mix.mean() == pytest.approx(share, abs=0.005)
    # A batch of large jets must not be a batch of top jets.
    large = size > np.median(size)
    assert mix[large].mean() == pytest.approx(mix[~large].mean(), abs=0.02)


def test_batches_do_not_come_in_order_of_size(jets):
    batches = Batches(jets, None, BATCH, shuffle=True)
    size = active_patches(jets)
    means = [float(size[index].float().mean()) for index in batches.plan()]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.4


def test_unlabelled_jets_are_bucketed_by_size_alone(jets):
    bare = JetImages.from_arrays(jets.indptr, jets.indices, jets.data, jets.shape, "cms8")
    assert padding_and_mix_free(bare) < 1.25


def padding_and_mix_free(jets):
    size = active_patches(jets)
    plan = Batches(jets, None, BATCH, shuffle=True).plan()
    return sum(len(i) * int(size[i].max()) for i in plan) / sum(int(size[i].sum()) for i in plan)


def test_augmentation_acts_on_the_hits(jets):
    batches = Batches(jets, [0, 1], 2, augment=lambda hits: hits.select(hits.image == 1))
    [batch] = batches
    assert batch.tokens.valid.sum(1).tolist() == [0, int(active_patches(jets, [1]))]
