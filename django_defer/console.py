"""Log lines for the person who started a command, where the project configured none."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

LEVELS: Final = {0: logging.ERROR, 1: logging.INFO, 2: logging.DEBUG, 3: logging.DEBUG}


def log_to_console(verbosity: int, stream: Any = None) -> None:
    """Show our log lines at the level that `--verbosity` asks for.

    Handlers that the project configured for `django_defer` or the root logger are used as they
    are; only where there are none is one added.
    """
    logger = logging.getLogger("django_defer")
    logger.setLevel(LEVELS.get(verbosity, logging.INFO))
    if not logger.hasHandlers():
        handler = logging.StreamHandler(getattr(stream, "_out", None) or sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
        logger.addHandler(handler)
