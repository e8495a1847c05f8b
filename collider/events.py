"""Collisions: Pythia 8 events, minimum-bias pile-up from a shared pool, FastJet jets with truth.

Everything is at 8 TeV, as the public files. Where a number shapes the sample rather than describes
nature (p̂T bias, turn-on, pile-up), it stands in `SAMPLES` or below with what it was fitted to.
References: Pythia 8.3, SciPost Phys. Codebases 8 (2022); FastJet, EPJC 72 (2012) 1896;
anti-kT, JHEP 04 (2008) 063.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from math import erf, sqrt
from pathlib import Path

import awkward as ak
import fastjet
import numpy as np
import pythia8mc

from collider import detector
from collider.particles import INVISIBLE, Particles, wrap
from lib.cms import CHANNELS
from lib.files import replacing
from lib.profiles import home

ENERGY = 8000  # GeV, centre-of-mass energy of the 2012 run
PILE_UP = (21.0, 6.0)  # mean and spread of the pile-up per event: 2012, 21 ± 6 on average; fitted
POOL_EVENTS = {"train": 3000, "test": 3000}  # minimum-bias events in each pool
POOL_SEEDS = {"train": 814, "test": 1408}
POOL_ETA = 4.0  # particles of the pool beyond this |η| cannot enter an image
STORED = [field.name for field in fields(Particles) if field.name != "vertex"]  # in a pool's file
BATCH = 25  # events clustered in one call: spreads FastJet's set-up cost

# Decays inside the tracker volume happen here (K0S, Λ), as in a detector simulation (mm).
COMMON = ("Print:quiet = on", f"Beams:eCM = {ENERGY}", "Random:setSeed = on",
          "ParticleDecays:limitCylinder = on", "ParticleDecays:xyMax = 300",
          "ParticleDecays:zMax = 900")


@dataclass(frozen=True)
class Process:
    """One class of jets: Pythia settings, and the label its jets carry."""

    label: int
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Sample:
    """Two classes and the selection of their reconstructed jets."""

    processes: tuple[Process, Process]
    radius: float  # of anti-kT
    pt_min: float  # GeV
    eta_max: float
    turn_on: tuple[float, float]  # of a trigger: pT at half efficiency, and width (GeV)
    fraction: float  # share of label 1
    channels: tuple[str, ...]  # those of the detector's that make the image
    version: int  # raised where a seed gives other jets than before (`results/contract.json` tells)


SAMPLES = {
    # p̂T bias: dσ/dp̂T is multiplied by p̂T^pow; fitted, with the p̂T cut and the turn-on, to the pT
    # spectrum of the public files.
    "top_qcd": Sample(
        (Process(0, ("HardQCD:all = on", "PhaseSpace:pTHatMin = 365",
                     "PhaseSpace:bias2Selection = on", "PhaseSpace:bias2SelectionPow = 0.7")),
         Process(1, ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on", "24:onMode = off",
                     "24:onIfAny = 1 2 3 4 5", "PhaseSpace:pTHatMin = 365",
                     "PhaseSpace:bias2Selection = on", "PhaseSpace:bias2SelectionPow = 0.3"))),
        radius=0.8, pt_min=400.0, eta_max=1.37, turn_on=(408.0, 18.0), fraction=0.4878,
        channels=CHANNELS, version=2,
    ),
    # The public set: dijets of quarks or of gluons, p̂T 80–120 GeV, pT > 70 GeV, |η| < 1.8
    # (arXiv:1902.08276); label 1 is quark, as its `isQuark` flag.
    "quark_gluon": Sample(
        (Process(0, ("HardQCD:gg2gg = on", "HardQCD:qqbar2gg = on",
                     "PhaseSpace:pTHatMin = 80", "PhaseSpace:pTHatMax = 120")),
         Process(1, ("HardQCD:gg2qqbar = on", "HardQCD:qq2qq = on", "HardQCD:qqbar2qqbarNew = on",
                     "PhaseSpace:pTHatMin = 80", "PhaseSpace:pTHatMax = 120"))),
        radius=0.4, pt_min=70.0, eta_max=1.8, turn_on=(0.0, 1.0), fraction=0.5,
        channels=("track pT", "ECAL", "HCAL"), version=2,
    ),
}


@dataclass
class Jet:
    """One accepted jet: physical sparse image and what is known of it."""

    indices: np.ndarray
    values: np.ndarray
    label: int
    mass: float  # GeV, reconstructed
    pt: float  # GeV, reconstructed
    true_mass: float  # GeV, particle level, without pile-up; 0 where there is no such jet
    true_pt: float
    parton: int  # PDG number of the parton (6 for a top) nearest to the jet
    vertices: int  # collisions in the event, the hard one included


def generator(settings: tuple[str, ...], seed: int) -> pythia8mc.Pythia:
    """An initialised Pythia. A new one for each chunk: no state is carried from one to the next."""
    pythia = pythia8mc.Pythia("", False)
    for line in (*COMMON, *settings, f"Random:seed = {1 + seed % 900_000_000}"):
        if not pythia.readString(line):
            raise RuntimeError(f"Pythia does not know the setting {line!r}")
    if not pythia.init():
        raise RuntimeError(f"Pythia could not start with {settings}")
    return pythia


def final_particles(event: pythia8mc.Event) -> Particles:
    """The visible stable particles of an event, positions in cm from the collision."""
    rows = [(p.id(), p.charge(), p.px(), p.py(), p.pz(), p.e(), p.xProd(), p.yProd(), p.zProd())
            for p in event if p.isFinal()]
    pdg, charge, px, py, pz, e, *place = np.array(rows, dtype=float).reshape(-1, 9).T
    place = [x * 0.1 for x in place]  # mm → cm
    found = Particles(pdg.astype(int), charge, px, py, pz, e, *place, np.zeros(len(pdg), int))
    central = np.abs(pz) < np.sinh(POOL_ETA) * np.hypot(px, py)
    return found[central & ~np.isin(np.abs(pdg), INVISIBLE)]


# --- pile-up ----------------------------------------------------------------------------------
@dataclass
class PileUp:
    """A pool of minimum-bias collisions, drawn with a random rotation about the beam and mirror."""

    particles: Particles
    offsets: np.ndarray  # of the first particle of each collision, and of the end

    def draw(self, n: int, z: np.ndarray, rng: np.random.Generator) -> Particles:
        """Particles of n collisions at z (n,) cm; `vertex` counts from 1."""
        chosen = rng.integers(len(self.offsets) - 1, size=n)
        starts, stops = self.offsets[chosen], self.offsets[chosen + 1]
        counts = stops - starts
        index = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        p = self.particles[index]
        angle = np.repeat(rng.uniform(0, 2 * np.pi, n), counts)
        mirror = np.repeat(rng.choice((-1.0, 1.0), n), counts)
        cos, sin = np.cos(angle), np.sin(angle)
        return Particles(
            p.pdg, p.charge, cos * p.px - sin * p.py, sin * p.px + cos * p.py, mirror * p.pz,
            p.energy, cos * p.x - sin * p.y, sin * p.x + cos * p.y,
            mirror * p.z + np.repeat(z, counts), np.repeat(np.arange(1, n + 1), counts),
        )


def pile_up_pool(name: str = "train", events: int | None = None) -> PileUp:
    """The pool `name` ("train" or "test"): read from its file, made first where it is missing."""
    if name not in POOL_SEEDS:
        raise ValueError(f"unknown pile-up pool {name!r}; there are {', '.join(POOL_SEEDS)}")
    seed, events = POOL_SEEDS[name], events or POOL_EVENTS[name]
    recipe = dict(settings=COMMON, seed=seed, events=events, eta=POOL_ETA, pythia="8.317")
    key = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:10]
    path = home() / "data" / f"pileup-{name}-{key}.npz"
    if not path.exists():
        _make_pool(path, seed, events)
    return _load_pool(path)


@lru_cache(maxsize=1)  # every chunk of a file draws from the same pool
def _load_pool(path: Path) -> PileUp:
    with np.load(path, allow_pickle=False) as stored:
        pdg, *rest = (stored[name].astype(int if name == "pdg" else float) for name in STORED)
        return PileUp(Particles(pdg, *rest, np.zeros(len(pdg), int)), stored["offsets"])


def _make_pool(path: Path, seed: int, events: int) -> None:
    pythia = generator(("SoftQCD:inelastic = on",), seed)
    parts = []
    while len(parts) < events:
        if pythia.next():
            parts.append(final_particles(pythia.event))
    together = Particles.join(parts)
    offsets = np.concatenate([[0], np.cumsum([len(p) for p in parts])])
    columns = {name: getattr(together, name).astype(np.int32 if name == "pdg" else np.float32)
               for name in STORED}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, offsets=offsets, **columns)


# --- jets -------------------------------------------------------------------------------------
def cluster(momenta: list[np.ndarray], radius: float, pt_min: float) -> list[np.ndarray]:
    """Anti-kT jets with pT > pt_min of several events at once: momenta (n, 4) px, py, pz, E in GeV
    per event in, (jets, 4) per event out, hardest first."""
    fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)  # it is cited above instead
    px, py, pz, e = np.concatenate(momenta).T
    flat = ak.zip({"px": px, "py": py, "pz": pz, "E": e}, with_name="Momentum4D")
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, radius)
    sequence = fastjet.ClusterSequence(ak.unflatten(flat, [len(m) for m in momenta]), definition)
    jets = sequence.inclusive_jets(min_pt=pt_min)
    sizes = ak.to_numpy(ak.num(jets))
    flat = np.stack([ak.to_numpy(ak.flatten(jets[k])) for k in ("px", "py", "pz", "E")], axis=1)
    found = np.split(flat, np.cumsum(sizes)[:-1])
    return [j[np.argsort(-np.hypot(j[:, 0], j[:, 1]), kind="stable")] for j in found]


def kinematics(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """pT, η, φ and mass of momenta (n, 4)."""
    pt = np.hypot(p[:, 0], p[:, 1])
    mass2 = p[:, 3] ** 2 - (p[:, :3] ** 2).sum(axis=1)
    return pt, np.arcsinh(p[:, 2] / pt), np.arctan2(p[:, 1], p[:, 0]), np.sqrt(np.maximum(mass2, 0))


def partons(event: pythia8mc.Event, top: bool) -> list[list[tuple[float, float, int]]]:
    """What a jet can be matched to: groups of (η, φ, PDG number), all to lie inside the jet.

    A hadronic top is the group of the top, its W and its b: the rule of the published selection.
    A light jet is matched to one outgoing parton of the hard process.
    """
    groups = []
    for p in (event[5], event[6]):  # the two outgoing particles of the hard process
        last = event[p.iBotCopyId()]  # a top after its recoils, as it decays
        group = [last, *(event[i] for i in last.daughterList())] if top else [p]
        groups.append([(g.eta(), g.phi(), g.idAbs()) for g in group])
    return groups


def matched(group: list[tuple[float, float, int]], eta: float, phi: float, radius: float) -> bool:
    """Whether all of a group lies within `radius` of the jet axis."""
    return all(np.hypot(g[0] - eta, wrap(g[1] - phi)) < radius for g in group)


def jets(sample: Sample, process: Process, pool: PileUp, seed: np.random.SeedSequence,
         pile_up: float | None = None) -> Iterator[Jet]:
    """An endless stream of accepted jets of one process.

    pile_up: mean number of pile-up collisions; None for the run's distribution (`PILE_UP`).
    The hard events do not depend on it: the generator and the detector have their own seeds.
    """
    hard_seed, detector_seed = seed.spawn(2)
    pythia = generator(process.settings, int(hard_seed.generate_state(1)[0]))
    rng = np.random.default_rng(detector_seed)
    is_top = any(s.startswith("Top:") for s in process.settings)
    while True:
        batch = []
        while len(batch) < BATCH:
            if pythia.next():
                batch.append((final_particles(pythia.event), partons(pythia.event, is_top)))
        yield from _accept(sample, process, pool, batch, rng, pile_up)


def _accept(sample: Sample, process: Process, pool: PileUp, batch: list, rng: np.random.Generator,
            pile_up: float | None) -> Iterator[Jet]:
    events, inputs, truth = [], [], []
    middle, width = sample.turn_on
    for hard, _ in batch:
        truth.append(np.stack([hard.px, hard.py, hard.pz, hard.energy], axis=1))
        n = rng.poisson(max(rng.normal(*PILE_UP), 0.0) if pile_up is None else pile_up)
        z = rng.normal(*detector.BEAM_Z, size=n + 1)
        hard.z = hard.z + z[0]
        particles = Particles.join([hard, pool.draw(n, z[1:], rng)])
        response = detector.respond(particles, rng)
        momenta, clustered = detector.candidates(response)
        # Only what can end up in a jet of the selected η range is clustered.
        limit = np.sinh(sample.eta_max + 1.2) * np.hypot(momenta[:, 0], momenta[:, 1])
        inputs.append(momenta[clustered & (np.abs(momenta[:, 2]) < limit)])
        events.append((response, z[0], n + 1))
    found = cluster(inputs, sample.radius, sample.pt_min)
    true = cluster(truth, sample.radius, 0.25 * sample.pt_min)
    for (_, groups), (response, z, vertices), momenta, true_momenta in zip(
            batch, events, found, true, strict=True):
        event = None
        for pt, eta, phi, mass in zip(*kinematics(momenta[:2]), strict=True):
            if abs(eta) > sample.eta_max:
                continue
            inside = [g for g in groups if matched(g, eta, phi, sample.radius)]
            # Short-circuit: only a matched jet takes a random number.
            if not inside or rng.random() > 0.5 * (1 + erf((pt - middle) / (sqrt(2) * width))):
                continue
            event = event or detector.Event(response, z, rng)
            image = event.image(eta, phi, sample.radius)
            if image is None:
                continue
            true_pt, true_eta, true_phi, true_mass = kinematics(true_momenta)
            distance = np.hypot(true_eta - eta, wrap(true_phi - phi))
            near = min(zip(distance, true_mass, true_pt), default=(np.inf,))
            nearest = near[1:] if near[0] < sample.radius else (0.0, 0.0)
            yield Jet(*image, process.label, mass, pt, *nearest, inside[0][0][2], vertices)
