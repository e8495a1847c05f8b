"""DigiOccupancy maps of the hadron calorimeter: everything the course needs, under one name.

``lib.data.hcal_maps`` holds the maps, ``hcal_events`` counts their events, ``hcal_simulation``
makes maps and faults.
"""

from lib.data.hcal_events import estimate_events, estimate_scale
from lib.data.hcal_maps import LIVE, ROWS, RUNS, SHAPE, HcalMaps, ieta, iphi, row, windows
from lib.data.hcal_simulation import (
    CONDITIONS,
    STRENGTHS,
    Fault,
    inject,
    occupancy,
    profile_between,
    simulate,
)
from lib.data.jets import DataError

__all__ = [
    "CONDITIONS", "LIVE", "ROWS", "RUNS", "SHAPE", "STRENGTHS", "DataError", "Fault", "HcalMaps",
    "estimate_events", "estimate_scale", "ieta", "inject", "iphi", "occupancy", "profile_between",
    "row", "simulate", "windows",
]  # fmt: skip
