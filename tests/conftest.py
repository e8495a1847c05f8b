"""Files of jets that several tests begin with."""

import os

# Before torch is imported: small models gain nothing from threads, and threads that wait for
# each other on a busy machine make the tests five times slower.
os.environ["OMP_NUM_THREADS"] = "1"  # whatever the shell says: published behaviours are of one

import pytest
from jetfiles import LABELLED, cms, write

from lib.data.store import pack


@pytest.fixture
def dense(tmp_path):
    """Five labelled jets in the public format."""
    return write(tmp_path / "dense.h5", cms(), **LABELLED)


@pytest.fixture
def packed(dense, tmp_path):
    """The same jets, packed."""
    return pack(dense, tmp_path / "packed.h5")
