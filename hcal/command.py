"""Find the sick cells in maps of the hadron calorimeter, from the command line."""

import math
from pathlib import Path

import numpy as np

from hcal.findings import KINDS, THRESHOLD, Findings, judge
from hcal.maps import file_and_key, ieta, iphi, load
from lib.files import DataError, replacing, require, write_npz

LISTED = 40  # cells and regions that are printed


def score(maps: Path, out: Path, reference: Path | None = None,
          threshold: float = THRESHOLD) -> Findings:
    """Judge a file of maps; write ``out`` (npz) and a picture beside it (png), print what is sick.
    The npz holds ``score`` (log odds that a cell is sick, all sections together), ``ratio`` (count
    over expected), ``kind`` (0 fine, 1 dead, 2 degraded, 3 hot), ``live``, each (64, 72), and
    ``sections`` (N, 64, 72), the log odds of each section alone."""
    own = {file_and_key(p)[0].resolve() for p in (maps, reference) if p is not None}
    require(out.suffix == ".npz", out, "scores are written as .npz")
    require(math.isfinite(threshold), f"--threshold {threshold}",
            "give a number, the log odds above which a cell is suspicious")
    require(not out.is_dir(), out, "is a folder; choose another name")
    require(out.resolve() not in own, out, "would overwrite the maps; choose another name")
    import matplotlib

    matplotlib.use("Agg")
    from hcal.plots import cell_map  # slow to import: after the checks

    sections, healthy = load(maps), reference and load(reference)
    try:
        found = judge(sections, healthy, threshold)
    except DataError as error:
        raise DataError(f"{maps}: {error}") from error
    write_npz(out, dict(score=found.score, ratio=found.ratio, kind=found.kind, live=found.live,
                        sections=found.sections.clip(-6e4, 6e4).astype(np.float16)))
    fig = cell_map(found.score, found.ratio, found.live, found.kind, maps.name)
    with replacing(drawn := out.with_suffix(".png")) as part:
        fig.savefig(part, format="png", dpi=150, metadata={"Software": None})
    for name, read in ((maps, sections), (reference, healthy)):
        for note in () if read is None else read.assumed:
            print(f"{name}: {note}")
    print(f"{summary(found, len(sections), reference)}\n{out}\n{drawn}")
    return found


def summary(found: Findings, sections: int, reference: Path | None) -> str:
    """What a shifter reads."""
    sick = np.argwhere(found.kind > 0)
    lines = [f"{sections:,} lumi-section{'s' * (sections != 1)}, {int(found.live.sum())} live "
             f"cells, judged against {reference or 'their rings and mirror images'}",
             *(f"note: {note}" for note in found.notes)]
    if not len(sick):
        return "\n".join([*lines, "no suspicious cells"])
    order = np.argsort([-found.score[r, c] for r, c in sick], kind="stable")
    rows = [("region", "kind", "cells", "ratio", "score")]
    rows += [(region.where, region.kind, len(region.rows), f"{region.ratio:.2f}",
              f"{region.score:.1f}") for region in found.regions[:LISTED]]
    rows += [("cell", "kind", "", "ratio", "score"), *(
        (f"ieta {ieta(r)}, iphi {iphi(c)}", KINDS[found.kind[r, c]], "",
         f"{found.ratio[r, c]:.2f}", f"{found.score[r, c]:.1f}")
        for r, c in sick[order[:LISTED]].tolist())]
    lines += [f"{len(sick)} suspicious cells in {len(found.regions)} regions",
              *("{:<32}{:<10}{:>6}{:>8}{:>9}".format(*row) for row in rows)]
    if len(sick) > LISTED or len(found.regions) > LISTED:
        lines.append(f"... the {LISTED} largest scores; all are in the file")
    return "\n".join(lines)
