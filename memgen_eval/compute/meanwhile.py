"""Work on a thread of its own, beside what the caller goes on with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Thread
from typing import TypeVar

from memgen_eval.compute.resources import shared_with, single_thread

Done = TypeVar("Done")


@contextmanager
def meanwhile(work: Callable[[], Done]) -> Iterator[Callable[[], Done]]:
    """Do `work` on another thread while what is inside runs; the callable waits for its result, or raises its error.

    An error inside waits for the thread and is raised; an interrupt waits for nothing.
    """
    outcome: Future[Done] = Future()

    def work_there() -> None:
        try:
            with single_thread():
                outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            outcome.set_exception(error)

    thread = Thread(target=work_there, name="meanwhile", daemon=True)
    with shared_with(thread):
        thread.start()
        try:
            yield outcome.result
        except Exception:
            thread.join()
            raise
        thread.join()
