"""`python -m convgate` is the command `convgate`."""

import sys

from convgate.cli import main

if __name__ == "__main__":
    sys.exit(main())
