"""Each long job killed again and again, at any moment, and then run to its end: the same as if
nothing had been, nothing half-written on the way, nobody left behind.

    pytest -m slow tests/test_kills.py        # JETS_KILLS: how often (10)
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_runs import alive, until

from lib.files import read_npz
from lib.profiles import ROOT

KILLS = int(os.environ.get("JETS_KILLS", 10))
START = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "tests")!r})
folder = Path(sys.argv[1])
"""
TRAIN = """
from test_runs import SETTINGS, Recipe, grid, make_jets, train
if __name__ == "__main__":
    (folder / "jets.h5").exists() or make_jets().save(folder / "jets.h5")
    how = dict(updates=60, every=6, devices={n})
    recipe = Recipe.of(SETTINGS, model=dict(dropout=0.1), fit=how)
"""
JOBS = {  # what runs, and the files that it makes
    "training": (TRAIN.format(n=1) + """
    train("a", recipe, folder / "jets.h5", runs=folder)
""", "a-*/predictions-*.npz"),
    "training by two": (TRAIN.format(n=2) + """
    train("a", recipe, folder / "jets.h5", runs=folder)
""", "a-*/predictions-*.npz"),
    "grid": (TRAIN.format(n=1) + """
    grid("g", {"a": recipe}, [1, 2], folder / "jets.h5", runs=folder, jobs=2)
""", "g-*/predictions-*.npz"),
    "simulation": ("""
from functools import partial
from collider import simulate
if __name__ == "__main__":
    simulate.CHUNK = 2
    simulate.simulate("top_qcd", 12, folder / "jets.h5", workers=2, pool_events=20)
""", "jets.h5"),
    "packing": ("""
import numpy as np
from jetfiles import LABELLED, cms, write
from lib.data.store import pack
if __name__ == "__main__":
    if not (folder / "dense").exists():
        columns = {k: np.resize(np.float32(v), (300, 1)) for k, v in LABELLED.items()}
        write(folder / "new", cms(300), **columns)
        (folder / "new").rename(folder / "dense")
    pack(folder / "dense", folder / "packed.h5")
""", "packed.h5"),
    "results": ("""
import os
os.environ["JETS_HOME"] = str(folder)
import numpy as np
from lib import profiles
from lib.evaluation.metrics import Predictions
from lib.report.results import Experiment
n = np.arange(20_000)
for number in range(4):
    experiment = Experiment("02_sparsity", profiles.get("laptop"))
    for seed in range(3):
        score = (n % (7 + seed + number)) / 20
        experiment.add_run("one", Predictions(n, n % 2.0, score), seed=seed)
    experiment.save()
""", "results/*/*.npz"),
}


def start(folder: Path, code: str) -> subprocess.Popen:
    script = folder.parent / "job.py"
    script.write_text(START + code)
    return subprocess.Popen(
        [sys.executable, str(script), str(folder)], cwd=ROOT, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
             "JETS_HOME": str(folder.parent / "home")})


def content(folder: Path, pattern: str) -> list:
    return [{k: v.tolist() for k, v in read_npz(path, "").items()} if path.suffix == ".npz"
            else path.read_bytes() for path in sorted(folder.glob(pattern))]


def members(session: int) -> list[int]:
    """Processes of a session that still live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rsplit(")", 1)[1].split()[3]) == session:
                found.append(int(stat.parent.name))
        except (OSError, IndexError):
            continue
    return [pid for pid in found if alive(pid)]


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_a_job_that_is_killed_again_and_again_ends_the_same(tmp_path, job):
    code, made = JOBS[job]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir(), cut.mkdir()
    began = time.monotonic()
    first = start(whole, code)
    assert first.wait(600) == 0, first.stdout.read()
    seconds, expected, rng = time.monotonic() - began, content(whole, made), random.Random(job)
    assert expected
    for number in range(KILLS):
        process = start(cut, code)
        try:
            process.wait(seconds * rng.uniform(0.1, 1.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM if number % 2 else signal.SIGKILL)
        process.communicate()
        until(lambda pid=process.pid: not members(pid))
        for found in content(cut, made) if "predictions" not in made else []:
            assert found in expected or job == "results", "half-written"
    last = start(cut, code)
    said = last.communicate(timeout=600)[0]
    assert last.returncode == 0, said
    found = content(cut, made)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        if isinstance(one, bytes):
            assert one == other
        else:
            for name in other:
                np.testing.assert_allclose(one[name], other[name], rtol=1e-6, atol=1e-7)
    assert not [path for path in cut.rglob(".*.part")]
