"""`python -m tintype` is the command line."""

import sys

from tintype.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
