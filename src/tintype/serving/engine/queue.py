"""The queue before the engine: first come, first served, bounded by number, by cost and by who asks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from tintype.serving.engine.job import Work
from tintype.serving.settings import Settings


class Refused(Exception):
    """There is no room for a request now.

    Args:
        reason: queue, cost, key, starting, stopping or dead.
        retry_after: seconds until there may be.
    """

    def __init__(self, reason: str, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


class Queue:
    """Works that wait. Not safe for threads by itself: the engine holds its lock.

    Args:
        max_cost: of all works that wait, see `cost_of`; a work alone may cost more.
    """

    def __init__(self, settings: Settings, max_cost: float) -> None:
        self._settings = settings
        self._max_cost = max_cost
        self._works: deque[Work] = deque()

    def __len__(self) -> int:
        return len(self._works)

    def __iter__(self) -> Iterator[Work]:
        return iter(self._works)

    def put(self, work: Work, running: Sequence[Work], retry_after: float) -> None:
        """Add a work at the end. Raises Refused."""
        settings = self._settings
        if len(self._works) >= settings.max_waiting:
            raise Refused("queue", f"{len(self._works)} requests are waiting already", retry_after)
        if self._works and work.task.cost + sum(other.task.cost for other in self._works) > self._max_cost:
            raise Refused("cost", "what waits already is as much work as the queue may hold", retry_after)
        mine = sum(other.owner == work.owner for other in (*self._works, *running))
        if settings.api_keys and mine >= settings.max_open_per_key:
            raise Refused("key", f"this key has {mine} requests open already", retry_after)
        self._works.append(work)

    def first(self) -> Work | None:
        """The one that has waited longest; it stays."""
        return self._works[0] if self._works else None

    def remove(self, work: Work) -> bool:
        """Take a work out; False if it does not wait."""
        if work not in self._works:
            return False
        self._works.remove(work)
        return True

    def late(self, now: float) -> list[Work]:
        """Take out those whose deadline has passed."""
        late = [work for work in self._works if work.deadline <= now]
        for work in late:
            self._works.remove(work)
        return late

    def clear(self) -> list[Work]:
        """Take out all."""
        works, self._works = list(self._works), deque()
        return works
