"""One function over many items, several at once, the results in order: by threads, or by other processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Item_contra = TypeVar("Item_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)


class Job(Protocol[Item_contra, Result_co]):
    """What is done with each item; a small value, for it may be sent to other processes."""

    def __call__(self, item: Item_contra, /) -> Result_co:
        """Do it with one item; called from several threads at once."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """Of a file system, which whoever does it has to see."""


class Spread(Protocol):
    """Who does the work: `in_threads` of this process, or `on_cluster`."""

    @property
    def sends(self) -> bool:
        """Whether jobs and items go to other processes, so that both must be small and have to be pickled."""

    def __call__(self, job: Job[Item, Result], items: Iterable[Item]) -> Generator[Result]:
        """What `job` gives for each item, in the order of the items.

        A few items are begun ahead of what was asked for, no more, so that results do not pile up. An error is raised
        at the place of its item; what was not begun by then never is. Close it where its end is not waited for.
        """


@dataclass(frozen=True, slots=True)
class _Threads:
    workers: int

    @property
    def sends(self) -> bool:
        return False

    def __call__(self, job: Job[Item, Result], items: Iterable[Item]) -> Generator[Result]:
        if self.workers == 1:
            yield from map(job, items)
            return
        running: deque[Future[Result]] = deque()
        with ThreadPoolExecutor(self.workers, thread_name_prefix="spread") as pool:
            try:
                for item in items:
                    running.append(pool.submit(job, item))
                    if len(running) > self.workers:
                        yield running.popleft().result()
                while running:
                    yield running.popleft().result()
            finally:
                for future in running:
                    future.cancel()


def in_threads(workers: int = 1) -> Spread:
    """By so many threads of this process; one is the thread that asks, one item when the next result is wanted."""
    return _Threads(workers)
