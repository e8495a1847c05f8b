"""A parametrised CMS-like detector: particles in, eight images of 125×125 pixels out.

Each part is reduced to the few numbers that shape an image: geometry, resolution, threshold,
shower width. One pixel is one barrel crystal (π/180 in η and φ), one 5×5 block one HCAL tower.
Notation: rows are η, columns φ; lengths cm, energies GeV. References: CMS, JINST 3 (2008) S08004
[CMS]; tracking, JINST 9 (2014) P10009 [TRK]; ECAL, JINST 8 (2013) P09009 [ECAL]; particle flow,
JINST 12 (2017) P10003 [PF]. Constants marked *fitted* have no reference: they were chosen in a
plausible range so that simulated images resemble the published ones (closure table, notebook 01).
"""

from dataclasses import dataclass

import numpy as np

from collider.particles import Helix, Particles, wrap
from lib.cms import CHANNELS, ECAL_RESOLUTION, HCAL_RESOLUTION, PIXEL, SIZE, TOWER

# --- grid and beam ----------------------------------------------------------------------------
SHAPE = (len(CHANNELS), SIZE, SIZE)
HALF = 12  # towers on each side of the central one
WINDOW = 47  # towers per side of the working area around the jet axis (seed within ±11 towers)
# cm, mean and r.m.s. of collisions along the beam: CMSSW, Realistic8TeVCollision vertex smearing.
BEAM_Z = (0.41, 6.16)

# --- tracker ----------------------------------------------------------------------------------
PIXEL_RADII = (4.4, 7.3, 10.2)  # cm, barrel pixel layers [CMS]
PIXEL_HALF_LENGTH = 26.5  # cm [CMS]
PIXEL_EFFICIENCY = 0.985  # hits per crossing, after [TRK]
SECONDARY_RATE = (0.15, 0.25, 0.30)  # extra hits per crossing: δ rays, conversions, nuclear; fitted
SECONDARY_SPREAD = 0.10  # r.m.s. in η and φ of those around the crossing; fitted
TRACK_PT_MIN = 0.3  # GeV, of a high-purity track; fitted ([TRK] reconstructs from 0.1)
TRACK_ETA_MAX = 2.5  # tracker acceptance [CMS]
TRACK_EFFICIENCY = {"hadron": 0.95, "electron": 0.85, "muon": 0.98}  # after [TRK]; fitted
PT_RESOLUTION = (0.010, 0.00015)  # relative: constant ⊕ slope·pT/GeV after [TRK], central barrel
D0_RESOLUTION = (0.0010, 0.0085)  # cm: constant ⊕ slope/(pT/GeV) after [TRK]
# Share of badly measured tracks and their dz error in cm. Fitted: without them min–max scaling
# would put the hard collision's dz twice as high as in the published images.
BAD_TRACKS = (0.12, 32.0)
DZ_RESOLUTION = (0.0040, 0.0150)  # cm: constant ⊕ slope/(pT/GeV), times cosh η after [TRK]
DISPLACED_MAX = 30.0  # cm, largest production radius of a reconstructed track after [TRK]

# --- electromagnetic calorimeter --------------------------------------------------------------
ECAL_RADIUS, ECAL_Z = 129.0, 317.0  # cm, front faces of barrel and endcap [CMS]
ECAL_THRESHOLD = 0.08  # GeV per crystal, twice the noise of 40 MeV [ECAL]
# Lateral profile: two Laplace densities, widths in crystals and share of the wider one. A photon
# in the middle of a crystal leaves about 80 % of its energy there [ECAL].
SHOWER_CORE, SHOWER_TAIL, TAIL_SHARE = 0.13, 1.0, 0.18
MIP_ENERGY = 0.25  # GeV left by a minimum-ionising particle in 26 X0 of PbWO4 [CMS]
HADRON_SHARE = 0.55  # probability that a hadron starts its shower in the ECAL (about 1 λ) [CMS]
HADRON_ECAL = (1.0, 3.0)  # Beta parameters of the energy share such a shower leaves there; fitted
HADRON_SPOTS, HADRON_WIDTH = 120, 2.0  # spots of such a shower, their spread in crystals; fitted

# --- hadron calorimeter -----------------------------------------------------------------------
HCAL_SPOTS = 6  # spots of a shower in the HCAL; fitted
HCAL_WIDTH = 1.6  # crystals, spread of those spots: about a third of 1 λ = 16 cm; fitted
HCAL_THRESHOLD = 1.0  # GeV per tower, zero suppression [PF]
# Mean response 1 − a·(E/GeV)^−b: the electromagnetic share of a hadronic shower grows with energy
# (Groom, NIM A 572 (2007) 633; b there 0.13–0.18).
HCAL_RESPONSE = (0.55, 0.15)

# --- particle-flow candidates -----------------------------------------------------------------
PHOTON_MIN, NEUTRAL_MIN = 0.45, 1.0  # GeV, clusters below are not candidates [PF]; fitted
PION_MASS, NUCLEON_MASS = 0.1396, 0.939  # GeV (PDG)


@dataclass
class Response:
    """What the detector makes of one event before any image is cut out."""

    particles: Particles
    helix: Helix
    tracked: np.ndarray  # (n,) bool
    track_pt: np.ndarray  # (n,) GeV, smeared
    arc: np.ndarray  # (n,) cm, transverse path to the ECAL; inf for what curls up before
    response: np.ndarray  # (n,) mean calorimeter response to a hadron of this energy
    em: np.ndarray  # (n,) GeV deposited in the ECAL
    had: np.ndarray  # (n,) GeV deposited in the HCAL
    showers: np.ndarray  # (n,) bool: hadronic shower that starts in the ECAL


def respond(particles: Particles, rng: np.random.Generator) -> Response:
    """Tracks found and energies deposited by n particles."""
    n = len(particles)
    helix = Helix.of(particles)
    out, _, _ = helix.crossings(ECAL_RADIUS)
    with np.errstate(divide="ignore", invalid="ignore"):
        to_endcap = (np.sign(helix.slope) * ECAL_Z - helix.z) / helix.slope
    arc = np.minimum(out, np.where(helix.slope == 0, np.inf, to_endcap))
    radius = np.hypot(particles.x, particles.y)
    arc[radius > ECAL_RADIUS] = np.inf
    reaches = np.isfinite(arc)
    pdg = np.abs(particles.pdg)
    charged = particles.charge != 0
    photon, electron, muon = pdg == 22, pdg == 11, pdg == 13
    hadron = ~(photon | electron | muon)
    pt = particles.pt
    efficiency = np.select([electron, muon], [TRACK_EFFICIENCY[k] for k in ("electron", "muon")],
                           TRACK_EFFICIENCY["hadron"]) * np.clip(1 - radius / DISPLACED_MAX, 0, 1)
    tracked = (charged & (pt > TRACK_PT_MIN) & (np.abs(particles.eta) < TRACK_ETA_MAX)
               & (rng.random(n) < efficiency))
    sigma = np.hypot(PT_RESOLUTION[0], PT_RESOLUTION[1] * pt)
    track_pt = pt * np.maximum(1 + sigma * rng.normal(size=n), 0.1)

    e = visible_energy(particles)
    a, b, c = ECAL_RESOLUTION
    em_sigma = np.sqrt(a * a / e + (b / e) ** 2 + c * c)
    em_energy = e * np.maximum(1 + em_sigma * rng.normal(size=n), 0)
    showers = hadron & (rng.random(n) < HADRON_SHARE)
    share = np.where(showers, rng.beta(*HADRON_ECAL, size=n), 0)
    had_sigma = np.hypot(HCAL_RESOLUTION[0] / np.sqrt(e), HCAL_RESOLUTION[1])
    response = 1 - HCAL_RESPONSE[0] * np.maximum(e, 0.5) ** -HCAL_RESPONSE[1]
    had_energy = e * response * np.maximum(1 + had_sigma * rng.normal(size=n), 0)
    landau = np.maximum(1 + 0.3 * rng.normal(size=n), 0.2)  # roughly its width
    mip = np.minimum(MIP_ENERGY * landau, e)
    em = np.where(photon | electron, em_energy, share * had_energy)
    em = np.where((hadron & charged & ~showers) | muon, mip, em)
    had = np.where(hadron, (1 - share) * had_energy, 0)
    return Response(particles, helix, tracked, track_pt, arc, response, em * reaches, had * reaches,
                    showers)


def candidates(response: Response) -> tuple[np.ndarray, np.ndarray]:
    """Particle-flow-like candidates: momenta (n, 4) px, py, pz, E in GeV at the vertex, and which
    of them (n,) a jet algorithm sees.

    Charged particles take the track where there is one; all else takes calorimeter energy.
    Pile-up is neither removed nor subtracted.
    """
    p = response.particles
    is_em = (np.abs(p.pdg) == 22) | (np.abs(p.pdg) == 11)
    calorimeter = np.where(is_em, response.em, (response.em + response.had) / response.response)
    floor = np.where(is_em, PHOTON_MIN, NEUTRAL_MIN)
    pt = np.maximum(p.pt, 1e-9)
    # Tracks get the pion's mass, energy in the calorimeters none: nothing else is known of them.
    momentum = pt * np.cosh(p.eta)
    scale = np.where(response.tracked, response.track_pt / pt, calorimeter / momentum)
    energy = np.hypot(momentum * scale, np.where(response.tracked, PION_MASS, 0))
    clustered = response.tracked | (calorimeter > floor)
    return np.stack([p.px * scale, p.py * scale, p.pz * scale, energy], axis=1), clustered


def visible_energy(particles: Particles) -> np.ndarray:
    """Energy (GeV) that can show in a calorimeter: a nucleon keeps its mass, an antinucleon
    annihilates and brings a second one."""
    nucleon = np.isin(np.abs(particles.pdg), (2112, 2212))
    mass = np.where(nucleon, np.sign(particles.pdg) * NUCLEON_MASS, 0)
    return np.maximum(particles.energy - mass, 1e-3)


def _crystal(angle: np.ndarray) -> np.ndarray:
    return np.floor(angle / PIXEL).astype(np.int64)


def _shares(offset: np.ndarray, width: float) -> np.ndarray:
    """Share of a Laplace profile in five cells; `offset` (n,) in [0, 1) lies in the middle one."""
    edges = (np.arange(-2, 4) - offset[:, None]) / width
    tail = 0.5 * np.exp(-np.abs(edges))
    return np.diff(np.where(edges < 0, tail, 1 - tail), axis=1)


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

    def __init__(self, response: Response, primary_z: float, rng: np.random.Generator):
        self.response, self.primary_z, self.rng = response, primary_z, rng
        self.helix = helix = response.helix
        self.reaches = np.isfinite(response.arc)
        x, y, z = helix.at(np.where(self.reaches, response.arc, 0))
        self.phi = np.arctan2(y, x)
        self.eta = np.arcsinh(z / np.maximum(np.hypot(x, y), 1e-6))

    def image(self, axis_eta: float, axis_phi: float,
              radius: float = 0.8) -> tuple[np.ndarray, np.ndarray] | None:
        """Sparse image around the hottest HCAL tower within `radius` of a jet axis.

        Ascending indices (k,) int32 into the flat (8, 125, 125) image and values (k,) float32: GeV,
        signed cm for dz and d0, counts for the pixel layers. None without HCAL energy.
        """
        centre = _crystal(np.array([axis_eta, axis_phi])) // TOWER
        grid = _Grid(*(centre - WINDOW // 2) * TOWER)
        i = np.flatnonzero(self.reaches & (np.abs(self.eta - axis_eta) < 2.2)
                           & (np.abs(wrap(self.phi - axis_phi)) < 2.2))
        hcal = self._hcal(i, grid)
        towers = (np.arange(WINDOW) - WINDOW // 2) * TOWER * PIXEL
        inside = np.hypot(towers[:, None], towers[None, :]) < radius
        hottest = np.unravel_index(np.argmax(np.where(inside, hcal, -1)), hcal.shape)
        if hcal[hottest] <= HCAL_THRESHOLD:
            return None
        pixels = tuple(slice((c - HALF) * TOWER, (c - HALF) * TOWER + SIZE) for c in hottest)
        hcal = hcal.repeat(TOWER, axis=0).repeat(TOWER, axis=1)
        ecal = self._ecal(i, grid)
        planes = [*self._tracks(i, grid), np.where(ecal > ECAL_THRESHOLD, ecal, 0),
                  np.where(hcal > HCAL_THRESHOLD, hcal, 0),
                  *(self._pixel_layer(layer, grid) for layer in range(3))]
        flat = np.stack([plane[pixels] for plane in planes]).astype(np.float32).ravel()
        indices = np.flatnonzero(flat)
        return indices.astype(np.int32), flat[indices]

    def _tracks(self, i: np.ndarray, grid: _Grid) -> list[np.ndarray]:
        """Track pT (sum), dz and d0 (of the hardest track of a pixel) where tracks enter the ECAL.

        d0 is taken at the beam and dz from the detector's centre, the default reference of a CMS
        track: the hard collision's tracks share a sign of dz, that of its vertex.
        """
        i = i[self.response.tracked[i]]
        pt = self.response.track_pt[i]
        d0, dz = (x[i] for x in self.helix.impact())
        d0 = d0 + np.hypot(D0_RESOLUTION[0], D0_RESOLUTION[1] / pt) * self.rng.normal(size=len(i))
        sigma = np.hypot(DZ_RESOLUTION[0], DZ_RESOLUTION[1] / pt)
        sigma = sigma * np.cosh(self.response.particles.eta[i])
        dz = dz + sigma * self.rng.normal(size=len(i))
        bad = self.rng.random(len(i)) < BAD_TRACKS[0]
        dz = dz + np.where(bad, BAD_TRACKS[1], 0) * self.rng.normal(size=len(i))
        cell, ok = grid.cells(_crystal(self.eta[i]), _crystal(self.phi[i]))
        cell, pt, dz, d0 = cell[ok], pt[ok], dz[ok], d0[ok]
        planes = [grid.sum(cell, pt)]
        order = np.argsort(pt)  # the hardest track of a pixel is written last
        for value in (dz, d0):
            plane = np.zeros(grid.side**2)
            plane[cell[order]] = value[order]
            planes.append(plane.reshape(grid.side, grid.side))
        return planes

    def _ecal(self, i: np.ndarray, grid: _Grid) -> np.ndarray:
        r = self.response
        # Photons, electrons and minimum-ionising particles: a shower profile over 5×5 crystals.
        narrow = i[(r.em[i] > 0) & ~r.showers[i]]
        eta, phi = self.eta[narrow] / PIXEL, self.phi[narrow] / PIXEL
        row, column = _crystal(self.eta[narrow]), _crystal(self.phi[narrow])
        core, tail = (_shares(eta - row, width)[:, :, None] * _shares(phi - column, width)[:, None]
                      for width in (SHOWER_CORE, SHOWER_TAIL))
        energy = r.em[narrow, None, None] * ((1 - TAIL_SHARE) * core + TAIL_SHARE * tail)
        steps = np.arange(-2, 3)
        rows, columns = np.broadcast_arrays(row[:, None, None] + steps[:, None],
                                            column[:, None, None] + steps)
        # Hadronic showers: unequal spots of one crystal around the impact point.
        wide = i[(r.em[i] > 0.02) & r.showers[i]]
        spots = self._spots(wide, r.em[wide], HADRON_SPOTS, HADRON_WIDTH)
        cell, ok = grid.cells(np.concatenate([rows.ravel(), spots[0]]),
                              np.concatenate([columns.ravel(), spots[1]]))
        return grid.sum(cell[ok], np.concatenate([energy.ravel(), spots[2]])[ok])

    def _spots(self, i: np.ndarray, energy: np.ndarray, spots: int, width: float) -> tuple:
        """Hadronic showers as spots: crystal rows, columns and energies, `spots` per particle."""
        weights = self.rng.exponential(size=(len(i), spots))
        weights *= (energy / weights.sum(axis=1))[:, None]
        spread = width * self.rng.laplace(size=(2, len(i), spots))
        row = np.floor(self.eta[i, None] / PIXEL + spread[0]).astype(np.int64)
        column = np.floor(self.phi[i, None] / PIXEL + spread[1]).astype(np.int64)
        return row.ravel(), column.ravel(), weights.ravel()

    def _hcal(self, i: np.ndarray, grid: _Grid) -> np.ndarray:
        """Tower energies (47, 47): each hadron's energy in a few spots around its impact point."""
        i = i[self.response.had[i] > 0.02]
        row, column, energy = self._spots(i, self.response.had[i], HCAL_SPOTS, HCAL_WIDTH)
        cell, ok = grid.cells(row, column)
        tower = cell[ok] // grid.side // TOWER * WINDOW + cell[ok] % grid.side // TOWER
        return np.bincount(tower, energy[ok], minlength=WINDOW**2).reshape(WINDOW, WINDOW)

    def _pixel_layer(self, layer: int, grid: _Grid) -> np.ndarray:
        """Hits of one pixel layer, placed as seen from the primary vertex."""
        radius, rng = PIXEL_RADII[layer], self.rng
        charged = np.flatnonzero(self.response.particles.charge != 0)
        out, back, period = (t[charged] for t in self.helix.crossings(radius))
        # What turns back before the calorimeter leaves hits for one more turn (fitted).
        curls = np.isfinite(out) & ~self.reaches[charged]
        arc = np.concatenate([out, back[curls], out[curls] + period[curls]])
        owner = np.concatenate([charged, charged[curls], charged[curls]])
        ok = np.isfinite(arc)
        x, y, z = self.helix[owner[ok]].at(arc[ok])
        ok = (np.abs(z) < PIXEL_HALF_LENGTH) & (rng.random(len(z)) < PIXEL_EFFICIENCY)
        eta = np.arcsinh((z[ok] - self.primary_z) / radius)
        phi = np.arctan2(y[ok], x[ok])
        extra = np.repeat(np.arange(len(eta)), rng.poisson(SECONDARY_RATE[layer], size=len(eta)))
        noise = SECONDARY_SPREAD * rng.normal(size=(2, len(extra)))
        eta = np.concatenate([eta, eta[extra] + noise[0]])
        phi = np.concatenate([phi, phi[extra] + noise[1]])
        cell, ok = grid.cells(_crystal(eta), _crystal(phi))
        return grid.sum(cell[ok], None)
