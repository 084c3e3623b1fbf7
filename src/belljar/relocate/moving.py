"""Carrying out a plan, so that nothing is lost whatever happens, and taking it back.

All is checked first: the old bytes at every place, room, permissions, what cannot be kept. Then the journal
is written, then the steps are done in batches: the new inodes of a batch are staged by several threads,
brought to the disk together (`sync -f`, syncfs(2)), renamed over the old ones.

What a crash leaves: each file wholly old or wholly new, a journal that says `applying`, and staged files
under names that the journal knows. `resume` does the rest, `undo` goes back; both look at the bytes of
each file, so they may be killed and run again themselves. An error on the way (a full disk) goes back by
itself; an interrupt leaves all as it is. After a power cut the same holds where the filesystem keeps the
order of renames (ext4, xfs, btrfs).

Read-only directories are opened for us (u+w) while names in them change; they get their mode and times back.
A hard link from outside the tree keeps the old file: it is said, and that file is never written.
"""

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from belljar import proc
from belljar.errors import BelljarError, HostError, InputError, IntegrityError
from belljar.relocate import journal
from belljar.relocate.change import Plan
from belljar.relocate.journal import Journal, Phase, Record
from belljar.relocate.prepare import prepare
from belljar.relocate.root import Root, opened, trouble
from belljar.relocate.steps import Stamp, State, Step, sweep
from belljar.types import Event, Progress, quiet

BATCH = 1 << 30
"""How many bytes are staged before they are renamed, at most, unless one file is larger."""
_BATCH_STEPS = 4096
WORKERS = 4
"""Threads that stage files; they wait for the kernel most of the time."""

Numbered = tuple[int, Step]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What was done to `tree`: how many steps changed something, and what a user should know."""

    tree: Path
    changed: int = 0
    notes: tuple[str, ...] = ()


def apply(plan: Plan, *, output: Path | None = None, progress: Progress = quiet) -> Applied:
    """Do what a plan says, in place or, with `output`, on a copy; a relocation that was begun is completed.

    Raises InputError when the plan has refusals, or another relocation was begun and not finished;
    IntegrityError when the tree is not what was planned for; HostError when it cannot be written. Nothing
    has changed then, or the message says otherwise.
    """
    if output is None and (done := _completed(plan, progress)) is not None:
        return done
    if plan.refusals:
        listing = "\n".join(f"  {refusal.describe()}" for refusal in plan.refusals[:20])
        raise InputError(f"{plan.tree}: cannot be relocated; {len(plan.refusals)} refusals:\n{listing}")
    if output is not None:
        from belljar.relocate.output import copy

        record = copy(plan, output, progress)
        return Applied(tree=output, changed=len(record.steps), notes=record.notes)
    if not plan.changes:
        return Applied(tree=plan.tree, notes=tuple(plan.notes))
    return carry_out(plan, progress=progress)


def _completed(plan: Plan, progress: Progress) -> Applied | None:
    """Complete an unfinished relocation that went the same way; None when there is none.

    Asked before the plan is judged: made from a tree that is half moved, it may be empty, or refuse.
    """
    with opened(plan.tree) as root, journal.reading(root) as book:
        top = book.top() if book is not None else None
        if book is None or top is None or top[1] != Phase.APPLYING:
            return None
        if book.read(*top).moves != tuple(plan.moves):
            return None
    return resume(plan.tree, progress=progress)


def carry_out(plan: Plan, *, keep: bool = True, progress: Progress = quiet) -> Applied:
    """Change a tree in place; without `keep`, no record stays once that is done."""
    with opened(plan.tree) as root, journal.locked(root) as book:
        top = book.top()
        if top is not None and top[1] != Phase.APPLIED:
            return _continue_same(book, plan, *top, keep, progress)
        record = prepare(root, plan)
        if not record.steps:
            return Applied(tree=plan.tree, notes=record.notes)
        record = replace(record, directories={"": book.home, **record.directories})
        number = book.begin(record)
        with _going_back(book, number):
            _open_up(book, record, sweeping=False)
            _work(root, record, list(enumerate(record.steps)), progress)
            _close(book, record)
            _end(book, number, keep=keep)
        return Applied(tree=plan.tree, changed=len(record.steps), notes=record.notes)


def resume(tree: Path, *, keep: bool = True, progress: Progress = quiet) -> Applied:
    """Complete what was begun on a tree and not finished, be it applying or undoing; else do nothing.

    Without `keep`, no record stays once that is done.

    Raises IntegrityError when somebody else changed a file meanwhile.
    """
    with opened(tree) as root:
        with journal.reading(root) as there:
            if there is None or ((top := there.top()) and top[1] == Phase.APPLIED):
                return Applied(tree=tree)
        with journal.locked(root) as book:
            top = book.top()
            return _resume(book, *top, keep, progress) if top else Applied(tree=tree)


def undo(tree: Path, *, progress: Progress = quiet) -> Applied:
    """Take the latest relocation of a tree back: every byte, mode, time and link as before.

    Raises InputError when there is none, IntegrityError, with nothing changed, when a file is neither what
    it was nor what it became.
    """
    with opened(tree) as root:
        with journal.reading(root) as there:
            if there is None or there.top() is None:
                raise InputError(f"{tree}: nothing to undo: it holds no record of a relocation")
        with journal.locked(root) as book:
            if (top := book.top()) is None:
                raise InputError(f"{tree}: nothing to undo: another process did")
            return _undo(book, *top, progress)


def _resume(book: Journal, number: int, phase: Phase, keep: bool, progress: Progress) -> Applied:
    if phase == Phase.UNDOING:
        return _undo(book, number, phase, progress)
    record = book.read(number, phase)
    waiting = _survey(book.root, record.steps)
    if phase == Phase.APPLYING:
        _open_up(book, record)
        _work(book.root, record, waiting, progress)
        _close(book, record)
        _end(book, number, keep=keep)
    return Applied(tree=book.root.path, changed=len(waiting), notes=record.notes)


def _undo(book: Journal, number: int, phase: Phase, progress: Progress) -> Applied:
    record = book.read(number, phase)
    waiting = _survey(book.root, [step.inverse for step in record.steps])
    book.turn(number, phase, Phase.UNDOING)
    _open_up(book, record, sweeping=phase != Phase.APPLIED)
    _work(book.root, record, waiting, progress)
    _close(book, record)
    book.forget(number, Phase.UNDOING)
    return Applied(tree=book.root.path, changed=len(waiting))


def _end(book: Journal, number: int, *, keep: bool) -> None:
    if keep:
        book.turn(number, Phase.APPLYING, Phase.APPLIED)
    else:
        book.forget(number, Phase.APPLYING)


def _continue_same(
    book: Journal, plan: Plan, number: int, phase: Phase, keep: bool, progress: Progress
) -> Applied:
    """Complete an unfinished relocation that went the same way; refuse another one on top of it."""
    if phase == Phase.APPLYING and book.read(number, phase).moves == tuple(plan.moves):
        return _resume(book, number, phase, keep, progress)
    raise InputError(
        f"{plan.tree}: an earlier relocation was begun and not finished",
        hint="complete it (--resume) or go back (--undo) first",
    )


@contextlib.contextmanager
def _going_back(book: Journal, number: int) -> Iterator[None]:
    """Undo what was done when an error comes up."""
    try:
        yield
    except (OSError, BelljarError) as error:
        failure = trouble(error, book.root.path) if isinstance(error, OSError) else error
        try:
            _undo(book, number, Phase.APPLYING, quiet)
        except (OSError, BelljarError):
            raise HostError(
                f"{failure.message}; the relocation stopped half-way, each file is wholly old or wholly new",
                hint="mend that, then complete it (--resume) or go back (--undo)",
            ) from error
        failure.message += "; the tree is as it was"
        failure.args = (failure.message,)
        raise failure from error


def _survey(root: Root, steps: Sequence[Step]) -> list[Numbered]:
    """Return the steps that are still to be done, with their numbers.

    Raises IntegrityError when a file is neither old nor new.
    """
    waiting, others = [], []
    for index, step in enumerate(steps):
        match step.state(root):
            case State.OTHER:
                others.append(step.names[0])
            case State.OLD | State.PART:
                waiting.append((index, step))
            case State.NEW:
                pass
    if others:
        raise IntegrityError(
            f"{root.path}: changed by somebody else: {', '.join(others[:5])}"
            f"{f' and {len(others) - 5} more' if len(others) > 5 else ''}",
            hint="--check names all of them: put them back as they were, or take the tree from where it came",
        )
    return waiting


def _open_up(book: Journal, record: Record, *, sweeping: bool = True) -> None:
    """Let us write in the directories; remove what a killed run staged in them."""
    book.home = record.directories.get("", book.home)
    for path, before in record.directories.items():
        if not book.root.is_writable(path):
            book.root.set_directory(path, before.mode | stat.S_IWUSR | stat.S_IXUSR)
    if sweeping:
        for index, step in enumerate(record.steps):
            sweep(book.root, step, record.temp(index))


def _close(book: Journal, record: Record) -> None:
    """Give directories their modes and times back; the tree's own gets them last (journal.locked)."""
    for path, before in record.directories.items():
        if path:
            book.root.set_directory(path, before.mode, before.times)


def _work(root: Root, record: Record, waiting: Sequence[Numbered], progress: Progress) -> None:
    """Do steps, in batches."""
    done, lock = 0, threading.Lock()

    def commit(own: Root, item: Numbered) -> None:
        nonlocal done
        index, step = item
        step.commit(own, record.temp(index), seen.get(index))
        with lock:  # whoever shows progress knows of no threads
            done += 1
            progress(Event(stage="relocate", subject=step.names[0], done=done, total=len(waiting)))

    for batch in _batches(root, waiting):
        seen = _stage(root, record, batch)
        _flush(root)
        _in_parallel(root, batch, commit)
    if waiting:
        _flush(root)


def _batches(root: Root, waiting: Sequence[Numbered]) -> Iterator[list[Numbered]]:
    """Group steps whose new files find room together. Raises HostError when one of them does not alone."""
    batch: list[Numbered] = []
    taken, free, limit = 0, 0, 0
    for index, step in waiting:
        size = step.room(root)
        if not batch or taken + size > limit or len(batch) == _BATCH_STEPS:
            if batch:
                yield batch
            free = free_space(root)
            batch, taken, limit = [], 0, min(BATCH, free * 3 // 4)
        if size > free:
            raise HostError(
                f"{root.path}: {step.names[0]}: no room for its new copy:"
                f" {size:,} bytes are needed, {free:,} are free",
                hint="free some space there",
            )
        batch.append((index, step))
        taken += size
    if batch:
        yield batch


def free_space(root: Root) -> int:
    """Return how many bytes we may write on the tree's filesystem."""
    info = os.fstatvfs(root.fd)
    return (info.f_bfree if os.geteuid() == 0 else info.f_bavail) * info.f_frsize


def _stage(root: Root, record: Record, batch: Sequence[Numbered]) -> dict[int, Stamp | None]:
    """Make the new files of a batch; return what the old ones were like, by the numbers of the steps."""
    seen = {}

    def stage(own: Root, item: Numbered) -> None:
        index, step = item
        seen[index] = step.stage(own, record.temp(index))

    _in_parallel(root, batch, stage)
    return seen


def _in_parallel(root: Root, items: Iterable[_T], work: Callable[[Root, _T], None]) -> None:
    """Do `work` for each item, by several threads with directories of their own; none after an error."""
    waiting, stop = iter(items), threading.Event()

    def worker() -> None:
        with root.apart() as own:
            for item in waiting:
                if stop.is_set():
                    return
                work(own, item)

    with ThreadPoolExecutor(WORKERS) as pool:
        tasks = [pool.submit(worker) for _ in range(WORKERS)]
        try:
            for task in tasks:
                task.result()
        finally:
            stop.set()


def _flush(root: Root) -> None:
    """Bring what was staged to the disk: of this filesystem only, where the machine has a way to say so."""
    if proc.find("sync") is None or proc.run(["sync", "-f", "--", root.path]).status:
        os.sync()
