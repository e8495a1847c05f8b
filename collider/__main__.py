"""``python -m collider fit``: see `collider.fit`."""

import sys

from collider.fit import main

if __name__ == "__main__":
    sys.exit(main())
