#!/usr/bin/env bash
# The same environment as run_all.sh, then pytest; arguments go to pytest.
exec "$(dirname "${BASH_SOURCE[0]}")/run_all.sh" --tests "$@"
