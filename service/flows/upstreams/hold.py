"""Pause, drain and resume an upstream. Every process reads it with its next round of submissions."""

from service.flows.context import Context, log
from service.store import held as held_store
from service.store.held import Held, Mode


async def hold(context: Context, name: str, mode: Mode, *, by: str) -> Held:
    """Submit no task to an upstream until it is resumed. Its open tasks go on, and are polled.

    :param by: the client whose key does it
    :raises StoreUnavailable: when the database is out of reach
    """
    held = Held(name=name, mode=mode, by=by, since=context.now())
    await context.writers.requests.run(held_store.hold, held)
    log.warning("upstream held upstream=%s mode=%s by=%s", name, mode, by)
    context.signals.wake("submit")
    return held


async def resume(context: Context, name: str, *, by: str) -> None:
    """Submit tasks to an upstream again: first those that wait for it.

    :param by: the client whose key does it
    :raises StoreUnavailable: when the database is out of reach
    """
    await context.writers.requests.run(held_store.release, name)
    log.warning("upstream resumed upstream=%s by=%s", name, by)
    context.signals.wake("submit")
