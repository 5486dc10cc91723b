"""Has each peer measured in turns, and makes the tables of what was found."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import Any, Final

from tests.benchmarks.arena import Arena
from tests.benchmarks.peers.lineup import LINEUP, WORKERS, Peer, Place
from tests.benchmarks.peers.redis_server import Redis
from tests.benchmarks.processes import process
from tests.benchmarks.report import Report, Target, median, percentile, ratio, spread
from tests.benchmarks.throughput import WARM_UP

OURS: Final = LINEUP[0]
QUICK_SHARE: Final = 5
RUNS: Final = 200
QUICK_RUNS: Final = 60
LOG: Final = 3000  # bytes of it that are shown


@dataclass
class SideBySide:
    """The peers on one arena. Who can't be measured gets a row that says why."""

    arena: Arena
    redis: Redis | None
    peers: list[Peer]
    trouble: dict[str, str] = field(default_factory=dict)
    failures: int = 0
    places: dict[str, Place] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for peer in self.peers:
            if reason := peer.missing(has_redis=self.redis is not None):
                self.trouble[peer.name] = reason

    @property
    def present(self) -> list[Peer]:
        """Those that had no trouble so far."""
        return [peer for peer in self.peers if peer.name not in self.trouble]

    def throughput(self) -> Report:
        """Drain the queue of each."""
        rows = {
            peer.name: peer.rows // QUICK_SHARE if self.arena.quick else peer.rows
            for peer in self.peers
        }
        rates: dict[str, list[float]] = {peer.name: [] for peer in self.peers}
        for peer in self.arena.in_turns(self.present):
            if (rate := self._ask(peer, "drain", rows[peer.name])) is not None:
                rates[peer.name].append(rate)
        report = Report(
            name="throughput",
            title=f"Draining no-op runs, {WORKERS} workers: finished runs a second",
            columns=["", "durable", "redelivers", "results", "rows", "runs/s", "rounds", "x"],
            notes=[
                "durable: what is queued survives a power cut; redelivers: what a killed worker "
                "was executing is executed again; results: what a run returned can be looked up.",
                "runs/s: the median of the rounds; rounds: their lowest to highest; x: the median "
                "of the rounds' own ratios to django-defer. Counted from outside, from the "
                f"{WARM_UP}th on: finished, or, with huey, taken.",
                *(f"{peer.label}: {peer.settings}." for peer in self.peers),
            ],
            data={"rates": rates, "rows": rows, "trouble": self.trouble},
        )
        for peer in self.peers:
            kept = (peer.label, peer.durable, peer.redelivers, peer.results)
            if peer.name in self.trouble:
                report.add(*kept, "", self.trouble[peer.name], "", "")
                continue
            of_peer = rates[peer.name]
            x = f"{ratio(of_peer, rates[OURS.name]):.2f}"
            report.add(*kept, rows[peer.name], f"{median(of_peer):.0f}", spread(of_peer), x)
        self._compare(report, {name: median(rate) for name, rate in rates.items() if rate}, rates)
        return report

    def latency(self) -> Report:
        """Enqueue now and then at each; the rounds' figures are put together."""
        runs = QUICK_RUNS if self.arena.quick else RUNS
        seeds = {peer.name: 0 for peer in self.peers}
        found: dict[str, list[float]] = {peer.name: [] for peer in self.peers}
        for peer in self.arena.in_turns(self.present):
            found[peer.name] += self._ask(peer, "idle", runs, seeds[peer.name]) or []
            seeds[peer.name] += 1
        report = Report(
            name="latency",
            title=f"From enqueueing to start, idle, {WORKERS} workers: milliseconds",
            columns=["", "p50", "p99", "highest", "p50 x", "p99 x"],
            notes=[
                f"{self.arena.rounds} times {runs} single enqueues, 30 to 120 ms apart, from the "
                "call to the function's first line, host clock; x: times django-defer's.",
            ],
            data={"milliseconds": found, "trouble": self.trouble},
        )
        ours = found[OURS.name]
        for peer in self.peers:
            if peer.name in self.trouble:
                report.add(peer.label, self.trouble[peer.name], "", "", "", "")
                continue
            of_peer = found[peer.name]
            middle, late = percentile(of_peer, 50), percentile(of_peer, 99)
            report.add(
                peer.label,
                *(f"{value:.1f}" for value in (middle, late, max(of_peer))),
                f"{middle / percentile(ours, 50):.2f}",
                f"{late / percentile(ours, 99):.2f}",
            )
        return report

    def _compare(
        self, report: Report, medians: dict[str, float], rates: dict[str, list[float]]
    ) -> None:
        """Say how we stand to the fastest that is durable, and to the fastest of all."""
        others = [peer for peer in self.present if peer is not OURS]
        durable = [peer for peer in others if peer.durable == "yes"]
        for what, peers in {
            "the fastest durable peer": durable,
            "the fastest peer": others,
        }.items():
            if peers:
                fastest = max(peers, key=lambda peer: medians[peer.name])
                times = ratio(rates[OURS.name], rates[fastest.name])
                report.targets.append(Target(f"times {what}, {fastest.label}", times))

    def _ask(self, peer: Peer, *arguments: object) -> Any:
        """Let the referee measure it; None, and a row that says so, if that failed."""
        if peer.name in self.trouble:
            return None
        place = self._place(peer)
        place.stamps.write_bytes(b"")
        answer, log = place.stamps.with_suffix(".json"), place.stamps.with_suffix(".log")
        answer.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.benchmarks.peers.referee", str(answer), peer.name]
        with (
            log.open("wb") as output,
            process([*command, *map(str, arguments)], peer.environment(place), output) as referee,
        ):
            code = referee.wait()
        if code == 0:
            return json.loads(answer.read_text())
        print(f"{peer.label}, {arguments[0]}:\n{log.read_text()[-LOG:]}", file=sys.stderr)
        if peer is OURS:
            raise RuntimeError("django-defer itself could not be measured.")
        self.trouble[peer.name] = "failed, see above"
        self.failures += 1
        return None

    def _place(self, peer: Peer) -> Place:
        """Return where its data are; a database of its own is made when first asked for."""
        if peer.name not in self.places:
            self.places[peer.name] = Place(
                database=self.arena.create_database(f"peer_{peer.name}"),
                stamps=self.arena.directory / f"{peer.name}.stamps",
                file=self.arena.directory / f"{peer.name}.sqlite3",
                redis=self.redis.path if self.redis else None,
            )
        return self.places[peer.name]
