"""Files of jets that several tests begin with."""

import os
import pytest
from jetfiles import LABELLED, cms, write

from lib.data.images import pack


@pytest.fixture
def dense(tmp_path):
    """Five labelled jets in the public format."""
    return write(tmp_path / "dense.h5", cms(), **LABELLED)


@pytest.fixture
def packed(dense, tmp_path):
    """The same jets, packed."""
    return pack(dense, tmp_path / "packed.h5")
