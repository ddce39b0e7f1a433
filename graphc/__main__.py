"""`python -m graphc` is the command `graphc`. Layer 7."""

import sys

from graphc.tools.cli import main

sys.exit(main())
