"""`python -m tests.benchmarks`: measure each topic, print its table, write all figures as JSON."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.benchmarks import (
    admin,
    big_tables,
    bloat,
    claiming,
    enqueueing,
    idling,
    latency,
    memory,
    on_sqlite,
    pruning,
    recovery,
    scaling,
    schedules,
    startup,
    throughput,
)
from tests.benchmarks.arena import Arena
from tests.benchmarks.facts import facts
from tests.benchmarks.report import Report

TOPICS: Final[dict[str, Callable[[Arena], Report]]] = {
    "throughput": throughput.measure,
    "sqlite": on_sqlite.measure,
    "latency": latency.measure,
    "enqueueing": enqueueing.measure,
    "schedules": schedules.measure,
    "recovery": recovery.measure,
    "bloat": bloat.measure,
    "claiming": claiming.measure,
    "big_tables": big_tables.measure,
    "scaling": scaling.measure,
    "pruning": pruning.measure,
    "admin": admin.measure,
    "idling": idling.measure,
    "startup": startup.measure,
    "memory": memory.measure,
}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"of {', '.join(TOPICS)}")
    parser.add_argument("--quick", action="store_true", help="one round, few rows: does it work?")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds (3; 1 when quick)")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), metavar="FILE")
    options = parser.parse_args(arguments)
    if unknown := set(options.topics) - set(TOPICS):
        parser.error(f"unknown topic {', '.join(unknown)}; there are {', '.join(TOPICS)}")
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write. The exit code says whether it ran, not how fast."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    with Arena(rounds=options.rounds, quick=options.quick) as arena:
        results: dict[str, Any] = {"facts": facts(arena.server), "rounds": options.rounds}
        print(", ".join(f"{name}: {value}" for name, value in results["facts"].items()))
        for name in options.topics or TOPICS:
            report = TOPICS[name](arena)
            results[name] = report.as_data()
            print(f"\n{report}", flush=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\nAll figures: {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
