"""``python -m loadgen`` is the command ``loadgen``."""

import sys

from loadgen.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
