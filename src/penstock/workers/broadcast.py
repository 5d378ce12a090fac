"""``pool.broadcast``: one call on every worker that is up."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

from penstock.call import Call, enter_call, leave_call
from penstock.errors import PolicyError, WorkerDiedError
from penstock.workers.direct import Direct
from penstock.workers.run import Run
from penstock.workers.slot import Slot, SlotState
from penstock.workers.target import Target

__all__ = ["broadcast"]

_numbers = count(1)


async def broadcast(
    run: Run, target: Target, given: tuple[tuple[Any, ...], dict[str, Any]], *, keep: bool
) -> list[Any]:
    """Call a method of every worker that is up, each when the calls that it serves have ended.

    Args:
        run: Whose workers.
        target: The method.
        given: Its arguments.
        keep: Whether a failure takes its worker's place among the results.

    Returns:
        The results in the order of the workers' places.

    Raises:
        PolicyError: A job of the pool has called it, which would wait for itself.
        BaseException: The first failure, when all others have ended, too.
    """
    run.dispatcher.check()
    own = asyncio.current_task()
    if any(piece.task is own for piece in run.dispatcher.active):
        name = run.options.name
        raise PolicyError(f"pool '{name}': broadcast waits for all workers, and a job called it")
    reason = f"broadcast {next(_numbers)}"
    slots = [slot for slot in run.slots.values() if slot.state is SlotState.UP]
    slots.sort(key=lambda slot: slot.index)
    outcomes = await asyncio.gather(
        *(_on(run, slot, target, given, reason) for slot in slots), return_exceptions=True
    )
    if not keep:
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
    return outcomes


async def _on(
    run: Run,
    slot: Slot,
    target: Target,
    given: tuple[tuple[Any, ...], dict[str, Any]],
    reason: str,
) -> Any:
    args, kwargs = given
    # It takes no new calls meanwhile: a worker is never given more than it is written for.
    run.workers.withdraw(slot.id, reason)
    direct = Direct(run.dispatcher, target, args, kwargs)
    direct.served = True
    token = enter_call(Call(run.ways.default.context, direct, args, kwargs))
    try:
        await slot.wait_until_idle()
        if slot.state is not SlotState.UP:
            raise WorkerDiedError(f"{slot.id} was not up any more when the broadcast reached it")
        run.dispatcher.active.add(direct)
        return await slot.serve(target, args, kwargs)
    except asyncio.CancelledError:
        if direct.was_killed() and run.dispatcher.refusal is not None:
            raise run.dispatcher.refusal() from None
        raise
    finally:
        leave_call(token)
        run.dispatcher.active.discard(direct)
        if slot.id in run.slots:
            run.workers.restore(slot.id, reason)
        run.dispatcher.pump()
        run.dispatcher.look_whether_idle()
