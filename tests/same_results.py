"""Compare every number of the published results with those of a commit; no test by itself.

usage: python tests/same_results.py [COMMIT (e44b1ef)] [names of runs to leave out (resnet15)]
Times are left out. The exit code is 1 where something differs.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIMES = {"train_seconds", "minutes", "total_minutes", "memory_gb", "timed", "sources", "images_s",
         "seconds"}


def flat(value, where):
    """(path, number or text) of everything below a JSON value."""
    if isinstance(value, dict):
        for key, below in value.items():
            if key not in TIMES:
                yield from flat(below, f"{where}/{key}")
    elif isinstance(value, list):
        for number, below in enumerate(value):
            yield from flat(below, f"{where}/{number}")
    else:
        yield where, value


def numbers(text, ignored):
    """{path: number or text} of a results file, without the runs that are ignored."""
    found = json.loads(text)
    parts = {"runs": {f"{r['name']}.{r['seed']}": r for r in found["runs"]},
             "comparisons": {f"{r['a']}-{r['b']}/{r['metric']}": r for r in found["comparisons"]},
             **{part: found[part] for part in ("summary", "values", "curves")}}
    return {path: value for path, value in flat(parts, found["experiment"])
            if not any(name in path for name in ignored)}


def main(commit="e44b1ef", *ignored):
    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True,
                              check=True).stdout

    count = differ = 0
    for name in git("ls-tree", "--name-only", commit, "results/laptop-simulated/").split():
        if name.endswith(".json"):
            before, now = (numbers(text, ignored or ("resnet15",))
                           for text in (git("show", f"{commit}:{name}"), (ROOT / name).read_text()))
            count += len(before)
            for path in before:
                if path not in now or now[path] != before[path]:
                    differ += 1
                    print(path, before[path], "now", now.get(path, "missing"))
    print(f"{count} numbers and texts compared, {differ} differ")
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
