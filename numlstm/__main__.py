"""The command line as ``python -m numlstm``."""

import sys

from .cli import main

sys.exit(main())
