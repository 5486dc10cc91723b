"""How far a function is: `current_run().progress(…)` and `.track(…)`."""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Report = Callable[[int, int | None, str], object]

T = TypeVar("T")

LARGEST: Final = 2**63 - 1  # what a column holds


class Recorder(Protocol):
    """Takes down what an attempt says."""

    def say(self, level: int, logger: str, message: str, at: float) -> None:
        """Take down a line; `at` is in seconds since 1970."""

    def print(self, text: str) -> None:
        """Take down what was printed."""

    def show(self, done: int, total: int | None, message: str) -> None:
        """Show how far the attempt is."""

    def close(self) -> None:
        """Take down what is left when the attempt ends."""


def check_progress(done: Any, total: Any, message: Any) -> None:
    """Raise TypeError or ValueError for what can't be shown."""
    for name, value in (("done", done), ("total", total)):
        if value is None and name == "total":
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"progress({name}=…) takes a whole number, not {value!r}.")
        if not 0 <= value <= LARGEST:
            raise ValueError(f"progress({name}=…) takes a number from 0 up, not {value!r}.")
    if not isinstance(message, str):
        raise TypeError(f"progress(message=…) takes text, not {message!r}.")


def track(items: Iterable[T], total: int | None, message: str, report: Report) -> Iterator[T]:
    """Report 0 now, and one more each time an item is done; pass the items on."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    report(0, total, message)
    return _tracked(items, total, message, report)


def _tracked(items: Iterable[T], total: int | None, message: str, report: Report) -> Iterator[T]:
    for done, item in enumerate(items, start=1):
        yield item
        report(done, total, message)
