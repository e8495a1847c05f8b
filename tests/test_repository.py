"""What the repository promises about itself: layout, notebooks, published numbers."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jupytext.cli
import nbformat
import pytest

from course import notebooks
from lib import profiles
from lib.profiles import ROOT

PACKAGES = ("lib", "collider", "hcal", "course")
ROOMS = ("data", "models", "evaluation", "training", "report")
SOURCES = notebooks.sources(ROOT / "notebooks")
PAPER = "".join(path.read_text() for path in
                [ROOT / "paper/main.tex", *sorted((ROOT / "paper/sections").glob("*.tex"))])
PAPER_CODE = re.sub(r"(?<!\\)%.*", "", PAPER)


def tracked() -> list[Path]:
    """Files under version control; the test is skipped outside of a clone."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    run = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    return [ROOT / name for name in run.stdout.split("\0") if name and (ROOT / name).is_file()]


# --- code -----------------------------------------------------------------------------------------


def imported(path: Path) -> set[str]:
    """Full names of everything that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_packages_and_rooms_import_only_from_those_before_them():
    for number, package in enumerate(PACKAGES):
        for path in (ROOT / package).rglob("*.py"):
            if path == ROOT / "lib/__main__.py":  # the door to the command line
                continue
            room = path.parent.name if path.parent != ROOT / package else None
            for name in imported(path):
                top, _, rest = name.partition(".")
                if top in PACKAGES:
                    assert PACKAGES.index(top) <= number, f"{path.name} uses {name}"
                used = rest.split(".")[0]
                if package == top == "lib" and room in ROOMS and used in ROOMS:
                    assert ROOMS.index(used) <= ROOMS.index(room), f"lib/{room} uses {name}"


def test_profiles_imports_nothing_of_lib():
    assert "from lib" not in (ROOT / "lib/profiles.py").read_text()


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-site.txt"])
def test_every_requirement_is_pinned_and_says_what_it_is_for(name):
    for line in (ROOT / name).read_text().splitlines():
        if line and not line.startswith("#"):
            assert re.fullmatch(r"[\w-]+==[\w.]+(; [\w.<= \"]+)? +# .+", line), line


# Started as programs, or needed by what is imported; no file here imports them.
TOOLS = {"jupyterlab", "ipykernel", "ruff", "pytest", "onnxscript"}
MODULES = {"torch": "torch", "lightning-fabric": "lightning_fabric", "scikit-learn": "sklearn",
           "pillow": "PIL", "ipython": "IPython"}  # where the module is called something else


def test_what_is_imported_is_pinned_and_what_is_pinned_is_imported():
    own = {*PACKAGES, "drawings", *(path.stem for path in (ROOT / "tests").glob("*.py"))}
    used = {name.split(".")[0] for folder in (*PACKAGES, "notebooks", "tests")
            for path in (ROOT / folder).rglob("*.py") for name in imported(path)}
    used -= {*own, *sys.stdlib_module_names}
    pins = set(re.findall(r"^([\w-]+)==", (ROOT / "requirements.txt").read_text(), re.M))
    modules = {MODULES.get(pin, pin) for pin in pins}
    assert used <= modules, f"not pinned: {used - modules}"
    assert modules <= used | TOOLS, f"not imported: {modules - used - TOOLS}"


def private(path: Path) -> Iterator[str]:
    """Names with a leading underscore that a file takes from other files."""
    tree, modules = ast.parse(path.read_text()), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in PACKAGES:
            yield from (alias.name for alias in node.names if alias.name.startswith("_"))
            modules |= {alias.asname or alias.name for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr):
            first = ast.unparse(node.value).split(".")[0]
            if first in modules:
                yield ast.unparse(node)


def test_no_private_name_is_used_across_files():
    found = {path.name: names for folder in (*PACKAGES, "notebooks", "tests")
             for path in (ROOT / folder).rglob("*.py") if (names := list(private(path)))}
    assert not found


# The goals are 6,600 and 11,000; this is what there is: what is added is taken away elsewhere.
@pytest.mark.parametrize(("packages", "budget"), [(("lib",), 7_115), (PACKAGES, 13_505)])
def test_the_library_is_thin(packages, budget):
    lines = {package: sum(len(path.read_text().splitlines())
                          for path in (ROOT / package).rglob("*.py")) for package in packages}
    assert sum(lines.values()) <= budget, lines


def test_paths_in_the_documents_exist():
    for name in ("README.md", "DATA.md"):
        for path in re.findall(r"`((?:lib|collider|hcal|course|paper)/[\w./]*)`",
                               (ROOT / name).read_text()):
            assert (ROOT / path).exists(), f"{name}: {path}"


def test_environment_for_conda_reads_the_same_pins():
    text = (ROOT / "environment.yml").read_text()
    assert "- -r requirements.txt" in text
    name = re.search(r"^name: (\S+)", text, re.M)[1]
    assert f"= {name} ]" in (ROOT / "run_all.sh").read_text()


@pytest.mark.parametrize("script", ["run_all.sh", "run_tests.sh", ".ci/run"])
def test_scripts_parse_and_are_executable(script):
    subprocess.run(["bash", "-n", ROOT / script], check=True)
    assert (ROOT / script).stat().st_mode & 0o111


def test_help_needs_no_environment():
    run = subprocess.run(
        ["bash", ROOT / "run_all.sh", "--help"], capture_output=True, text=True, check=True
    )
    for option in ("--profile", "--data", "--only", "--from", "--grids", "--fresh", "--setup",
                   "--publish", "--submission", "--site"):
        assert option in run.stdout


def test_every_notebook_and_document_has_a_page_on_the_site():
    """The index takes all notebooks; what it names beside them is copied by run_all.sh."""
    script, index = (ROOT / "run_all.sh").read_text(), (ROOT / "docs/index.md").read_text()
    assert "notebooks/*\n" in index
    for page in re.findall(r"<([\w/]+)>", index):
        if page != "reference/index":  # made by autoapi
            assert (ROOT / f"{page}.md").exists(), page
            assert f"{page}.md" in script, page
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / link).exists() or link.startswith("figures/"), link


# --- what is under version control ----------------------------------------------------------------


def test_what_is_made_on_the_fly_is_ignored_and_source_is_not():
    tracked()
    for name, ignored in (("data/x.h5", True), ("runs/x", True), ("build/x", True),
                          (".venv/x", True), ("lib/data/x.py", False), ("results/x.json", False)):
        run = subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT)
        assert (run.returncode == 0) == ignored, name


def test_no_paths_of_a_machine_and_no_registry_hosts():
    path = re.compile(r"(?:^|[^A-Za-z0-9_.])/(?:work|farm|root|home/\w+|Users/\w+)/")
    hosts = [".".join(x) for x in (("pypi", "org"), ("pythonhosted", "org"),
                                   ("deb", "debian", "org"), ("registry", "npmjs", "org"))]
    for file in tracked():
        try:
            text = file.read_text()
        except UnicodeDecodeError:
            continue
        assert not (found := path.search(text)), f"{file.name}: {found[0]}"
        assert not any(host in text for host in hosts), file.name


def test_published_files_are_small():
    for file in tracked():
        limit = 1_000_000
        if file.suffix == ".ipynb":
            limit = 300_000
        elif file.parent.name == "figures":
            limit = 200_000
        elif "weights" in file.parts:
            limit = 5_000_000
        assert file.stat().st_size <= limit, f"{file.name}: {file.stat().st_size} bytes"
    assert sum(file.stat().st_size for file in tracked() if "results" in file.parts) <= 30_000_000


# --- notebooks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES.values(), ids=lambda path: path.stem)
def test_notebook_is_in_step_with_its_source_and_executed(source):
    published = source.with_suffix(".ipynb")
    assert published.exists(), "run ./run_all.sh --publish"
    cells = json.loads(published.read_text())["cells"]
    wanted = notebooks.read_source(source).cells
    assert [(c["cell_type"], "".join(c["source"]), c["id"]) for c in cells] == [
        (c.cell_type, c.source, c.id) for c in wanted
    ], "the notebook and its source differ: run ./run_all.sh --publish"
    for cell in cells:
        if cell["cell_type"] == "code" and "".join(cell["source"]).strip():
            assert cell["execution_count"], "a cell was not executed"
            assert not any(o["output_type"] == "error" for o in cell["outputs"])


@pytest.mark.parametrize("first", [".py", ".ipynb"])
def test_jupytext_neither_asks_nor_overwrites_after_a_clone(tmp_path, first):
    """Git keeps no time stamps: either file may seem more recent."""
    source = SOURCES["02"]
    files = [shutil.copy(source.with_suffix(suffix), tmp_path) for suffix in (".py", ".ipynb")]
    for number, path in enumerate(files):
        os.utime(path, (1e9 + number, 1e9 + number) if first == ".py" else (2e9, 2e9 - number))
    before = [Path(path).read_bytes() for path in files]
    for path in files:
        assert jupytext.cli.jupytext(["--sync", "--quiet", str(path)]) == 0
    assert [Path(path).read_bytes() for path in files] == before
    made = tmp_path / "made.ipynb"
    jupytext.cli.jupytext(["--to", "ipynb", "--quiet", "--output", str(made), str(files[0])])
    assert [notebooks.filled(c.source) for c in nbformat.read(made, as_version=4).cells] == [
        c.source for c in notebooks.read_source(source).cells]


@pytest.mark.parametrize("source", SOURCES.values(), ids=lambda path: path.stem)
def test_no_notebook_is_paired(source):
    assert "formats" not in source.read_text().partition("# %%")[0]
    assert "jupytext" not in json.loads(source.with_suffix(".ipynb").read_text())["metadata"]


def test_kernels_and_run_all_hold_on_to_memory_alike():
    script = (ROOT / "run_all.sh").read_text()
    assert dict(re.findall(r"(MALLOC_\w+)=(\d+)", script)) == notebooks.MALLOC


@pytest.mark.parametrize("source", SOURCES.values(), ids=lambda path: path.stem)
def test_notebook_takes_the_parameters_of_the_runner(source):
    notebook = notebooks.read_source(source)
    assert notebooks.parameter_names(notebook) == {"PROFILE", "DATA", "GRIDS"}
    lines = [line for c in notebook.cells if c.cell_type == "code" for line in c.source.split("\n")]
    assert max(map(len, lines)) <= 100


def test_every_notebook_has_a_source():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert path.with_suffix(".py").exists(), path.name


def test_report_uses_only_what_a_notebook_promises():
    promised = [notebooks.promised(path) for path in SOURCES.values()]
    figures = re.findall(r"\\includegraphics(?:\[[^]]*\])?\{(\w+)\}", PAPER_CODE)
    figures += re.findall(r"\]\(figures/(\w+)\.png\)", (ROOT / "README.md").read_text())
    assert set(figures) <= {name for promise in promised for name in promise.figures}
    written = {name for promise in promised for name in promise.experiments}
    # A section on an experiment that only --grids runs says so in its first line.
    for section in (ROOT / "paper/sections").glob("*.tex"):
        for need in section.read_text().partition("\n")[0].removeprefix("% needs: ").split(", "):
            assert any(f'Experiment("{need}"' in path.read_text() for path in SOURCES.values())
            written.add(need)
    used = re.findall(r"\\result(?:value|percent)?\{(\d\d_\w+)/", PAPER_CODE)
    assert set(used) <= written


# --- no result typed by hand ----------------------------------------------------------------------

NUMBER = re.compile(r"(?<![\w.])\d+\.\d+|\d\s*\\?%")


def test_no_number_in_the_report_is_typed_by_hand():
    text = PAPER_CODE.split(r"\begin{document}")[1]
    text = re.sub(r"\\(result(value|percent)?|published|setting|input)\{[^}]*\}", "", text)
    text = re.sub(r"(\[[^]]*\\linewidth|\[\d+ex)\]", "", text)  # sizes of figures
    assert not (found := NUMBER.findall(text)), f"use \\result, \\published or \\setting: {found}"


def test_no_number_in_the_readme_is_typed_by_hand():
    text = (ROOT / "README.md").read_text()
    text = re.sub(r"<!-- generated: \S+ -->.*?<!-- end -->", "", text, flags=re.DOTALL)
    text = re.sub(r"\(published: [^)]*\)", "", text)  # quoted from the literature
    text = re.sub(r"arXiv:\d+\.\d+|Python 3\.\d+|CC BY 4\.0|95 %", "", text)
    assert not (found := NUMBER.findall(text)), f"measured numbers are generated: {found}"


def test_references_are_complete_and_l2vit_has_one_author():
    text = (ROOT / "paper/references.bib").read_text()
    entries = dict(re.findall(r"@\w+\{(\w+),(.*?)\n\}", text, re.DOTALL))
    cited = {key.strip() for keys in re.findall(r"\\cite\w*\{([^}]+)\}", PAPER_CODE)
             for key in keys.split(",")}
    assert cited <= set(entries)
    assert "author = {Zheng, Chuanyang}," in entries["zheng2025l2vit"]
    assert all("author" in body and "title" in body for body in entries.values())


# --- profiles -------------------------------------------------------------------------------------


def test_profiles_keep_to_their_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    smoke, laptop = profiles.get("smoke"), profiles.get("laptop", "cms")
    build = tmp_path / "build/smoke-simulated"
    for folder in (smoke.data_dir, smoke.runs_dir, smoke.results_dir, smoke.figures_dir,
                   smoke.paper_dir):
        assert folder.parent == build
    assert laptop.results_dir == tmp_path / "results/laptop-cms"
    assert laptop.build_dir == tmp_path / "build/laptop-cms"
    assert profiles.get("full", "cms").data_dir == laptop.data_dir


@pytest.mark.parametrize(("name", "data"), [("big", "simulated"), ("laptop", "real")])
def test_unknown_profile_names_the_known_ones(name, data):
    with pytest.raises(ValueError, match=r"choose one of \w+, \w+"):
        profiles.get(name, data)


def test_whoever_forks_it_has_both_commands_run_and_any_printer_will_do():
    workflow = (ROOT / ".github/workflows/course.yml").read_text()
    assert all(command in workflow for command in ("./run_tests.sh", "./run_all.sh", ".pdf"))
    assert json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())["image"]
    for source in SOURCES.values():  # LaTeX fetches no image from elsewhere
        text = source.with_suffix(".ipynb").read_text()
        assert not re.search(r"!\[[^\]]*\]\(https?:", text), source.stem
