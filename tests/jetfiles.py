"""Small files of jet images in the public format, for the tests of the store."""

import h5py
import numpy as np


def write(path, images, **columns):
    """A dense file as the public ones are: contiguous, no attributes, columns (N, 1)."""
    with h5py.File(path, "w") as file:
        file["jet"] = images
        for name, values in columns.items():
            values = np.asarray(values)
            file[name] = values.astype(np.float32)[:, None] if values.ndim == 1 else values
    return path


def cms(count=5, seed=0, density=0.012):
    rng = np.random.default_rng(seed)
    images = rng.integers(1, 256, (count, 125, 125, 8)).astype(np.float32)
    images *= rng.random(images.shape) < density
    return images


LABELLED = dict(Y=[1, 0, 1, 0, 1], m=[136.34013, 90, 180, 100, 110],
                pT=[551.3493, 500, 480, 460, 440])
