"""The memory by which workers hand log lines and progress to the supervisor."""

from __future__ import annotations

import os
import signal
import time
from uuid import UUID, uuid4

import pytest

from django_defer.spool import Line, Spool, Step, pack_line, pack_step

RUN = UUID(int=7)


def line(number: int, message: str = "hello", **facts: object) -> Line:
    values: dict[str, object] = {
        "run_id": RUN,
        "attempt": 1,
        "level": 20,
        "at": 5,
        "logger": "shop",
    }
    return Line(**{**values, **facts}, number=number, message=message)  # type: ignore[arg-type]


def say(spool: Spool, *numbers: int, keep: bool = True, message: str = "hello") -> None:
    for number in numbers:
        spool.put(pack_line(line(number, message)), keep=keep)


def numbers(lines: list[Line]) -> list[int]:
    return [line.number for line in lines]


def test_what_is_put_is_taken_once_and_as_it_was() -> None:
    spool = Spool()
    said = line(1, "Grüße \u2028 \x00 \udcff", run_id=uuid4(), attempt=3, level=25, logger="größe")
    spool.put(pack_line(said), keep=True)
    step = Step(RUN, 2, 10, None, 1_700_000_000_000_000, "sending")
    spool.put(pack_step(step), keep=True)
    taken = spool.take()
    assert taken.kept == [said._replace(message="Grüße \u2028 \x00 \\udcff")]
    assert taken.steps == [step]
    assert spool.take() == ([], [], [])


def test_levels_that_no_column_holds_become_the_nearest() -> None:
    spool = Spool()
    spool.put(pack_line(line(1, level=10**6)), keep=True)
    assert spool.take().kept[0].level == 32767


def test_what_is_kept_survives_and_what_has_no_room_joins_the_latest() -> None:
    spool = Spool(kept_bytes=1024, latest_bytes=1024)
    say(spool, *range(1, 101))
    taken = spool.take()
    kept, latest = numbers(taken.kept), numbers(taken.latest)
    assert kept == list(range(1, len(kept) + 1))
    assert latest == list(range(latest[0], 101))
    assert 5 < len(kept) < latest[0]
    say(spool, 101)  # there is room again
    assert numbers(spool.take().kept) == [101]


def test_of_what_is_not_kept_the_latest_survives_any_flood() -> None:
    spool = Spool(latest_bytes=1000)
    for round_ in range(50):  # the ring's edge falls everywhere
        say(spool, *range(round_ * 100, round_ * 100 + 100), keep=False, message="x" * round_)
        latest = numbers(spool.take().latest)
        assert latest == list(range(latest[0], round_ * 100 + 100))
        assert len(latest) >= 5


def test_records_across_the_edge_of_a_ring_are_whole() -> None:
    spool = Spool(kept_bytes=300)
    for number in range(500):
        say(spool, number, message=f"message {number}")
        (taken,) = spool.take().kept
        assert taken == line(number, f"message {number}")


def test_a_record_larger_than_the_rings_is_dropped_and_does_no_harm() -> None:
    spool = Spool(kept_bytes=512, latest_bytes=512)
    say(spool, 1, message="x" * 1000)
    say(spool, 2)
    assert numbers(spool.take().kept) == [2]


def test_a_reader_that_meets_half_a_record_looks_again_and_then_goes_on_behind_it() -> None:
    spool = Spool()
    say(spool, 1, 2)
    place = len(pack_line(line(1))) + 8 + 20  # somewhere in the second
    whole = spool._kept._data[place]
    spool._kept._data[place] = whole ^ 0xFF
    assert numbers(spool.take().kept) == [1]
    spool._kept._data[place] = whole  # its bytes have arrived
    assert numbers(spool.take().kept) == [2]
    say(spool, 3, 4)
    spool._kept._data[spool._kept._head[1] + 20] ^= 0xFF  # in the first of what is there
    assert numbers(spool.take().kept) == []
    say(spool, 5)
    assert numbers(spool.take().kept) == []  # seen broken twice: left behind
    say(spool, 6)
    assert numbers(spool.take().kept) == [6]


def test_the_progress_shown_last_is_taken_once() -> None:
    spool = Spool()
    assert spool.take().steps == []
    for done in (1, 2, 3):
        spool.show(pack_step(Step(RUN, 1, done, 300, 9, "x" * (4 - done))))
    assert spool.take().steps == [Step(RUN, 1, 3, 300, 9, "x")]
    assert spool.take().steps == []


def test_progress_whose_writer_died_writing_is_left_out_until_there_is_another() -> None:
    spool = Spool()
    spool._sequence[0] = 1
    assert spool.take().steps == []
    step = Step(RUN, 1, 4, None, 9, "")
    spool.show(pack_step(step))
    assert spool.take().steps == [step]


@pytest.mark.parametrize("keep", [True, False])
def test_lines_of_a_process_that_is_killed_are_there_and_its_successor_goes_on(keep: bool) -> None:
    spool = Spool()
    child = os.fork()
    if not child:
        number = 0
        while True:
            number += 1
            spool.put(pack_line(line(number)), keep=keep)
    until = time.monotonic() + 20
    while not spool._latest._head[0] + spool._kept._head[0] > 10_000:
        assert time.monotonic() < until
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    taken = spool.take()
    found = numbers(taken.kept if keep else taken.latest)
    assert len(found) > 50
    assert found == list(range(found[0], found[-1] + 1))
    say(spool, 0, keep=keep)
    after = spool.take()
    assert numbers(after.kept + after.latest) == [0]


@pytest.mark.parametrize("keep", [True, False])
def test_a_reader_beside_a_writer_takes_whole_records_in_order(keep: bool) -> None:
    spool = Spool(kept_bytes=4096, latest_bytes=4096)
    last = 30_000
    child = os.fork()
    if not child:
        for number in range(1, last + 1):
            record = pack_line(line(number, str(number) * (number % 9)))
            if keep:
                while not spool._kept.put(record, overwrite=False):
                    pass
            else:
                spool._latest.put(record, overwrite=True)
        os._exit(0)
    seen: list[int] = []
    until = time.monotonic() + 60
    while not seen or seen[-1] < last:
        assert time.monotonic() < until
        taken = spool.take()
        for each in taken.kept if keep else taken.latest:
            assert each.message == str(each.number) * (each.number % 9)
            seen.append(each.number)
    os.waitpid(child, 0)
    assert seen == sorted(set(seen))
    if keep:
        assert len(seen) == last
