"""The notebooks: from reviewed source to executed, published and printed.

A notebook's source is ``notebooks/NN_name.py`` (jupytext, py:percent). It is turned into an
``.ipynb`` in this one direction only: neither file names the other, so no tool compares time
stamps, which git does not keep.

What a notebook promises is read from its code: every ``plots.save(fig, "name", profile)`` and
every ``Experiment("name", profile)`` that stands outside an ``if`` and gives its name literally."""

import ast
import hashlib
import logging
import os
import re
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jupytext
import nbformat

from lib.files import write_bytes, write_text
from lib.profiles import REPOSITORY, ROOT, Profile, home

BADGE = re.compile(r"\[!\[([^\]]*)\]\((https?://[^)]*)\)\]\((https?://[^)]*)\)")
LOG = 40  # lines of a log in a published notebook
# glibc keeps freed memory instead of giving it back after each tensor (see run_all.sh).
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "2147483647",
          "MALLOC_TOP_PAD_": "268435456"}
TEMPLATE = Path(__file__).with_name("notebook.tex.j2").read_text()  # of notebooks in print


class NotebookError(Exception):
    """A notebook that cannot be run, failed, or did not keep its promises; one line."""


class Promise(NamedTuple):
    """Names of the figures and experiments that a notebook writes whenever it runs."""

    figures: list[str]
    experiments: list[str]


def sources(folder: Path) -> dict[str, Path]:
    """Notebook sources by their number, in order: ``{"00": .../00_start_here.py, ...}``."""
    return {path.name[:2]: path for path in sorted(folder.glob("[0-9][0-9]_*.py"))}


def read_source(path: Path) -> nbformat.NotebookNode:
    """The notebook in a py:percent file, with cell ids that depend on the cells' text only, the
    repository's address for ``{REPOSITORY}``, and badges that any printer can leave out."""
    cells, seen = jupytext.read(path).cells, Counter()
    for cell in cells:
        cell.source = filled(cell.source)
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] += 1
        cell["id"] = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
    return nbformat.v4.new_notebook(cells=cells, metadata={
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"}})


def filled(text: str) -> str:
    """A cell's text with the repository's address, and with badges as HTML: they are images
    elsewhere, which LaTeX cannot fetch, and HTML it leaves out."""
    if REPOSITORY.startswith("OWNER/"):  # nobody has said where this copy is published
        text = BADGE.sub("", text)
    text = text.replace("{REPOSITORY}", REPOSITORY)
    return BADGE.sub(r'<a href="\3"><img src="\2" alt="\1"></a>', text)


def parameter_names(notebook: nbformat.NotebookNode) -> set[str]:
    """Names assigned in the cell tagged ``parameters`` (tuple assignments included)."""
    tagged = [c.source for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    return {node.id for source in tagged for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def promised(path: Path) -> Promise:
    """Figures and experiments that the notebook source at ``path`` always writes."""
    promise = Promise([], [])

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If | ast.FunctionDef | ast.Try | ast.Lambda):
            return  # may not run
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).split(".")[-1]
            names = [x.value for x in node.args
                     if isinstance(x, ast.Constant) and isinstance(x.value, str)]
            if called == "Experiment":
                promise.experiments.extend(names)
            elif called == "save" and len(node.args) == 3:
                promise.figures.extend(names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    # Read from the source, where jupytext has made comments of magics.
    visit(ast.parse(path.read_text()))
    return promise


def execute(source: Path, out: Path, parameters: Mapping[str, Any]) -> int:
    """Run the notebook at ``source`` with this interpreter, in its folder, and write it, executed,
    to ``out``: after a failure, the cells up to the error. ``parameters`` are values for the cell
    tagged so. Returns how many things it says it took from the cache.

    NotebookError: unknown parameter, a cell that failed, a kernel that died, or a notebook that
    stopped before its last cell (``sys.exit(0)`` would otherwise pass as success)."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    logging.getLogger("papermill").setLevel(logging.ERROR)
    name, notebook = source.stem, read_source(source)
    if unknown := set(parameters) - parameter_names(notebook):
        listed = ", ".join(sorted(unknown))
        raise NotebookError(f"{name}: its parameters cell does not define {listed}")
    out.parent.mkdir(parents=True, exist_ok=True)
    # Figures in the notebook; the packages of this checkout, whatever is installed; one absolute
    # home for everything that is written, as a kernel works in the notebook's folder.
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONPATH": path,
                   "JETS_HOME": str(home()), **MALLOC}
    try:
        with mock.patch.dict(os.environ, environment):
            papermill.execute_notebook(
                notebook, str(out), parameters=parameters, cwd=str(source.parent),
                kernel_name="python3",  # jupyter resolves it to sys.executable
                progress_bar=False, request_save_on_cell_execute=False,
                extra_arguments=["--log-level=CRITICAL"])  # Ctrl-C; errors of cells are messages
    except papermill.PapermillExecutionError as error:
        # Cell numbers as a reader sees them: the injected parameters are one cell.
        message = textwrap.shorten(str(error.evalue), 300, placeholder=" …")
        raise NotebookError(f"{name}: cell [{error.exec_count}] failed: {error.ename}: {message} "
                            f"(see {shown(out)})") from None
    except DeadKernelError:
        raise NotebookError(f"{name}: the kernel died, most likely out of memory") from None
    code = [cell for cell in nbformat.read(out, as_version=4).cells
            if cell.cell_type == "code" and cell.source.strip()]
    if any(cell.execution_count is None for cell in code):
        raise NotebookError(f"{name}: stopped before its last cell (see {shown(out)})")
    printed = "".join(output.text for cell in code for output in cell.outputs
                      if output.output_type == "stream")
    return sum("from the cache" in line for line in printed.splitlines())


def shown(path: Path) -> str:
    """A path as messages show it: from the folder under which everything is written."""
    return os.path.relpath(path, home())


def check_artefacts(promise: Promise, profile: Profile, since: float) -> list[str]:
    """Promised files that are missing, empty or older than ``since`` (seconds of the epoch)."""
    expected = [profile.results_dir / f"{name}.json" for name in promise.experiments]
    expected += [profile.figures_dir / f"{name}{suffix}"
                 for name in promise.figures for suffix in (".pdf", ".png")]
    missing = [path for path in expected if not path.is_file() or path.stat().st_size == 0]
    return [f"{shown(path)} is missing" if path in missing else
            f"{shown(path)} was not written in this run" for path in expected
            if path in missing or path.stat().st_mtime < since - 2]  # file systems round


def publish(source: Path, executed: Path, out: Path) -> None:
    """Write ``out``: the cells of ``source`` with the outputs of ``executed``, which must have been
    made from them. Injected parameters, papermill's metadata and this machine's paths are left out;
    cell ids depend on the text only, so that git shows what changed and nothing else."""
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    notebook = read_source(source)
    done = [cell for cell in nbformat.read(executed, as_version=4).cells
            if "injected-parameters" not in cell.metadata.get("tags", [])]
    if [c.source for c in done] != [c.source for c in notebook.cells]:
        raise NotebookError(f"{source.stem}: changed since it was executed; run it again")
    count = 0
    for cell, ran in zip(notebook.cells, done):
        if cell.cell_type == "code" and cell.source.strip():
            count += 1
            cell.execution_count = count
            ran, _ = CoalesceStreamsPreprocessor().preprocess_cell(ran, {}, 0)
            cell.outputs = [_scrubbed(output, count) for output in ran.outputs]
    write_text(out, nbformat.writes(notebook, version=4).rstrip("\n") + "\n")


def _scrubbed(output: Any, count: int) -> Any:
    if "execution_count" in output:
        output.execution_count = count
    if "text" in output:
        lines = scrub(output.text).splitlines(True)
        if len(lines) > LOG:
            lines[LOG // 2 : -LOG // 2] = [f"… {len(lines) - LOG} more lines …\n"]
        output.text = "".join(lines)
    for kind, text in output.get("data", {}).items():
        if kind.startswith("text/") and isinstance(text, str):
            output.data[kind] = scrub(text)
    return output


def scrub(text: str) -> str:
    """``text`` without the paths of this machine."""
    text = re.sub(r"\S*/ipykernel_\d+/\d+\.py", "<cell>", text)
    text = text.replace(f"{home()}/", "")
    places = {home(): ".", sys.prefix: "<environment>", sys.base_prefix: "<python>",
              tempfile.gettempdir(): "<tmp>", Path.home(): "~"}
    for path, short in places.items():
        text = text.replace(str(path), short) if len(str(path)) > 1 else text
    return text


def to_pdf(executed: Path, out: Path) -> None:
    """Print an executed notebook through nbconvert, pandoc and xelatex; a NotebookError quotes the
    first error of LaTeX."""
    from nbconvert import PDFExporter
    from nbconvert.exporters.pdf import LatexFailed

    notebook = nbformat.read(executed, 4)
    command = ["xelatex", "-interaction=nonstopmode", "-halt-on-error", "{filename}"]
    try:
        # Twice for references; there is no bibliography.
        exporter = PDFExporter(raw_template=TEMPLATE, latex_command=command, latex_count=2)
        write_bytes(out, exporter.from_notebook_node(notebook)[0])
    except LatexFailed as error:
        first = re.search(r"^!+ ?(.*)", error.output, re.M)
        raise NotebookError(f"{executed.stem}: xelatex failed: "
                            f"{first[1] if first else 'no reason'}") from None
