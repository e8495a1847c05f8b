"""The notebooks: from reviewed source to executed, published and printed.

A notebook's source is ``notebooks/NN_name.py`` (jupytext, py:percent). It is turned into an
``.ipynb`` in this one direction only; time stamps, which git does not keep, play no part.

What a notebook promises is read from its code: every ``plots.save(fig, "name", profile)`` and
every ``Experiment("name", profile)`` that stands outside an ``if`` and gives its name literally.
"""

from __future__ import annotations

import ast
import hashlib
import logging
import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jupytext
import nbformat

from lib.files import write_text
from lib.profiles import REPOSITORY, Profile, home

LOG = 40  # lines of a log in a published notebook
MAX_CELL_ERROR = 300  # characters of an error that are shown


class NotebookError(Exception):
    """A notebook that cannot be run, failed, or did not keep its promises; one line."""


@dataclass
class Promise:
    """Names of the figures and experiments that a notebook writes whenever it runs."""

    figures: list[str] = field(default_factory=list)
    experiments: list[str] = field(default_factory=list)


@dataclass
class Executed:
    """One executed notebook: where it lies, seconds it took, lines it printed about the cache."""

    path: Path
    seconds: float
    cached: list[str]


def sources(folder: Path) -> dict[str, Path]:
    """Notebook sources by their number, in order: ``{"00": .../00_start_here.py, ...}``."""
    found = sorted(path for path in folder.glob("*.py") if re.match(r"\d\d_", path.name))
    return {path.name[:2]: path for path in found}


def read_source(path: Path) -> nbformat.NotebookNode:
    """The notebook in a py:percent file, with cell ids that depend on the cells' text only and
    with the repository's address for ``{REPOSITORY}``."""
    notebook = jupytext.read(path)
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        cell.source = cell.source.replace("{REPOSITORY}", REPOSITORY)
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell["id"] = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata.setdefault("kernelspec", kernel)
    return notebook


def parameter_names(notebook: nbformat.NotebookNode) -> set[str]:
    """Names assigned in the cell tagged ``parameters`` (tuple assignments included)."""
    names: set[str] = set()
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    names.add(node.id)
    return names


def promised(path: Path) -> Promise:
    """Figures and experiments that the notebook source at ``path`` always writes."""
    promise = Promise()

    def literal(call: ast.Call, position: int) -> str | None:
        if len(call.args) > position and isinstance(call.args[position], ast.Constant):
            return str(call.args[position].value)
        return None

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If | ast.FunctionDef | ast.Try | ast.Lambda):
            return  # may not run
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called.split(".")[-1] == "Experiment" and (name := literal(node, 0)):
                promise.experiments.append(name)
            if called in ("plots.save", "figures.save") and (name := literal(node, 1)):
                promise.figures.append(name)
        for child in ast.iter_child_nodes(node):
            visit(child)

    # Read from the source, where jupytext has made comments of magics.
    visit(ast.parse(path.read_text()))
    return promise


def execute(
    source: Path, out: Path, parameters: dict[str, Any], env: dict[str, str] | None = None
) -> Executed:
    """Run the notebook at ``source`` with this interpreter and write it, executed, to ``out``.

    Args:
        source: py:percent file; its folder is the working directory of the kernel.
        out: the executed ``.ipynb``; after a failure it holds the cells up to the error.
        parameters: values for the cell tagged ``parameters``.
        env: environment variables of the kernel besides those of this process.

    Raises:
        NotebookError: unknown parameter, a cell that failed, a kernel that died, or a notebook
            that stopped before its last cell (``sys.exit(0)`` would otherwise pass as success).
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    logging.getLogger("papermill").setLevel(logging.ERROR)
    name = source.stem
    notebook = read_source(source)
    if unknown := set(parameters) - parameter_names(notebook):
        listed = ", ".join(sorted(unknown))
        raise NotebookError(f"{name}: its parameters cell does not define {listed}")
    out.parent.mkdir(parents=True, exist_ok=True)
    # Figures are shown in the notebook, whatever backend this process was told to use.
    settings = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", **(env or {})}
    before = {key: os.environ.get(key) for key in settings}
    os.environ.update(settings)
    start = time.monotonic()
    try:
        papermill.execute_notebook(
            notebook,
            str(out),
            parameters=parameters,
            kernel_name="python3",  # jupyter resolves it to sys.executable
            cwd=str(source.parent),
            progress_bar=False,
            request_save_on_cell_execute=False,
        )
    except papermill.PapermillExecutionError as error:
        raise NotebookError(f"{name}: {_one_line(error)} (see {_shown(out)})") from None
    except DeadKernelError:
        raise NotebookError(f"{name}: the kernel died, most likely out of memory") from None
    finally:
        for key, value in before.items():
            os.environ.pop(key, None) if value is None else os.environ.__setitem__(key, value)
    seconds = time.monotonic() - start
    done = nbformat.read(out, as_version=4)
    code = [c for c in done.cells if c.cell_type == "code" and c.source.strip()]
    if any(cell.execution_count is None for cell in code):
        raise NotebookError(f"{name}: stopped before its last cell (see {_shown(out)})")
    return Executed(out, seconds, _cache_lines(code))


def _one_line(error: Any) -> str:
    message = " ".join(str(error.evalue).split())
    if len(message) > MAX_CELL_ERROR:
        message = message[:MAX_CELL_ERROR] + " …"
    # Cell numbers as a reader sees them: the injected parameters are one cell.
    return f"cell [{error.exec_count}] failed: {error.ename}: {message}"


def _shown(path: Path) -> str:
    return os.path.relpath(path, home())


def _cache_lines(cells: list[nbformat.NotebookNode]) -> list[str]:
    """Printed lines that speak of the cache: a run or a file that was loaded, not made."""
    printed = "".join(
        output.text for cell in cells for output in cell.outputs if output.output_type == "stream"
    )
    return [line.strip() for line in printed.splitlines() if "from the cache" in line]


def check_artefacts(promise: Promise, profile: Profile, since: float) -> list[str]:
    """Promised files that are missing, empty or older than ``since`` (seconds of the epoch)."""
    expected = [profile.results_dir / f"{name}.json" for name in promise.experiments]
    for name in promise.figures:
        expected += [profile.figures_dir / f"{name}.pdf", profile.figures_dir / f"{name}.png"]
    problems = []
    for path in expected:
        if not path.is_file() or path.stat().st_size == 0:
            problems.append(f"{_shown(path)} is missing")
        elif path.stat().st_mtime < since - 2:  # file systems round
            problems.append(f"{_shown(path)} was not written in this run")
    return problems


def publish(source: Path, executed: Path, out: Path) -> None:
    """Write ``out``: the cells of ``source`` with the outputs of ``executed``.

    Injected parameters, papermill's metadata and this machine's paths are left out; cell ids
    depend on the text only, so that git shows what changed and nothing else.

    Raises:
        NotebookError: the executed notebook was made from another source.
    """
    notebook = read_source(source)
    done = [
        cell
        for cell in nbformat.read(executed, as_version=4).cells
        if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    if [c.source for c in done] != [c.source for c in notebook.cells]:
        raise NotebookError(f"{source.stem}: changed since it was executed; run it again")
    count = 0
    for cell, ran in zip(notebook.cells, done):
        if cell.cell_type == "code" and cell.source.strip():
            count += 1
            cell.execution_count = count
            cell.outputs = [_scrubbed(output, count) for output in _shortened(ran.outputs)]
    notebook.metadata["language_info"] = {"name": "python"}
    _write(notebook, out)


def _write(notebook: nbformat.NotebookNode, out: Path) -> None:
    text = nbformat.writes(notebook, version=4)
    if not text.endswith("\n"):
        text += "\n"
    write_text(out, text)


def _shortened(outputs: list) -> list:
    """Outputs with neighbouring pieces of a log as one, and a long log without its middle."""
    joined: list = []
    for output in outputs:
        before = joined[-1] if joined else {}
        if "stream" == output.output_type == before.get("output_type") \
                and output.name == before.name:
            before.text += output.text
        else:
            joined.append(output)
    for output in joined:
        if output.output_type == "stream" and len(lines := output.text.splitlines(True)) > LOG:
            left_out = f"… {len(lines) - LOG} more lines …\n"
            output.text = "".join([*lines[: LOG // 2], left_out, *lines[-LOG // 2 :]])
    return joined


def _scrubbed(output: Any, count: int) -> Any:
    if "execution_count" in output:
        output.execution_count = count
    output.get("metadata", {}).pop("papermill", None)
    if "text" in output:
        output.text = scrub(output.text)
    for kind, text in output.get("data", {}).items():
        if kind.startswith("text/") and isinstance(text, str):
            output.data[kind] = scrub(text)
    return output


def scrub(text: str) -> str:
    """``text`` without the paths of this machine."""
    text = re.sub(r"\S*/ipykernel_\d+/\d+\.py", "<cell>", text)
    places = [
        (str(home()), "."),
        (sys.prefix, "<environment>"),
        (sys.base_prefix, "<python>"),
        (tempfile.gettempdir(), "<tmp>"),
        (str(Path.home()), "~"),
    ]
    for path, short in places:
        if len(path) > 1:
            text = text.replace(f"{path}/", "" if short == "." else f"{short}/")
            text = text.replace(path, short)
    return text


def to_pdf(executed: Path, out: Path) -> None:
    """Print an executed notebook through nbconvert, pandoc and xelatex.

    Raises:
        NotebookError: LaTeX failed; the message quotes its first error.
    """
    import subprocess

    from nbconvert import LatexExporter
    from nbconvert.writers import FilesWriter

    name = executed.stem
    notebook = nbformat.read(executed, 4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":  # a badge is an image elsewhere, which LaTeX cannot fetch
            cell.source = re.sub(r"!\[([^\]]*)\]\(https?://[^)]*\)", r"\1", cell.source)
    body, resources = LatexExporter().from_notebook_node(notebook)
    # The default mono font of nbconvert has no Greek letters, which code here uses.
    fonts = (
        "\\IfFontExistsTF{DejaVu Sans Mono}{\\setmonofont[Scale=0.83]{DejaVu Sans Mono}}{}\n"
        "\\IfFontExistsTF{DejaVu Serif}{\\setmainfont[Scale=0.9]{DejaVu Serif}}{}\n"
    )
    body = body.replace("\\begin{document}", fonts + "\\begin{document}", 1)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        FilesWriter(build_directory=folder).write(body, resources, notebook_name=name)
        command = ["xelatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        for _ in range(2):  # the second time for references
            run = subprocess.run(
                command, cwd=folder,
                capture_output=True, text=True, errors="replace"
            )
            if run.returncode:
                first = next((x for x in run.stdout.splitlines() if x.startswith("!")), "no reason")
                raise NotebookError(f"{name}: xelatex failed: {first.lstrip('! ')}")
        os.replace(Path(folder) / f"{name}.pdf", out)
