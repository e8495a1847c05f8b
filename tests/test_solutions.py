"""Solutions of exercises are code that runs (those of notebooks 03 and 10 beside their tests)."""

import notebook_code
import numpy as np
import torch
from jetfiles import cms

from lib.data.images import JetImages
from lib.evaluation import metrics


def images(count: int = 40) -> JetImages:
    draw = np.random.default_rng(0)
    pixels, label = cms(count).transpose(0, 3, 1, 2), np.arange(count) % 2
    return JetImages.from_dense(pixels, "cms8", labels=label, mass=draw.uniform(50, 200, count),
                                pt=draw.uniform(400, 900, count))


def test_two_logits_are_added():
    jets, draw = images(), np.random.default_rng(1)
    test = torch.arange(len(jets))
    network, by_mass = (metrics.Predictions.of(jets, test, draw.random(len(jets)))
                        for _ in range(2))
    space = {"network": network, "by_mass": by_mass, "metrics": metrics, "jets": jets, "test": test}
    for block in notebook_code.solutions("00"):
        exec(block, space)
    assert {"difference", "low", "high"} <= set(space["gain"])
    order = network.score * by_mass.score / ((1 - network.score) * (1 - by_mass.score))
    assert (np.argsort(space["together"].score) == np.argsort(order)).all()


def test_patches_of_every_size_are_counted(capsys):
    jets = images(6)
    space = {"hits": jets.hits(slice(None)), "torch": torch}
    for block in notebook_code.solutions("02"):
        exec(block, space)
    assert space["tokens_of"](1) <= len(space["hits"]) / 6
    assert space["tokens_of"](125) == 1
    lines = capsys.readouterr().out.splitlines()
    work = [float(line.split()[5]) for line in lines]
    assert len(work) == 5
    assert work == sorted(work, reverse=True)  # as the text says


def test_a_block_between_two_measured_sizes(capsys):
    points = {"softmax": [(1024, 1.0), (16384, 256.0)], "relu_linear": [(1024, 0.5), (16384, 8.0)]}
    space = {"np": np, "tokens": {0: {1: 700.0}, 200: {1: 4096.0}}, "rows_of": lambda name, what: [
        {"tokens": n, "seconds": t} for n, t in points[name]]}
    for block in notebook_code.solutions("11"):
        exec(block, space)
    assert "4,096 tokens: 8 times" in capsys.readouterr().out  # 16 over 2 seconds
