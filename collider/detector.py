"""A parametrised CMS-like detector: particles in, eight images of 125×125 pixels out.

The detector is a solenoid with three pixel layers, a tracker, a crystal calorimeter and a hadron
calorimeter, each reduced to the few numbers that shape an image: geometry, resolution, threshold,
shower width. One pixel is one barrel crystal (π/180 in η and φ), one 5×5 block one HCAL tower.

Notation: rows are η, columns φ; lengths cm, energies GeV. References: CMS, JINST 3 (2008) S08004
[CMS]; tracking, JINST 9 (2014) P10009 [TRK]; ECAL, JINST 8 (2013) P09009 [ECAL]; particle flow,
JINST 12 (2017) P10003 [PF]; showers, Grindhammer and Peters, hep-ex/0001020 [GP]. How an image is
made of the signals follows the public code of the group that made the public ones,
github.com/cms-e2e/RecoE2E [E2E]. Constants marked *fitted* have no reference for their value: they
were chosen so that simulated images resemble the published ones (closure table, notebook 01)."""

from dataclasses import dataclass, replace

import numpy as np

from collider.particles import Columns, Helix, Particles, wrap
from lib.cms import CHANNELS, ECAL_RESOLUTION, HCAL_RESOLUTION, PIXEL, SIZE, TOWER

# --- grid -------------------------------------------------------------------------------------
SHAPE = (len(CHANNELS), SIZE, SIZE)
HALF = 12  # towers on each side of the central one
SEARCH = 3  # towers each way from the axis among which the hottest is the centre [E2E]
WINDOW = 2 * (HALF + SEARCH) + 1  # towers per side of the working area around the jet axis

# --- beam -------------------------------------------------------------------------------------
# cm, mean and r.m.s. of collisions along the beam: CMSSW, Realistic8TeVCollision vertex smearing.
BEAM_Z = (0.41, 6.16)

# --- tracker ----------------------------------------------------------------------------------
PIXEL_RADII = (4.4, 7.3, 10.2)  # cm, barrel pixel layers [CMS]
PIXEL_HALF_LENGTH = 26.5  # cm [CMS]
PIXEL_EFFICIENCY = 0.985  # hits per crossing, after [TRK]
SECONDARY_SPREAD = 0.1  # r.m.s. in η and φ of secondary hits; any value does: no closure row moves
TRACK_PLATEAU = 0.9  # GeV, pT from which the efficiency of tracks is constant [TRK]
TRACK_BARREL = 0.9  # |η| up to which the first of the two efficiencies holds [TRK]
TRACK_DZ_MAX = 0.1  # cm from the primary vertex: other tracks have no dz [E2E]
# cm: collisions nearer to the primary one than this are one vertex with it, so that their tracks
# stay in its jets: the gap at which vertices are kept apart [TRK].
VERTEX_GAP = 0.1
TRACK_ETA_MAX = 2.5  # tracker acceptance [CMS]
TRACK_EFFICIENCY = (0.94, 0.85)  # of hadrons with pT > 0.9 GeV, below and above |η| = 0.9 [TRK]
PT_RESOLUTION = (0.010, 0.00015)  # relative: constant ⊕ slope·pT/GeV after [TRK], central barrel
D0_RESOLUTION = (0.0012, 0.0095)  # cm: constant ⊕ slope/(pT/GeV) after [TRK]
DZ_RESOLUTION = (0.0040, 0.0150)  # cm: constant ⊕ slope/(pT/GeV), times cosh η after [TRK]

# --- electromagnetic calorimeter --------------------------------------------------------------
ECAL_RADIUS, ECAL_Z = 129.0, 317.0  # cm, front faces of barrel and endcap [CMS]
# GeV per crystal: zero suppression of the barrel, 2.25 times a noise of 35 MeV (CMSSW, settings of
# `simEcalDigis`: srpBarrelLowInterestChannelZS).
ECAL_THRESHOLD = 2.25 * 0.035
# Lateral profile, two terms of the form of [GP]: widths of core and tail in crystals, share of the
# tail. They follow from 79, 94 and 97 % of an electron in 1, 3×3 and 5×5 crystals [ECAL].
SHOWER_CORE, SHOWER_TAIL, TAIL_SHARE = 0.234, 1.85, 0.0765
SHOWER_CELLS = 3  # crystals each way from the one that is hit
MIP_ENERGY = 0.25  # GeV left by a minimum-ionising particle in 26 X0 of PbWO4 [CMS]
HADRON_SHARE = 0.55  # probability that a hadron starts its shower in the ECAL (about 1 λ) [CMS]

# --- hadron calorimeter -----------------------------------------------------------------------
SPOTS = 30  # into which a hadronic shower is divided: as fine as costs nothing
# Mean response 1 − a·(E/GeV)^−b: the electromagnetic share of a hadronic shower grows with energy
# (Groom, NIM A 572 (2007) 633; b there 0.13–0.18).
HCAL_RESPONSE = (0.55, 0.15)

# --- particle-flow candidates -----------------------------------------------------------------
PHOTON_MIN, NEUTRAL_MIN = 0.23, 0.8  # GeV, seeds of clusters in the barrel [PF]
PION_MASS, NUCLEON_MASS = 0.1396, 0.939  # GeV (PDG)


@dataclass(frozen=True)
class Detector:
    """What of the detector was fitted (`collider.fit`), or is varied to see what hangs on it."""

    track_pt: float = 0.36  # GeV, pT at which tracks begin; fitted ([TRK]: 0.1)
    chs_efficiency: float = 0.8  # share of other vertices' tracks known as such; assumed
    # Extra hits per crossing for each cm from the beam: what δ rays, conversions and nuclear
    # reactions on the way have made; fitted.
    secondary_rate: float = 0.021
    hadron_ecal: float = 0.01  # mean share left in the ECAL of a shower begun there; fitted
    hadron_width: float = 1.1  # crystals, spread of a hadronic shower along η and φ each; fitted
    hcal_threshold: float = 1.22  # GeV per tower; fitted ([PF] clusters cells above 0.8)
    ecal_noise: float = 0.035  # GeV per crystal: the unit of the zero suppression above
    resolution: float = 1.0  # of tracks, in units of what is given above
    material: float = 1.0  # of the tracker: secondaries, and tracks lost to nuclear reactions


NOMINAL = Detector()
# The second is a systematic variation: more noise, more material, worse tracks.
DETECTORS = {"nominal": NOMINAL,
             "varied": replace(NOMINAL, ecal_noise=0.0385, resolution=1.1, material=1.1)}


@dataclass
class Response(Columns):
    """What the detector makes of one event before any image is cut out."""

    particles: Particles
    helix: Helix
    tracked: np.ndarray  # (n,) bool
    track_pt: np.ndarray  # (n,) GeV, smeared
    reaches: np.ndarray  # (n,) bool: gets to the ECAL, in barrel or endcap
    eta: np.ndarray  # (n,) where it gets there, as seen from the centre
    phi: np.ndarray  # (n,)
    direction: np.ndarray  # (n, 3) unit vector from the primary vertex to there
    response: np.ndarray  # (n,) mean calorimeter response to a hadron of this energy
    em: np.ndarray  # (n,) GeV deposited in the ECAL
    had: np.ndarray  # (n,) GeV deposited in the HCAL
    showers: np.ndarray  # (n,) bool: hadronic shower that starts in the ECAL
    other_vertex: np.ndarray  # (n,) bool: its track is known to be of another collision


def respond(particles: Particles, primary_z: np.ndarray | float, rng: np.random.Generator,
            apart: np.ndarray | float = 0.0, detector: Detector = NOMINAL) -> Response:
    """Tracks found and energies deposited by n particles. primary_z: (n,) cm, of the hard collision
    of their event. apart: (n,) cm along the beam from there to the particle's own collision."""
    n = len(particles)
    helix = Helix.of(particles)
    reaches, (x, y, z) = _arrival(helix)
    pdg = np.abs(particles.pdg)
    charged = particles.charge != 0
    photon, electron, muon = pdg == 22, pdg == 11, pdg == 13
    hadron = ~(photon | electron | muon)
    pt = particles.pt
    tracked = charged & (rng.random(n) < _track_efficiency(particles, muon, detector))
    sigma = detector.resolution * np.hypot(PT_RESOLUTION[0], PT_RESOLUTION[1] * pt)
    track_pt = pt * np.maximum(1 + sigma * rng.normal(size=n), 0.1)

    e = visible_energy(particles)
    a, b, c = ECAL_RESOLUTION
    em_sigma = np.sqrt(a * a / e + (b / e) ** 2 + c * c)
    em_energy = e * np.maximum(1 + em_sigma * rng.normal(size=n), 0)
    showers = hadron & (rng.random(n) < HADRON_SHARE)
    share = np.where(showers, rng.beta(1, 1 / detector.hadron_ecal - 1, size=n), 0)
    had_sigma = np.hypot(HCAL_RESOLUTION[0] / np.sqrt(e), HCAL_RESOLUTION[1])
    response = 1 - HCAL_RESPONSE[0] * np.maximum(e, 0.5) ** -HCAL_RESPONSE[1]
    had_energy = e * response * np.maximum(1 + had_sigma * rng.normal(size=n), 0)
    landau = np.maximum(1 + 0.3 * rng.normal(size=n), 0.2)  # roughly its width
    mip = np.minimum(MIP_ENERGY * landau, e)
    em = np.where(photon | electron, em_energy, share * had_energy)
    em = np.where((hadron & charged & ~showers) | muon, mip, em)
    had = np.where(hadron, (1 - share) * had_energy, 0)
    other_vertex = (np.abs(apart) > VERTEX_GAP) & (rng.random(n) < detector.chs_efficiency)
    path = np.stack([x, y, z - primary_z], axis=1)
    direction = path / np.maximum(np.linalg.norm(path, axis=1, keepdims=True), 1e-6)
    return Response(particles, helix, tracked, track_pt, reaches,
                    np.arcsinh(z / np.maximum(np.hypot(x, y), 1e-6)), np.arctan2(y, x), direction,
                    response, em * reaches, had * reaches, showers, other_vertex)


def _arrival(helix: Helix) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Which of n particles get to the face of the ECAL, and where: x, y, z in cm. What curls up
    before the barrel drifts to an endcap."""
    out, _, _ = helix.crossings(ECAL_RADIUS)
    with np.errstate(divide="ignore", invalid="ignore"):
        to_endcap = (np.sign(helix.slope) * ECAL_Z - helix.z) / helix.slope
    arc = np.minimum(out, np.where(helix.slope == 0, np.inf, to_endcap))
    reaches = np.isfinite(arc) & (np.hypot(helix.x, helix.y) <= ECAL_RADIUS)
    return reaches, helix.at(np.where(reaches, arc, 0))


def _track_efficiency(particles: Particles, muon: np.ndarray, detector: Detector) -> np.ndarray:
    """Share of charged particles (n,) whose track is found and is of high purity. Those that are
    made outside the innermost pixel layer leave too few pixel hits for a seed."""
    eta, pt = np.abs(particles.eta), np.maximum(particles.pt, 1e-9)
    lost = detector.material * (1 - np.where(eta < TRACK_BARREL, *TRACK_EFFICIENCY))
    rise = np.clip(np.log(pt / detector.track_pt) / np.log(TRACK_PLATEAU / detector.track_pt), 0, 1)
    inside = np.hypot(particles.x, particles.y) < PIXEL_RADII[0]
    return np.where((eta < TRACK_ETA_MAX) & inside, rise * np.where(muon, 1, 1 - lost), 0)


def candidates(response: Response, pile_up_removal: str = "chs") -> tuple[np.ndarray, np.ndarray]:
    """Particle-flow-like candidates for jet clustering.

    Charged particles take the track where there is one, with its momentum at the vertex. All else
    is calorimeter energy that points from the primary vertex to where it lies: what has curled up
    is therefore in the endcaps, not in the direction in which it set out. pile_up_removal: with
    "chs" (charged-hadron subtraction) the tracks of other vertices are left out; neutral pile-up
    stays. With "none" all stay.

    Returns momenta (n, 4) px, py, pz, E in GeV; (n,) bool, which of them a jet algorithm sees."""
    p = response.particles
    is_em = (np.abs(p.pdg) == 22) | (np.abs(p.pdg) == 11)
    calorimeter = np.where(is_em, response.em, (response.em + response.had) / response.response)
    floor = np.where(is_em, PHOTON_MIN, NEUTRAL_MIN)
    scale = response.track_pt / np.maximum(p.pt, 1e-9)
    momentum = np.where(response.tracked[:, None], scale[:, None] * p.momenta[:, :3],
                        calorimeter[:, None] * response.direction)
    # Tracks get the pion's mass, energy in the calorimeters none: nothing else is known of them.
    energy = np.hypot(np.linalg.norm(momentum, axis=1), PION_MASS * response.tracked)
    removed = response.other_vertex & (pile_up_removal == "chs")
    clustered = np.where(response.tracked, ~removed, calorimeter > floor)
    return np.column_stack([momentum, energy]), clustered


def visible_energy(particles: Particles) -> np.ndarray:
    """Energy (GeV) that can show in a calorimeter: a nucleon keeps its mass, an antinucleon
    annihilates and brings a second one."""
    nucleon = np.isin(np.abs(particles.pdg), (2112, 2212))
    mass = np.where(nucleon, np.sign(particles.pdg) * NUCLEON_MASS, 0)
    return np.maximum(particles.energy - mass, 1e-3)


def _crystal(angle: np.ndarray) -> np.ndarray:
    return np.floor(angle / PIXEL).astype(np.int64)


def shares(row: np.ndarray, column: np.ndarray, width: float) -> np.ndarray:
    """Share of a shower in the cells around the one that it hits: (n, 7, 7). The density is
    R²/π(r² + R²)² [GP] with R = `width`, integrated over each cell. row, column (n,) in [0, 1):
    where in its cell a shower hits."""
    steps = np.arange(-SHOWER_CELLS, SHOWER_CELLS + 2)
    x, y = (steps - row[:, None])[:, :, None], (steps - column[:, None])[:, None, :]
    a, b = np.sqrt(x * x + width**2), np.sqrt(y * y + width**2)
    integral = (x / a * np.arctan(y / a) + y / b * np.arctan(x / b)) / (2 * np.pi)
    return np.diff(np.diff(integral, axis=1), axis=2)


@dataclass
class _Grid:
    """A square working area of crystals whose first row and column are given (φ wraps at 360)."""

    row: int
    column: int
    side: int = WINDOW * TOWER

    def cells(self, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Flat cell numbers and which of them lie inside."""
        row, column = row - self.row, (column - self.column) % 360
        ok = (row >= 0) & (row < self.side) & (column < self.side)
        return row * self.side + column, ok

    def sum(self, cell: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        return np.bincount(cell, weights, minlength=self.side**2).reshape(self.side, self.side)


class Event:
    """All particles of one event propagated once; `image(axis)` cuts a jet image out of it."""

    def __init__(self, response: Response, primary_z: float, rng: np.random.Generator,
                 detector: Detector = NOMINAL):
        self.response, self.primary_z, self.rng = response, primary_z, rng
        self.detector = detector
        self.helix, self.reaches = response.helix, response.reaches
        self.eta, self.phi = response.eta, response.phi

    def image(self, axis_eta: float, axis_phi: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Sparse image around the hottest HCAL tower of the 7 × 7 around a jet axis [E2E]. Returns
        indices (k,) int32 into the flat (8, 125, 125) image, ascending; values (k,) float32: GeV,
        signed cm for dz and d0, counts for the pixel layers. None without HCAL energy."""
        centre = _crystal(np.array([axis_eta, axis_phi])) // TOWER
        grid = _Grid(*(centre - WINDOW // 2) * TOWER)
        i = np.flatnonzero(self.reaches & (np.abs(self.eta - axis_eta) < 2.2)
                           & (np.abs(wrap(self.phi - axis_phi)) < 2.2))
        hcal = self._hcal(i, grid)
        near = slice(HALF, HALF + 2 * SEARCH + 1)
        crop = np.unravel_index(np.argmax(hcal[near, near]), (2 * SEARCH + 1,) * 2)
        if hcal[near, near][crop] <= self.detector.hcal_threshold:
            return None
        pixels = tuple(slice(c * TOWER, c * TOWER + SIZE) for c in crop)
        hcal = hcal.repeat(TOWER, axis=0).repeat(TOWER, axis=1)
        planes = [*self._tracks(grid), self._ecal(i, grid), hcal,
                  *(self._pixel_layer(layer, grid) for layer in range(3))]
        image = np.stack([plane[pixels] for plane in planes]).astype(np.float32)
        noise = self.rng.standard_normal((SIZE, SIZE), dtype=np.float32)
        image[3] += self.detector.ecal_noise * noise
        image[3][image[3] <= ECAL_THRESHOLD] = 0
        image[4][image[4] <= self.detector.hcal_threshold] = 0
        flat = image.ravel()
        indices = np.flatnonzero(flat)
        return indices.astype(np.int32), flat[indices]

    def _tracks(self, grid: _Grid) -> list[np.ndarray]:
        """Sums of the tracks' pT, d0 and dz in the pixel of their momentum at the beam [E2E].

        d0 and dz are relative to the primary vertex; dz is that of tracks with |dz| < 0.1 cm. The
        published numbers of pixels and the one public image at hand agree with d0 of all tracks in
        channel 1 and dz in channel 2: half of d0 is positive at every radius, pile-up included,
        while few tracks have a dz."""
        i = np.flatnonzero(self.response.tracked)
        pt, eta = self.response.track_pt[i], self.response.particles.eta[i]
        d0, z, phi = self.helix[i].impact()
        dz, noise = z - self.primary_z, self.detector.resolution * self.rng.normal(size=(2, len(i)))
        d0 = d0 + np.hypot(D0_RESOLUTION[0], D0_RESOLUTION[1] / pt) * noise[0]
        dz = dz + np.hypot(DZ_RESOLUTION[0], DZ_RESOLUTION[1] / pt) * np.cosh(eta) * noise[1]
        cell, ok = grid.cells(_crystal(eta), _crystal(phi))
        primary = ok & (np.abs(dz) < TRACK_DZ_MAX)
        return [grid.sum(cell[ok], pt[ok]), grid.sum(cell[ok], d0[ok]),
                grid.sum(cell[primary], dz[primary])]

    def _ecal(self, i: np.ndarray, grid: _Grid) -> np.ndarray:
        r = self.response
        # Photons, electrons and minimum-ionising particles: a shower profile over 7×7 crystals.
        narrow = i[(r.em[i] > 0) & ~r.showers[i]]
        eta, phi = self.eta[narrow] / PIXEL, self.phi[narrow] / PIXEL
        row, column = _crystal(self.eta[narrow]), _crystal(self.phi[narrow])
        core, tail = (shares(eta - row, phi - column, w) for w in (SHOWER_CORE, SHOWER_TAIL))
        energy = r.em[narrow, None, None] * ((1 - TAIL_SHARE) * core + TAIL_SHARE * tail)
        steps = np.arange(-SHOWER_CELLS, SHOWER_CELLS + 1)
        rows, columns = np.broadcast_arrays(row[:, None, None] + steps[:, None],
                                            column[:, None, None] + steps)
        # Hadronic showers: unequal spots of one crystal around the impact point.
        wide = i[(r.em[i] > 0.02) & r.showers[i]]
        spots = self._spots(wide, r.em[wide])
        cell, ok = grid.cells(np.concatenate([rows.ravel(), spots[0]]),
                              np.concatenate([columns.ravel(), spots[1]]))
        return grid.sum(cell[ok], np.concatenate([energy.ravel(), spots[2]])[ok])

    def _spots(self, i: np.ndarray, energy: np.ndarray) -> tuple:
        """Hadronic showers as unequal spots: their crystal rows, columns and energies."""
        weights = self.rng.exponential(size=(len(i), SPOTS))
        weights *= (energy / weights.sum(axis=1))[:, None]
        spread = self.detector.hadron_width * self.rng.laplace(size=(2, len(i), SPOTS))
        row = np.floor(self.eta[i, None] / PIXEL + spread[0]).astype(np.int64)
        column = np.floor(self.phi[i, None] / PIXEL + spread[1]).astype(np.int64)
        return row.ravel(), column.ravel(), weights.ravel()

    def _hcal(self, i: np.ndarray, grid: _Grid) -> np.ndarray:
        """Tower energies (WINDOW, WINDOW): each hadron's in spots around its impact point."""
        i = i[self.response.had[i] > 0.02]
        row, column, energy = self._spots(i, self.response.had[i])
        cell, ok = grid.cells(row, column)
        tower = cell[ok] // grid.side // TOWER * WINDOW + cell[ok] % grid.side // TOWER
        return np.bincount(tower, energy[ok], minlength=WINDOW**2).reshape(WINDOW, WINDOW)

    def _pixel_layer(self, layer: int, grid: _Grid) -> np.ndarray:
        """Hits of one pixel layer, placed as seen from the primary vertex."""
        radius, rng = PIXEL_RADII[layer], self.rng
        rate = self.detector.material * self.detector.secondary_rate * radius
        charged = np.flatnonzero(self.response.particles.charge != 0)
        out, back, period = (t[charged] for t in self.helix.crossings(radius))
        # What turns back before the calorimeter leaves hits for one more turn.
        curls = np.isfinite(out) & ~self.reaches[charged]
        arc = np.concatenate([out, back[curls], out[curls] + period[curls]])
        owner = np.concatenate([charged, charged[curls], charged[curls]])
        ok = np.isfinite(arc)
        x, y, z = self.helix[owner[ok]].at(arc[ok])
        ok = (np.abs(z) < PIXEL_HALF_LENGTH) & (rng.random(len(z)) < PIXEL_EFFICIENCY)
        eta = np.arcsinh((z[ok] - self.primary_z) / radius)
        phi = np.arctan2(y[ok], x[ok])
        extra = np.repeat(np.arange(len(eta)), rng.poisson(rate, size=len(eta)))
        noise = SECONDARY_SPREAD * rng.normal(size=(2, len(extra)))
        eta = np.concatenate([eta, eta[extra] + noise[0]])
        phi = np.concatenate([phi, phi[extra] + noise[1]])
        cell, ok = grid.cells(_crystal(eta), _crystal(phi))
        return grid.sum(cell[ok], None)
