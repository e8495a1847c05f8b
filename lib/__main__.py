"""The door to the command line: ``python -m lib COMMAND --help``."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (what comes next would not even be read)
    sys.exit("python -m lib: needs Python 3.11 or newer, and this is {}.{}: run ./run_all.sh "
             "--setup, then .venv/bin/python -m lib".format(*sys.version_info))

if __name__ == "__main__":
    from course.commands import main  # the only place where lib looks up: the name is fixed

    sys.exit(main())
