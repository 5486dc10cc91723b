"""`python -m tests.benchmarks.peers`: measure the peers, print the tables, write the figures."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks.arena import Arena
from tests.benchmarks.facts import facts
from tests.benchmarks.peers import redis_server
from tests.benchmarks.peers.lineup import LINEUP
from tests.benchmarks.peers.side_by_side import OURS, SideBySide


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    names = [peer.name for peer in LINEUP if peer is not OURS]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, few rows: does it work?")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds (3; 1 when quick)")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=names,
        default=names,
        metavar="NAME",
        help=f"besides django-defer, of {', '.join(names)}",
    )
    parser.add_argument("--json", type=Path, default=Path("build/bench-peers.json"), metavar="FILE")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write. The exit code says whether all that are there ran."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    peers = [peer for peer in LINEUP if peer is OURS or peer.name in options.only]
    with (
        Arena(rounds=options.rounds, quick=options.quick) as arena,
        redis_server.running(arena.directory) as redis,
    ):
        contest = SideBySide(arena, redis, peers)
        packages = sorted({package for peer in contest.present for package in peer.packages})
        about = facts(arena.server, packages)
        about["Redis"] = redis.version if redis else None
        results: dict[str, Any] = {"facts": about, "rounds": options.rounds}
        print(", ".join(f"{name}: {value}" for name, value in about.items()), flush=True)
        for measure in (contest.throughput, contest.latency):
            report = measure()
            results[report.name] = report.as_data()
            print(f"\n{report}", flush=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\nAll figures: {options.json}")
    return 1 if contest.failures else 0


if __name__ == "__main__":
    sys.exit(main())
