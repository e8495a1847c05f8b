#!/usr/bin/env bash
# The whole course in one command: environment, data, notebooks in order, figures, report.
# This script makes the environment, then hands over to `python -m lib course`.
set -euo pipefail
# One home for all processes, wherever they work; notebooks work in notebooks/.
[ -z "${JETS_HOME:-}" ] || { mkdir -p "$JETS_HOME"; JETS_HOME=$(cd "$JETS_HOME" && pwd); export JETS_HOME; }
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
  cat <<'TEXT'
usage: ./run_all.sh [options]

  --profile smoke|laptop|full   size of the run (default: laptop)
  --data simulated|cms          simulated jets, or the public CMS files (default: simulated)
  --only NN                     one notebook; may be given several times
  --from NN                     this notebook and those after it
  --grids                       also run the grids (hours on two cores; cached run by run)
  --fresh                       ignore the cache: simulate and train again
  --publish                     refresh notebooks/*.ipynb from the executed notebooks
  --submission[=NN]             each executed notebook (or only NN) also as a PDF
  --setup                       only make the environment
  --site                        only render the published notebooks and the reference as a web
                                site, build/site (ready for GitHub Pages)
  --tests [pytest arguments]    make the environment and run the tests (what run_tests.sh does)
  --help                        this text

Exit codes: 0 done; 1 a step failed; 2 wrong usage; 3 LaTeX is missing, all else is done.
TEXT
}

fail() { echo "run_all.sh: $*" >&2; exit 1; }

may_install() {  # apt is there, and we are root or may sudo without a password
  command -v apt-get >/dev/null || return 1
  [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null
}

quietly() {  # what a command prints is shown only when it fails
  local output
  output=$("$@" 2>&1) || { echo "$output" | tail -n 20 >&2; return 1; }
}

apt_install() {
  local sudo=()
  [ "$(id -u)" = 0 ] || sudo=(sudo -n)
  quietly "${sudo[@]}" apt-get update -qq &&
    quietly "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends "$@"
}

find_python() {  # the first interpreter of at least 3.11; best one for which there is a Pythia
  local name limit
  for limit in 14 99; do
    for name in python3 python3.13 python3.12 python3.11 python; do
      if command -v "$name" >/dev/null &&
        "$name" -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, $limit))" 2>/dev/null; then
        command -v "$name"
        return
      fi
    done
  done
  return 1
}

without_pythia() {  # jets cannot be simulated here: say so, go on with what can be done
  "$PYTHON" -c 'import pythia8mc' 2>/dev/null ||
    echo "environment: no Pythia for this platform or Python; use --data cms, or published results (README.md)"
}

make_venv() {  # sets PYTHON; an environment whose requirements have not changed is reused
  local base stamp=.venv/.requirements.sha256 want
  want=$(cat requirements.txt pyproject.toml | sha256sum | cut -d' ' -f1)
  PYTHON=$PWD/.venv/bin/python
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want $PWD" ] && "$PYTHON" -c '' 2>/dev/null; then
    echo "environment: .venv (reused)"
    return
  fi
  if ! "$PYTHON" -m pip --version >/dev/null 2>&1; then
    base=$(find_python) || fail "needs Python 3.11 or newer; install it and run this again"
    rm -rf .venv
    if ! "$base" -m venv .venv >/dev/null 2>&1; then
      # Debian and Ubuntu ship venv apart from Python.
      local package
      package=$("$base" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')
      rm -rf .venv
      if may_install; then
        echo "environment: installing $package"
        apt_install "$package" || fail "could not install $package with apt"
      fi
      "$base" -m venv .venv >/dev/null 2>&1 ||
        { rm -rf .venv; fail "Python cannot make environments; run: sudo apt-get install $package"; }
    fi
  fi
  echo "environment: .venv, installing requirements.txt (some minutes the first time)"
  quietly "$PYTHON" -m pip install --disable-pip-version-check -r requirements.txt ||
    fail "pip could not install requirements.txt (see above); run this again to go on"
  quietly "$PYTHON" -m pip install --disable-pip-version-check --no-deps -e . ||
    fail "pip could not install this repository (see above)"
  echo "$want $PWD" > "$stamp"
  without_pythia
}

choose_environment() {  # an active conda environment made from environment.yml is used as it is
  if [ -n "${CONDA_PREFIX:-}" ] && [ "${CONDA_DEFAULT_ENV:-}" = jets-in-linear-time ]; then
    PYTHON=$CONDA_PREFIX/bin/python
    "$PYTHON" -c 'import torch, papermill' 2>/dev/null ||
      fail "the conda environment is incomplete; run: conda env update -f environment.yml"
    echo "environment: conda, $CONDA_DEFAULT_ENV (used as it is)"
  else
    make_venv
  fi
}

# The report needs the first line; notebooks as PDFs (--submission) need both.
REPORT_PACKAGES="latexmk texlive-latex-recommended texlive-latex-extra texlive-science texlive-fonts-recommended lmodern"
NOTEBOOK_PACKAGES="texlive-xetex texlive-plain-generic pandoc fonts-dejavu-core"

latex_missing() {
  command -v latexmk >/dev/null && command -v pdflatex >/dev/null || return 0
  [ -n "$(kpsewhich siunitx.sty)" ] && [ -n "$(kpsewhich lmodern.sty)" ] || return 0
  if [ -n "$SUBMISSION" ]; then
    command -v xelatex >/dev/null && command -v pandoc >/dev/null || return 0
    [ -n "$(kpsewhich ulem.sty)" ] && [ -n "$(kpsewhich tcolorbox.sty)" ] || return 0
  fi
  return 1
}

install_latex() {  # never fatal: without LaTeX everything else is finished first
  local packages=$REPORT_PACKAGES
  [ -z "$SUBMISSION" ] || packages="$packages $NOTEBOOK_PACKAGES"
  export JETS_LATEX_COMMAND="sudo apt-get install --no-install-recommends $packages"
  latex_missing || return 0
  may_install || return 0
  echo "LaTeX: installing with apt"
  # shellcheck disable=SC2086  # a list of words
  apt_install $packages || echo "LaTeX: apt could not install it; going on without" >&2
}

make_site() {  # from what is published; its tools have an environment of their own
  local venv=build/.site pages=build/pages stamp want base
  stamp=$venv/.requirements.sha256 want=$(sha256sum < requirements-site.txt)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
    base=$(find_python) || fail "needs Python 3.11 or newer; install it and run this again"
    echo "site: installing requirements-site.txt"
    rm -rf "$venv"
    quietly "$base" -m venv "$venv" || fail "Python cannot make environments (see above)"
    quietly "$venv/bin/python" -m pip install --disable-pip-version-check -r requirements-site.txt ||
      fail "pip could not install requirements-site.txt (see above); run this again to go on"
    echo "$want" > "$stamp"
  fi
  rm -rf "$pages" build/site
  mkdir -p "$pages/notebooks" "$pages/paper" "$pages/cmssw"
  cp docs/index.md README.md DATA.md CLUSTER.md CITATION.cff LICENSE "$pages"
  cp -r figures "$pages"
  cp notebooks/*.ipynb "$pages/notebooks"
  cp paper/main.pdf "$pages/paper"
  cp cmssw/README.md "$pages/cmssw"
  quietly "$venv/bin/python" -m sphinx -q -c docs "$pages" build/site || fail "Sphinx failed (see above)"
  echo "site: build/site/index.html"
}

SETUP="" SITE="" TESTS="" SUBMISSION="" PASS=()
while [ $# -gt 0 ]; do
  case "$1" in
    -h|--help) usage; exit 0 ;;
    --setup) SETUP=1 ;;
    --site) SITE=1 ;;
    --tests) TESTS=1; shift; PASS=("$@"); break ;;
    --submission|--submission=*) SUBMISSION=1; PASS+=("$1") ;;
    *) PASS+=("$1") ;;
  esac
  shift
done

[ -z "$SITE" ] || { make_site; exit 0; }
mkdir -p build
# Two at once do not make one environment: the second waits, where the system can.
exec 9>build/.setup.lock
! command -v flock >/dev/null || flock 9
choose_environment
exec 9>&-
# Nothing is written outside the repository, and no settings of the user leak in.
export PYTHONNOUSERSITE=1 JUPYTER_PREFER_ENV_PATH=1
# With glibc: keep freed memory in the process instead of giving it back after each tensor. Fetching it
# again, page by page, is a sixth of the time of a small model's step on a CPU (mallopt(3)).
export MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=2147483647 MALLOC_TOP_PAD_=268435456
unset JUPYTER_PATH PYTHONPATH MPLBACKEND
STATE=${JETS_HOME:-$PWD}/build/.state
export MPLCONFIGDIR=$STATE/matplotlib IPYTHONDIR=$STATE/ipython
export JUPYTER_CONFIG_DIR=$STATE/jupyter JUPYTER_DATA_DIR=$STATE/jupyter JUPYTER_RUNTIME_DIR=$STATE/jupyter/runtime
mkdir -p "$STATE"

[ -z "$TESTS" ] || MPLBACKEND=Agg exec "$PYTHON" -m pytest "${PASS[@]}"
# A wrong option is told before anything is installed.
[ -n "$SETUP" ] || "$PYTHON" -m lib course --check "${PASS[@]}" || exit $?
install_latex
[ -z "$SETUP" ] || exit 0
exec "$PYTHON" -m lib course "${PASS[@]}"
