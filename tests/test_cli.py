"""The command line and the runner of the notebooks, with what a user can get wrong."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import nbformat
import numpy as np
import pytest
from test_runs import until

import lib.profiles
from course import notebooks
from course.commands import COMMANDS, main
from course.course import memory_taken

HEAD = '# %% tags=["parameters"]\nPROFILE, DATA, GRIDS = "laptop", "simulated", False\n\n# %%\n'


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("JETS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def one_line(capsys) -> str:
    """What went to stderr: one line, no traceback."""
    error = capsys.readouterr().err.strip()
    assert error
    assert "\n" not in error, error
    return error


# --- commands -------------------------------------------------------------------------------------


OPTIONS = {  # what a reader types
    "simulate": "process --jets --out --shard --seed --workers --scheduler --encoding --dense "
                "--unlabelled --pool --pool-events --pile-up --pile-up-removal --detector",
    "download": "which --sample --out", "pack": "sources --out --encoding",
    "unpack": "source target", "inspect": "path", "closure": "file --profile --data",
    "train": "name --profile --data --seed --file --start --updates --lr --batch-size "
             "--labels --devices",
    "evaluate": "names --profile --data --file --out --figures", "verify": "--folder",
    "predict": "run --file --out", "score-hcal": "maps --reference --out --threshold",
    "report": "--check --profile --data", "doctor": "",
    "course": "--profile --data --only --from --grids --scheduler --fresh --publish --submission "
              "--check --notebooks",
    "bench": "--profile --data --file --rounds --device --scaling --processes",
    "export": "run out --profile --data --check --input --opset --target --int8 --file",
}


def test_report_check_says_what_is_stale(home, capsys):
    assert main(["report", "--check"]) == 0
    assert "up to date" in capsys.readouterr().out
    folder = lib.profiles.get("laptop").results_dir
    folder.mkdir(parents=True)
    (folder / "02_sparsity.json").write_text("{")
    assert main(["report", "--check"]) == 1
    assert "laptop-simulated/02_sparsity" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_help_and_its_arguments_are_parameters_of_its_function(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert "usage" in capsys.readouterr().out
    target, _, arguments = COMMANDS[name]
    assert " ".join(names[0] for names, _ in arguments) == OPTIONS[name]
    module, _, function = target.partition(":")
    parameters = inspect.signature(getattr(importlib.import_module(module), function)).parameters
    any_name = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for names, settings in arguments:
        wanted = settings.get("dest") or names[0].lstrip("-").replace("-", "_")
        if wanted not in ("data", "no_memory", "scheduler"):
            assert wanted in parameters or any_name, f"{target} does not take {wanted}"


def test_help_imports_nothing_heavy():
    code = ("import sys; from course.commands import build_parser; build_parser().format_help(); "
            "sys.exit(' '.join({'torch', 'numpy', 'matplotlib', 'h5py'} & set(sys.modules)))")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                         cwd=lib.profiles.ROOT, env={**os.environ, "PYTHONPATH": "."})
    assert not run.stderr.strip()


@pytest.mark.parametrize("arguments", [
    [], ["nonsense"], ["simulate", "higgs", "--jets", "1", "--out", "x.h5"],
    ["simulate", "top_qcd", "--jets", "0", "--out", "x.h5"], ["download", "something"],
    ["inspect", "x.h5", "--more"], ["report", "--chekc"],
])
def test_wrong_usage_ends_with_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [
    ["train", "scratch", "--profile", "big"],
    ["evaluate", "scratch", "--profile", "big"],
    ["report", "--data", "real"],
])
def test_unknown_profile_or_data_names_the_known_ones(arguments, capsys):
    assert main(arguments) == 2
    assert "choose one of" in one_line(capsys)


def bad_files(folder: Path):
    yield folder / "missing.h5"
    text = folder / "text.h5"
    text.write_text("not HDF5")
    yield text
    foreign = folder / "foreign.h5"
    with h5py.File(foreign, "w") as file:
        file["other"] = np.zeros(3)
    yield foreign
    shape = folder / "shape.h5"
    with h5py.File(shape, "w") as file:
        file["jet"] = np.zeros((2, 5, 5), np.float32)
    yield shape
    nan = folder / "nan.h5"
    with h5py.File(nan, "w") as file:
        file["jet"] = np.full((2, 125, 125, 8), np.nan, np.float32)
    yield nan
    cut = folder / "cut.h5"
    cut.write_bytes(nan.read_bytes()[:100_000])
    yield cut


def test_bad_files_are_named_in_one_line_and_nothing_is_written(tmp_path, capsys):
    for path in bad_files(tmp_path):
        out = tmp_path / "out.h5"
        assert main(["pack", str(path), str(out)]) == 2, path.name
        assert path.name in one_line(capsys)
        assert not list(tmp_path.glob("*out.h5*"))


def test_a_folder_is_no_file(tmp_path, capsys):
    assert main(["inspect", str(tmp_path)]) == 2
    one_line(capsys)


def test_unknown_run_says_how_to_train_one(capsys):
    assert main(["evaluate", "scratch", "--profile", "smoke"]) == 2
    assert "python -m lib train" in one_line(capsys)


@pytest.mark.parametrize(("typed", "meant"), [("fintune", "finetune"), ("simcrl", "simclr")])
def test_a_misspelt_recipe_is_not_trained_from_scratch(typed, meant, capsys):
    assert main(["train", typed, "--profile", "smoke"]) == 2
    assert f"did you mean {meant}?" in one_line(capsys)


def test_predict_refuses_a_folder_that_is_no_run(tmp_path, capsys):
    jets = tmp_path / "jets.h5"
    with h5py.File(jets, "w") as file:
        file["jet"] = np.zeros((1, 125, 125, 8), np.float32)
    arguments = ["predict", str(tmp_path), "--file", str(jets), "--out"]
    assert main([*arguments, str(tmp_path / "p.npz")]) == 2
    assert "neither a run nor weights" in one_line(capsys)
    assert main([*arguments, str(tmp_path / "p.csv")]) == 2
    assert "npz" in one_line(capsys)


def test_report_without_results_says_what_to_run(capsys):
    assert main(["report", "--profile", "smoke"]) == 2
    assert "./run_all.sh --profile smoke" in one_line(capsys)


def test_pack_inspect_and_unpack_go_round(tmp_path, capsys):
    dense = tmp_path / "dense.h5"
    images = np.zeros((3, 125, 125, 8), np.float32)
    images[:, 62, 62, 3] = 255
    with h5py.File(dense, "w") as file:
        file["jet"] = images
    assert main(["pack", str(dense), str(tmp_path / "packed.h5")]) == 0
    assert main(["unpack", str(tmp_path / "packed.h5"), str(tmp_path / "again.h5")]) == 0
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "packed.h5")]) == 0
    assert json.loads(capsys.readouterr().out)
    with h5py.File(tmp_path / "again.h5") as file:
        assert np.array_equal(file["jet"][:], images)


# --- the runner -----------------------------------------------------------------------------------


def course(folder: Path, *arguments: str) -> int:
    return main(["course", "--profile", "smoke", "--notebooks", str(folder), *arguments])


def write(folder: Path, name: str, code: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(HEAD + code)
    return path


@pytest.mark.parametrize(("arguments", "said"), [
    (["--only", "42"], "unknown notebook '42'"),
    (["--from", "xx"], "unknown notebook 'xx'"),
    (["--profile", "big"], "unknown profile 'big'"),
    (["--data", "real"], "unknown data 'real'"),
    (["--submission", "42"], "--submission 42"),
    (["--publish"], "not for publishing"),
])
def test_wrong_options_of_the_course_are_one_line(tmp_path, capsys, arguments, said):
    write(tmp_path / "notebooks", "00_first", "pass")
    assert course(tmp_path / "notebooks", *arguments) == 2
    assert said in one_line(capsys)


def test_course_runs_checks_and_prints_one_line_a_step(tmp_path, home, capsys):
    folder = tmp_path / "notebooks"
    write(folder, "00_first", """
from lib import profiles
profile = profiles.get(PROFILE, DATA)
assert PROFILE == "smoke" and GRIDS is False
print("scratch: from the cache (scratch-1234)")
""")
    write(folder, "01_second", """
import matplotlib.pyplot as plt
from lib import profiles
from lib.report import plots
from lib.report.results import Experiment
profile = profiles.get(PROFILE, DATA)
plots.save(plt.figure(), "01_figure", profile)
if GRIDS:
    plots.save(plt.figure(), "01_grid", profile)
experiment = Experiment("01_second", profile)
experiment.save()
""")
    write(folder, "02_third", "raise ValueError('not asked for')")
    code = course(folder, "--only", "00", "--only", "1")
    said = capsys.readouterr()
    assert code == 0, said.err
    lines = said.out.splitlines()
    assert any(x.startswith("00_first") and "1 from the cache" in x for x in lines)
    assert any(x.startswith("01_second") and "01_second.json" in x for x in lines)
    assert (home / "build/smoke-simulated/figures/01_figure.png").exists()
    times = json.loads((home / "build/smoke-simulated/results/course.json").read_text())
    assert list(times["values"]["minutes"]) == ["01_second"]  # 00 came from the cache
    assert 0.05 < times["values"]["memory_gb"]["01_second"] < 2
    assert "GB of memory" in lines[1]
    assert "GB of memory" in lines[-1]


def test_a_notebook_that_takes_too_much_memory_is_said(tmp_path, home, capsys, monkeypatch):
    monkeypatch.setattr("course.course.MEMORY", 0.0)
    write(tmp_path / "notebooks", "00_first", "pass")
    write(tmp_path / "notebooks", "01_second", "pass")
    assert course(tmp_path / "notebooks", "--only", "0") == 0
    assert "GB of memory, more than the 0 GB of a small" in capsys.readouterr().out


def test_the_memory_of_processes_is_seen_while_they_live():
    code = "much = b'1' * 300_000_000; print('there', flush=True); input()"
    with memory_taken() as taken:
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, text=True)
        child.stdout.readline()
        until(lambda: taken[0] > 0.3)
        child.communicate("\n")
    assert taken[0] < 3


@pytest.mark.parametrize(("code", "said"), [
    ("raise ValueError('no such\\nthing')", "failed: ValueError: no such thing"),
    ("import sys; sys.exit(0)\n\n# %%\nprint()", "stopped before its last cell"),
    ("Experiment = print\nExperiment('07_x', None)", "07_x.json is missing"),
])
def test_a_notebook_that_fails_stops_the_course_by_name(tmp_path, capsys, code, said):
    write(tmp_path / "notebooks", "07_bad", code)
    assert course(tmp_path / "notebooks") == 1
    error = one_line(capsys)
    assert "07_bad" in error
    assert said in error


def test_a_mistyped_parameter_is_an_error(tmp_path):
    path = write(tmp_path / "notebooks", "00_first", "pass")
    with pytest.raises(notebooks.NotebookError, match=r"does not define GRID$"):
        notebooks.execute(path, tmp_path / "out.ipynb", {"GRID": True})


def test_a_kernel_works_with_this_checkout_and_one_home(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JETS_HOME", "here")  # relative to where the course was started
    path = write(tmp_path / "notebooks", "00_first", f"""
import os
import lib.profiles
from lib import profiles
assert lib.__file__ == {lib.__file__!r}
assert profiles.home() == profiles.Path({str(tmp_path / "here")!r})
assert os.environ["MALLOC_TOP_PAD_"]
from traitlets.config import Application
Application.instance().log.error("KeyboardInterrupt caught in kernel")
""")
    notebooks.execute(path, tmp_path / "out.ipynb", {"GRIDS": True})
    assert os.environ["JETS_HOME"] == "here"
    assert "KeyboardInterrupt" not in capfd.readouterr().err  # a kernel's log is no reader's


def test_published_notebook_holds_no_path_of_the_machine_and_is_stable(tmp_path, home):
    code = "import sys, warnings\nprint(sys.executable)\nwarnings.warn('careful')\n\n# %%\n7"
    path = write(tmp_path / "notebooks", "00_first", code)
    done = tmp_path / "out.ipynb"
    assert notebooks.execute(path, done, {"GRIDS": True}) == 0  # nothing from the cache
    texts = []
    for _ in range(2):
        notebooks.publish(path, done, tmp_path / "published.ipynb")
        texts.append((tmp_path / "published.ipynb").read_text())
    assert texts[0] == texts[1]
    assert sys.prefix not in texts[0]
    assert "ipykernel_" not in texts[0]
    assert "papermill" not in texts[0]
    cells = json.loads(texts[0])["cells"]
    assert [c.get("execution_count") for c in cells] == [1, 2, 3]
    assert "<environment>/bin/" in "".join(cells[1]["outputs"][0]["text"])
    write(tmp_path / "notebooks", "00_first", code + "1")
    with pytest.raises(notebooks.NotebookError, match="changed since"):
        notebooks.publish(path, done, tmp_path / "published.ipynb")


def test_a_long_log_is_published_without_its_middle(tmp_path):
    source, executed, out = (tmp_path / f"10_x{s}" for s in (".py", "_done.ipynb", ".ipynb"))
    source.write_text("# %%\nfor i in range(100):\n    print(i)\n")
    done = notebooks.read_source(source)
    done.cells[-1].outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"{i}\n")
                              for i in range(100)]
    nbformat.write(done, executed)
    notebooks.publish(source, executed, out)
    (output,) = nbformat.read(out, as_version=4).cells[-1].outputs
    lines = output.text.splitlines()
    assert len(lines) == 41
    assert (lines[0], lines[20], lines[-1]) == ("0", "… 60 more lines …", "99")
