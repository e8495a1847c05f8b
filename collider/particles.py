"""Particles as arrays, and how they fly through a solenoid.

Notation: n particles; lengths in cm, momenta and energies in GeV, angles in radians, charges in e.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

FIELD = 3.8  # T, CMS solenoid (JINST 3 (2008) S08004)
CURVATURE = 0.299792458e-2 * FIELD  # GeV/cm: pT = |q| · CURVATURE · radius of the circle
INVISIBLE = (12, 14, 16)  # neutrinos: |PDG number|


class Columns:
    """A dataclass of arrays (n,): `len`, and the rows of an index."""

    def __len__(self) -> int:
        return len(next(iter(vars(self).values())))

    def __getitem__(self, index):
        return type(self)(*(column[index] for column in vars(self).values()))


@dataclass
class Particles(Columns):
    """n stable particles: `pdg` (n,), momentum (n,), production point (n,), `vertex` (n,).
    Production points are relative to the detector's centre; `vertex` is the number of the collision
    among those that are handled together."""

    pdg: np.ndarray
    charge: np.ndarray
    px: np.ndarray
    py: np.ndarray
    pz: np.ndarray
    energy: np.ndarray
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    vertex: np.ndarray

    @property
    def pt(self) -> np.ndarray:
        return np.hypot(self.px, self.py)

    @property
    def phi(self) -> np.ndarray:
        return np.arctan2(self.py, self.px)

    @property
    def eta(self) -> np.ndarray:
        return np.arcsinh(self.pz / np.maximum(self.pt, 1e-9))

    @property
    def momenta(self) -> np.ndarray:
        """(n, 4) px, py, pz, E."""
        return np.stack([self.px, self.py, self.pz, self.energy], axis=1)

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        """One set out of several, in order."""
        return cls(*map(np.concatenate, zip(*(vars(p).values() for p in parts), strict=True)))


def wrap(phi: np.ndarray) -> np.ndarray:
    """Angle brought to [-π, π)."""
    return (phi + np.pi) % (2 * np.pi) - np.pi


@dataclass
class Helix(Columns):
    """Transverse circles (straight lines for neutrals) of n particles. The transverse position
    after an arc length t is centre + (−sin ψ, cos ψ)/κ with ψ = φ₀ − κ t and κ = q·CURVATURE/pT
    (1/cm); z grows as t·pz/pT."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    phi: np.ndarray
    kappa: np.ndarray
    slope: np.ndarray

    @classmethod
    def of(cls, particles: Particles) -> Self:
        pt = np.maximum(particles.pt, 1e-6)
        # Neutral particles get a radius of 10^9 cm: one formula serves all.
        kappa = np.where(particles.charge == 0, 1e-9, particles.charge * CURVATURE / pt)
        p = particles
        return cls(p.x, p.y, p.z, p.phi, kappa, p.pz / pt)

    def at(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position (x, y, z) in cm after a transverse arc length t (cm)."""
        half = 0.5 * self.kappa * t
        chord = t * np.sinc(half / np.pi)  # exact, and stable for straight lines
        direction = self.phi - half
        return (self.x + chord * np.cos(direction), self.y + chord * np.sin(direction),
                self.z + t * self.slope)

    def _start(self) -> tuple[np.ndarray, np.ndarray]:
        """The starting points in the frame of the momenta: along them, and to their left."""
        cos, sin = np.cos(self.phi), np.sin(self.phi)
        return self.x * cos + self.y * sin, self.y * cos - self.x * sin

    def crossings(self, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Arc lengths (n,) in cm at which the particles cross a cylinder around the beam: on the
        way out, on the way back of a particle that curls up (both inf where it starts outside or
        never gets there), and of one full turn."""
        u, v = self._start()
        r2 = self.x**2 + self.y**2
        # |position|² = r2 + 2 u sin(κt)/κ + (1 − κ v)·2 (1 − cos κt)/κ²; solve for the angle κt.
        # With T = tan(κt/2)/κ this is a quadratic in T that stays regular for κ → 0.
        gap = radius**2 - r2
        a = 4 * (1 - self.kappa * v) - gap * self.kappa**2
        b = 4 * u
        disc = b * b + 4 * a * gap
        with np.errstate(invalid="ignore", divide="ignore"):
            root = np.sqrt(disc)
            first = 2 * gap / (b + root)  # regular form of (−b + √disc)/(2a)
            second = 2 * gap / (b - root)
            period = 2 * np.pi / np.abs(self.kappa)
            out = 2 * np.arctan(self.kappa * first) / self.kappa
            back = 2 * np.arctan(self.kappa * second) / self.kappa
        inside = (gap > 0) & (disc >= 0)
        out = np.where(out < 0, out + period, out)
        back = np.where(back < 0, back + period, back)
        out, back = np.minimum(out, back), np.maximum(out, back)
        return np.where(inside, out, np.inf), np.where(inside, back, np.inf), period

    def impact(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Signed transverse impact parameter d0, and the z (both cm) and φ where it is taken. The
        sign is that of x sin φ − y cos φ at the point nearest to the beam (the sign CMS uses)."""
        u, v = self._start()
        t = -np.arctan2(self.kappa * u, 1 - self.kappa * v) / self.kappa
        x, y, z = self.at(t)
        phi = self.phi - self.kappa * t
        return x * np.sin(phi) - y * np.cos(phi), z, phi
