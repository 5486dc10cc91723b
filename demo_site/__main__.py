"""`python -m demo_site` (or `make demo`): the demo, set up and running in one command."""

from __future__ import annotations

import argparse
import os
import sys

from demo_site.processes import DemoFailed, Stopped, StopRequests


def main() -> int:
    """Set up, run until Ctrl-C (or once), and return the exit code."""
    stop = StopRequests()  # first, so that an early Ctrl-C is no traceback either
    parser = argparse.ArgumentParser(prog="python -m demo_site", description=__doc__)
    parser.add_argument("--once", action="store_true", help="run the weekly function, and exit")
    parser.add_argument("--port", type=int, default=8000, help="of the web server, if it is free")
    options = parser.parse_args()

    # Not setdefault: a shell may have that of another project.
    os.environ["DJANGO_SETTINGS_MODULE"] = "demo_site.settings"
    import django

    django.setup()
    from demo_site import run

    try:
        return run.once(stop) if options.once else run.stay(stop, options.port)
    except Stopped:
        print("Stopped.", flush=True)
        return 1 if options.once else 0
    except DemoFailed as failure:
        print(f"The demo failed. {failure}", flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
