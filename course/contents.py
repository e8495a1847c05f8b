"""What a file of jets holds."""

from pathlib import Path
from typing import Any

import numpy as np

from lib.data.store import COLUMNS, opening


def inspect(path: str | Path) -> dict[str, Any]:
    """What a file holds, read and checked from end to end: a dict that JSON can hold. Among others
    zeros (fraction of the pixels), nonzero_per_image and mean_pixel (one number a channel), top
    (number of jets with Y = 1), mass_gev and pt_gev (min, mean, max)."""
    with opening(path) as (header, chunks):
        (channels, height, width), columns = header.shape, header.columns
        hits, total, empty = np.zeros(channels, np.int64), np.zeros(channels), 0
        for chunk in chunks:
            channel = chunk.indices // (height * width)
            hits += np.bincount(channel, minlength=channels)
            total += np.bincount(channel, weights=chunk.data, minlength=channels)
            empty += int((np.diff(chunk.indptr) == 0).sum())
    size, pixels = header.path.stat().st_size, header.jets * height * width
    facts = {
        "path": str(header.path), "kind": header.kind, "jets": header.jets,
        "shape": list(header.shape), "encoding": header.encoding, "bytes": size,
        "bytes_per_jet": size / header.jets, "smaller_than_dense": 4 * pixels * channels / size,
        "zeros": 1 - int(hits.sum()) / (pixels * channels), "empty_images": empty,
        "nonzero_per_image": (hits / header.jets).tolist(),
        "mean_pixel": (total / pixels).tolist(), "attributes": header.attributes,
        "columns": sorted(set(columns) & set(COLUMNS)),
        "truth": sorted(name.removeprefix("truth/") for name in set(columns) - set(COLUMNS))}
    if "Y" in columns:
        facts["top"] = int(columns["Y"].sum())
    for name, key in (("m", "mass_gev"), ("pT", "pt_gev")):
        if name in columns:
            values = columns[name].astype(float)
            facts[key] = [float(values.min()), float(values.mean()), float(values.max())]
    return facts
