"""The door to the command line: ``python -m lib COMMAND --help``."""

import sys

if __name__ == "__main__":
    from course.commands import main  # the only place where lib looks up: the name is fixed

    sys.exit(main())
