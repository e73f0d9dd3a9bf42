"""What an evaluation is doing, for whoever listens: log records and seconds by stage."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

log = logging.getLogger("memgen_eval")


@dataclass(frozen=True)
class Stages:
    """Seconds that each stage took, in the order in which they began."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is inside; tell the log that it begins (the record carries `stage`), and how long it took."""
        log.info("%s", name, extra={"stage": name})
        start = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + taken
            log.debug("%s: %.3f seconds", name, taken)


def report_progress(done: int, total: int) -> None:
    """Tell the log how far the present stage is (the record carries `done` and `total`)."""
    log.info("%d of %d", done, total, extra={"done": done, "total": total})
