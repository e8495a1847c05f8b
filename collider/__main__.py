"""``python -m collider fit``: see `collider.fit`."""

import sys

from collider.fit import main
from lib.files import DataError

if __name__ == "__main__":
    try:
        sys.exit(main())
    except DataError as error:
        sys.exit(f"python -m collider: {error}")
