"""Collisions: Pythia 8 events, minimum-bias pile-up from a shared pool, FastJet jets with truth.

Everything is at 8 TeV, as the public files. Where a number shapes the sample rather than describes
nature (p̂T bias, turn-on, pile-up), it stands in `SAMPLES` or below with what it was fitted to.
References: Pythia 8.3, SciPost Phys. Codebases 8 (2022); FastJet, EPJC 72 (2012) 1896;
anti-kT, JHEP 04 (2008) 063."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.ndimage import maximum_filter

try:
    import awkward as ak
    import fastjet
    import pythia8mc
except ImportError:  # public files and published results need none of them
    pythia8mc = None

from collider import detector
from collider.detector import NOMINAL, Detector
from collider.particles import INVISIBLE, Particles, wrap
from lib.cms import CHANNELS, PIXEL, SIZE, TOWER
from lib.files import DataError, guarded, read_npz, replacing
from lib.profiles import home

ENERGY = 8000  # GeV, centre-of-mass energy of the 2012 run
# Collisions that pile up in an event: their mean, fitted; its spread from event to event relative
# to it. In the run of 2012: 21 ± 6 (CMS, public results on luminosity).
PILE_UP, PILE_UP_SPREAD = 25.0, 6 / 21
# The pT spectrum of the public boosted jets: how it was biased is not published. Both fitted.
P_HAT, POWER = 391.0, 0.4  # GeV, smallest p̂T; power of p̂T that multiplies dσ/dp̂T
POOL_EVENTS = {"train": 3000, "test": 3000}  # minimum-bias events in each pool
POOL_SEEDS = {"train": 814, "test": 1408}
POOL_ETA = 4.0  # particles of the pool beyond this |η| cannot enter an image
STORED = [field.name for field in fields(Particles) if field.name != "vertex"]  # in a pool's file
# Public quark and gluon jets, after the code that made them, github.com/mbandrews/MLAnalyzer [MLA].
PAIR_ETA = 2.0  # both partons of an event need a jet within this |η| ...
LIGHT = (1, 2, 3, 21)  # ... and are light quarks or gluons
DIJETS = ("PhaseSpace:pTHatMin = 80", "PhaseSpace:pTHatMax = 170", "HardQCD:nQuarkNew = 3")
# GeV: transverse energy of an ECAL tower around which all crystals are kept, the others not; energy
# of an HCAL tower that is kept. Fitted to the zeros of the two channels, 97.8 % each.
READ_OUT = 2.65, 1.56
# |η| where the barrel ends; GeV of noise a pixel, in it and beyond, where [MLA] averages the 0.15
# GeV of four crystals [ECAL].
ECAL_BARREL, NOISE = 1.479, (0.035, 0.075)
VETO = 0.7  # an event without a matched true jet above this share of the cut is dropped at once
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
    fraction: float  # share of label 1
    channels: tuple[str, ...]  # those of the detector's that make the image
    version: int  # raised where a seed gives other jets than before (`results/contract.json` tells)
    encoding: str = "cms8"  # of the public files
    pair: bool = False  # one jet an event, of two that are both matched; calorimeters as read out


@dataclass(frozen=True)
class Conditions:
    """How the events of a sample are recorded."""

    pile_up: float = PILE_UP  # mean number of collisions in addition to the hard one
    spread: float = PILE_UP_SPREAD  # of that mean from event to event, relative
    pile_up_removal: str = "none"  # or "chs": jets without the tracks of other vertices
    detector: Detector = NOMINAL


def boosted(p_hat: float = P_HAT, power: float = POWER) -> Sample:
    """Boosted tops (label 1) against jets of light quarks and gluons. p_hat: smallest p̂T (GeV).
    power: of p̂T that multiplies dσ/dp̂T of both classes."""
    bias = ("PhaseSpace:bias2Selection = on", f"PhaseSpace:bias2SelectionPow = {power:g}",
            f"PhaseSpace:pTHatMin = {p_hat:g}")
    return Sample(
        (Process(0, ("HardQCD:all = on", *bias)),
         Process(1, ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on", "24:onMode = off",
                     "24:onIfAny = 1 2 3 4 5", *bias))),
        radius=0.8, pt_min=400.0, eta_max=1.37, fraction=0.4878, channels=CHANNELS, version=4,
    )


SAMPLES = {
    "top_qcd": boosted(),
    # The public set (arXiv:1902.08276), after the code that made it: pairs of quark or of gluon
    # jets, p̂T 80–170 GeV; label 1 is quark, as its `isQuark` flag.
    "quark_gluon": Sample(
        (Process(0, ("HardQCD:gg2gg = on", "HardQCD:qqbar2gg = on", *DIJETS)),
         Process(1, ("HardQCD:gg2qqbar = on", "HardQCD:qq2qq = on", "HardQCD:qqbar2qqbarNew = on",
                     *DIJETS))),
        radius=0.4, pt_min=70.0, eta_max=1.37, fraction=0.5,
        channels=("track pT", "ECAL", "HCAL"), version=5, encoding="gev", pair=True,
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
    eta: float
    true_mass: float  # GeV, particle level, without pile-up; 0 where there is no such jet
    true_pt: float
    parton: int  # PDG number of the parton (6 for a top) nearest to the jet
    vertices: int  # collisions in the event, the hard one included
    z: float  # cm, of the hard collision along the beam
    event: int  # number of the event: two jets may be of one


def generator(settings: tuple[str, ...], seed: int) -> pythia8mc.Pythia:
    """An initialised Pythia. A new one for each chunk: no state is carried from one to the next."""
    if pythia8mc is None:
        raise DataError("Pythia or FastJet is not installed: they have wheels for Linux x86-64 and "
                        "macOS, Python 3.11 to 3.13; elsewhere, --data cms works")
    pythia = pythia8mc.Pythia("", False)
    for line in (*COMMON, *settings, f"Random:seed = {1 + seed % 900_000_000}"):
        if not pythia.readString(line):
            raise RuntimeError(f"Pythia does not know {line!r}: set PYTHIA8DATA to its xmldoc?")
    if not pythia.init():
        raise RuntimeError(f"Pythia could not start with {settings}")
    return pythia


def collisions(pythia: pythia8mc.Pythia, n: int, eta_max: float = POOL_ETA,
               ) -> tuple[Particles, ak.Array]:
    """The visible stable particles of the next n events, and the events' whole records. Positions
    are in cm from the collision; `vertex` counts the events, which may be fewer than n where Pythia
    gives one up."""
    records = pythia.nextBatch(n).prt
    event = np.repeat(np.arange(len(records)), ak.to_numpy(ak.num(records)))
    flat = ak.flatten(records)
    pdg = ak.to_numpy(flat.id)
    px, py, pz, e = (ak.to_numpy(flat.p[k]) for k in ("px", "py", "pz", "e"))
    keep = (ak.to_numpy(flat.status) > 0) & ~np.isin(np.abs(pdg), INVISIBLE)
    keep &= np.abs(pz) < np.sinh(eta_max) * np.hypot(px, py)
    kinds, which = np.unique(pdg[keep], return_inverse=True)
    charge = np.array([pythia.particleData.charge(int(kind)) for kind in kinds])[which]
    where = (0.1 * ak.to_numpy(ak.fill_none(flat.vProd[k][keep], 0.0))  # mm → cm
             for k in ("px", "py", "pz"))
    return Particles(pdg[keep].astype(np.int64), charge, px[keep], py[keep], pz[keep], e[keep],
                     *where, event[keep]), records


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
    """The pool `name` ("train" or "test"): read from its file, made where that is missing or
    damaged."""
    if name not in POOL_SEEDS:
        raise ValueError(f"unknown pile-up pool {name!r}; there are {', '.join(POOL_SEEDS)}")
    seed, events = POOL_SEEDS[name], events or POOL_EVENTS[name]
    recipe = dict(settings=COMMON, seed=seed, events=events, eta=POOL_ETA, pythia="8.317")
    key = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:10]
    path = home() / "data" / f"pileup-{name}-{key}.npz"
    try:
        return load_pool(path)
    except DataError:
        _make_pool(path, seed, events)
    return load_pool(path)


@lru_cache(maxsize=1)  # every chunk of a file draws from the same pool
def load_pool(path: Path) -> PileUp:
    """A pool from its file. Raises: DataError for one that is missing or damaged."""
    todo, what = "delete it, it is made again", "no pile-up pool"
    with guarded(path, todo, what):
        stored = read_npz(path, todo, what)
        pdg, *rest = (stored[name].astype(int if name == "pdg" else float) for name in STORED)
        offsets, sizes = stored["offsets"], {column.shape for column in (pdg, *rest)}
        if (sizes != {(offsets[-1],)} or offsets[0] != 0 or (np.diff(offsets) < 0).any()
                or offsets.dtype.kind not in "iu" or not np.isfinite(rest).all()):
            raise ValueError("its columns do not fit together")
        return PileUp(Particles(pdg, *rest, np.zeros(len(pdg), int)), offsets)


def _make_pool(path: Path, seed: int, events: int) -> None:
    pythia = generator(("SoftQCD:inelastic = on",), seed)
    together, records = collisions(pythia, events)
    offsets = np.searchsorted(together.vertex, np.arange(len(records) + 1))
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


def partons(record: ak.Array, top: bool) -> list[list[tuple[float, float, int]]]:
    """What a jet can be matched to: groups of (η, φ, PDG number), all to lie inside the jet. A
    hadronic top is the group of the top, its W and its b: the rule of the published selection. A
    light jet is matched to one outgoing parton of the hard process."""
    pdg, first, last = (ak.to_numpy(record[k]) for k in ("id", "daughter1", "daughter2"))
    px, py, pz = (ak.to_numpy(record.p[k]) for k in ("px", "py", "pz"))
    groups = []
    for member in (5, 6):  # the two outgoing particles of the hard process
        group = [member]
        if top:
            while pdg[member] in (copies := pdg[[first[member], last[member]]]):
                member = (first if copies[0] == pdg[member] else last)[member]
            group = [member, *range(first[member], last[member] + 1)]  # as it decays
        eta = np.arcsinh(pz[group] / np.hypot(px[group], py[group]))
        phi = np.arctan2(py[group], px[group])
        groups.append(list(zip(eta, phi, np.abs(pdg[group]), strict=True)))
    return groups


def matched(group: list[tuple[float, float, int]], eta: float, phi: float, radius: float) -> bool:
    """Whether all of a group lies within `radius` of the jet axis."""
    return all(np.hypot(g[0] - eta, wrap(g[1] - phi)) < radius for g in group)


def jets(sample: Sample, process: Process, pool: PileUp, seed: np.random.SeedSequence,
         conditions: Conditions) -> Iterator[Jet]:
    """An endless stream of accepted jets of one process. The hard events do not depend on the
    conditions: generator and detector have their own seeds."""
    hard_seed, detector_seed = seed.spawn(2)
    pythia = generator(process.settings, int(hard_seed.generate_state(1)[0]))
    rng = np.random.default_rng(detector_seed)
    number = 0
    while True:
        hard, records = collisions(pythia, BATCH)
        hopeful = _hopeful(sample, process, hard, records)
        for jet in _recorded(sample, pool, hard, hopeful, rng, conditions):
            jet.event += number
            jet.label = process.label
            yield jet
        number += BATCH


def _hopeful(sample: Sample, process: Process, hard: Particles,
             records: ak.Array) -> dict[int, tuple[list, np.ndarray]]:
    """Event → partons and true jets (n, 4), of the events that can bear a jet of the sample."""
    is_top = any(s.startswith("Top:") for s in process.settings)
    starts = np.searchsorted(hard.vertex, np.arange(len(records) + 1))
    momenta = np.split(hard.momenta, starts[1:-1])
    found = {}
    for event, true in enumerate(cluster(momenta, sample.radius, 0.25 * sample.pt_min)):
        pt, eta, phi, _ = kinematics(true)
        limit = PAIR_ETA if sample.pair else sample.eta_max
        good = (pt > VETO * sample.pt_min) & (np.abs(eta) < limit + 0.1)
        if good.any():
            groups = partons(records[event], is_top)
            if sample.pair and any(group[0][2] not in LIGHT for group in groups):
                continue
            if (all if sample.pair else any)(
                    any(matched(group, *axis, sample.radius + 0.1)
                        for axis in zip(eta[good], phi[good], strict=True)) for group in groups):
                found[event] = groups, true
    return found


def _recorded(sample: Sample, pool: PileUp, hard: Particles, hopeful: dict,
              rng: np.random.Generator, conditions: Conditions) -> Iterator[Jet]:
    """Accepted jets of a batch of events: pile-up, detector, clustering, selection, image."""
    events = np.array(list(hopeful), dtype=np.int64)
    mean = conditions.pile_up * (1 + conditions.spread * rng.normal(size=len(events)))
    extra = rng.poisson(np.maximum(mean, 0))
    # Collisions: the hard ones first, then the pile-up; `owner` is the event of each.
    owner = np.concatenate([np.arange(len(events)), np.repeat(np.arange(len(events)), extra)])
    z = rng.normal(*detector.BEAM_Z, size=len(owner))
    hard = hard[np.isin(hard.vertex, events)]
    hard.vertex = np.searchsorted(events, hard.vertex)
    hard.z = hard.z + z[hard.vertex]
    soft = pool.draw(len(owner) - len(events), z[len(events):], rng)
    soft.vertex += len(events) - 1
    particles = Particles.join([hard, soft])
    order = np.argsort(owner[particles.vertex], kind="stable")
    particles, event = particles[order], owner[particles.vertex][order]
    starts = np.searchsorted(event, np.arange(len(events) + 1))
    apart = (z - z[owner])[particles.vertex]
    response = detector.respond(particles, z[event], rng, apart, conditions.detector)
    momenta, clustered = detector.candidates(response, conditions.pile_up_removal)
    # Only what can end up in a jet of the selected η range is clustered.
    limit = np.sinh(sample.eta_max + 1.2) * np.hypot(momenta[:, 0], momenta[:, 1])
    clustered &= np.abs(momenta[:, 2]) < limit
    pieces = [slice(*starts[i:i + 2]) for i in range(len(events))]
    found = cluster([momenta[s][clustered[s]] for s in pieces], sample.radius, sample.pt_min)
    for i, (groups, true) in enumerate(hopeful.values()):
        seen = None
        for (pt, eta, phi, mass), parton in _selected(sample, found[i], groups):
            seen = seen or detector.Event(response[pieces[i]], z[i], rng, conditions.detector)
            image = seen.image(eta, phi)
            if image is None:
                continue
            if sample.pair:
                image = read_out(*image, eta, rng)
            true_pt, true_eta, true_phi, true_mass = kinematics(true)
            distance = np.hypot(true_eta - eta, wrap(true_phi - phi))
            near = int(np.argmin(distance))
            ok = distance[near] < sample.radius
            yield Jet(*image, 0, mass, pt, eta, true_mass[near] if ok else 0.0,
                      true_pt[near] if ok else 0.0, parton, int(extra[i]) + 1, z[i],
                      int(events[i]))


def _selected(sample: Sample, found: np.ndarray, groups: list) -> list[tuple[tuple, int]]:
    """Which of the jets (n, 4) of an event a sample takes: pT, η, φ and mass, and the PDG number of
    what it is matched to."""
    if not sample.pair:
        rows = list(zip(*kinematics(found[:2]), strict=True))
        inside = [[g for g in groups if matched(g, *row[1:3], sample.radius)] for row in rows]
        return [(row, there[0][0][2]) for row, there in zip(rows, inside, strict=True)
                if there and abs(row[1]) <= sample.eta_max]
    rows = [row for row in zip(*kinematics(found), strict=True) if abs(row[1]) < PAIR_ETA]
    of = [next((i for i, row in enumerate(rows) if matched(group, *row[1:3], sample.radius)), None)
          for group in groups]
    if None in of or of[0] == of[1]:
        return []
    first = rows[of[0]]  # of the two the public set has the jet of the first parton
    return [(first, groups[0][0][2])] if abs(first[1]) <= sample.eta_max else []


def read_out(indices: np.ndarray, values: np.ndarray, eta: float,
             rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image of the detector with its calorimeters as in the public quark and gluon images.

    Around an ECAL tower of high transverse energy all crystals are kept, whatever they hold, noise
    of both signs included (selective read-out [ECAL]). The energy of an HCAL tower is shared by its
    25 pixels [MLA]. indices, values: as of `Event.image`; eta: of the jet, near the middle."""
    image = np.zeros(detector.SHAPE, np.float32)
    image.reshape(-1)[indices] = values
    ecal, hcal = (image[CHANNELS.index(name)] for name in ("ECAL", "HCAL"))
    row = eta + (np.arange(SIZE) - SIZE // 2)[:, None] * PIXEL
    noise = rng.normal(size=ecal.shape) * np.where(np.abs(row) < ECAL_BARREL, *NOISE)
    noise[noise > detector.ECAL_THRESHOLD] *= -1  # what is above has been seen
    towers = (ecal / np.cosh(row)).reshape(SIZE // TOWER, TOWER, -1, TOWER).sum((1, 3))
    kept = maximum_filter(towers > READ_OUT[0], 3).repeat(TOWER, 0).repeat(TOWER, 1)
    ecal[:] = np.where(ecal == 0, noise, ecal) * kept
    hcal[:] = np.where(hcal > READ_OUT[1], hcal / TOWER**2, 0)
    indices = np.flatnonzero(image)
    return indices.astype(np.int32), image.reshape(-1)[indices]
