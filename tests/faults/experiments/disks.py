"""Experiments 14 and 15: disks that are full or out of inodes, folders that cannot be written."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pipeline.graph.forecast import CHECKPOINT_BYTES
from pipeline.graph.manifest import FileEntry, damaged_files
from pipeline.graph.stages import NAMES
from pipeline.runtime.files import inodes_left
from tests.faults.experiments.blows import Blow, rows, struck_run
from tests.faults.experiments.launched_folio import LaunchedFolio, done
from tests.faults.experiments.outcome import (
    OTHER,
    REFUSED,
    REFUSED_THEN_RECOVERED,
    WRONG,
    Outcome,
    recovery,
    refused,
    then_recovered,
    unmeasured,
)
from tests.faults.experiments.workshop import (
    Workshop,
    artifact,
    last_step,
    leftovers,
    manifest,
    newest_checkpoint,
    result,
)

BALLAST = "ballast"
ROOM_BYTES = 20_000  # left on a full disk: less than any stage writes
NO_MOUNTS = "mounting a small disk needs root"


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[bool]:
    """Have `folder/store` on a file system of its own for the block; False if this machine does not allow it."""
    store = folder / "store"
    held = folder / "held"
    store.rename(held)
    store.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(store)]
    mounted = os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        if mounted:
            shutil.copytree(held, store, dirs_exist_ok=True)
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(store)], check=True)


def fill(folder: Path, leave: int) -> None:
    """Take all but so many bytes of a disk."""
    free = shutil.disk_usage(folder / "store").free
    (folder / "store" / BALLAST).write_bytes(bytes(max(free - leave, 0)))


def make_room(folder: Path) -> None:
    (folder / "store" / BALLAST).unlink()


def full_disks(shop: Workshop) -> list[Outcome]:
    outcomes = [full_disk_in(shop, stage) for stage in NAMES]
    return [*outcomes, full_at_second_checkpoint(shop), failed_write(shop), *no_inodes(shop)]


def full_disk_in(shop: Workshop, stage: str) -> Outcome:
    """A disk that is full when a stage begins; what was finished stays whole, and with room the stage ends as ever."""
    what = f"disk full in stage {stage}"
    folder = shop.folder(f"full-{stage}", "whole", stages=NAMES[: NAMES.index(stage)])
    with small_disk(folder, "size=48m") as mounted:
        if not mounted:
            return unmeasured(14, what, REFUSED_THEN_RECOVERED, NO_MOUNTS)
        fill(folder, ROOM_BYTES)
        command = f"{stage} {shop.config}"
        row = refused(14, what, done(folder, command), 5, [str(folder), "free"], problems=damage(folder, stage))
        make_room(folder)
        return redone(shop, folder, stage, row)


def redone(shop: Workshop, folder: Path, stage: str, row: Outcome) -> Outcome:
    """The row of a refused stage after the same command, with room now, has to leave what it leaves undisturbed."""
    again = done(folder, f"{stage} {shop.config}")
    problems = [] if again.code == 0 else [f"with room it left with {again.code}: {again.said}"]
    wrong = again.code == 0 and result(folder, stage) != result(shop.root / "whole", stage)
    problems += ["its result is another"] if wrong else []
    problems += [f"left behind: {', '.join(found)}"] if (found := leftovers(folder)) else []
    good = bool(row.met) and not problems
    return replace(
        row,
        expected=REFUSED_THEN_RECOVERED,
        outcome=REFUSED_THEN_RECOVERED if good else WRONG if wrong else row.outcome if not row.met else OTHER,
        met=good,
        orphans=row.orphans + again.orphans,
        leftovers=tuple(found),
        detail="; ".join(filter(None, [row.detail, *problems])),
    )


def damage(folder: Path, stage: str) -> list[str]:
    """What is wrong with the artifacts before a stage."""
    return [
        fault
        for earlier in NAMES[: NAMES.index(stage)]
        for fault in damaged_files(
            artifact(folder, earlier), [FileEntry(**entry) for entry in manifest(folder, earlier)["files"]]
        )
    ]


def full_at_second_checkpoint(shop: Workshop) -> Outcome:
    """Room for one checkpoint and a half: the first one stands, the second one is refused before it is written."""
    what = "disk full at the second checkpoint"
    undisturbed = shop.baseline()
    folder = shop.folder("full-later")
    with small_disk(folder, "size=48m") as mounted:
        if not mounted:
            return unmeasured(14, what, REFUSED_THEN_RECOVERED, NO_MOUNTS)
        needed = CHECKPOINT_BYTES * manifest(undisturbed.folder, "pretrain")["counts"]["parameters"]
        written = sum(path.stat().st_size for path in newest_checkpoint(undisturbed.folder).iterdir())
        fill(folder, written + needed // 2)
        ended = done(folder, shop.pretrain())
        kept = sorted(artifact(folder, "pretrain").glob("checkpoints/step-????????"))
        problems = [] if [path.name for path in kept] == ["step-00000005"] else [f"there are {len(kept)} checkpoints"]
        row = refused(14, what, ended, 5, [str(folder), "needs", "free"], problems=problems)
        make_room(folder)
        reached = last_step(folder)
        again = recovery(folder, shop.pretrain(), undisturbed)
        return then_recovered(row, again, reached - again.ended.resumed)


def failed_write(shop: Workshop) -> Outcome:
    """The disk of one rank is full while it writes its file."""
    blow = Blow(
        "disk full for rank 1 in the middle of writing a checkpoint",
        runs_to_its_end,
        (5,),
        ("No space left", "free"),
        most_lost=10,
        fault="save:1:10:enospc",
        expected=REFUSED_THEN_RECOVERED,
    )
    return rows(14, *struck_run(shop, "failed-write", [blow]))[0]


def runs_to_its_end(folio: LaunchedFolio) -> bool:
    """For faults that FOLIO_FAULT plans and that kill nobody: there is no moment to count from."""
    return True


def no_inodes(shop: Workshop) -> list[Outcome]:
    return [no_inodes_in(shop, stage) for stage in ("corpus", "shards", "pretrain")]


def no_inodes_in(shop: Workshop, stage: str) -> Outcome:
    """A disk with room for bytes, and none for files."""
    what = f"inodes used up in stage {stage}"
    folder = shop.folder(f"inodes-{stage}", "whole", stages=NAMES[: NAMES.index(stage)])
    with small_disk(folder, "size=48m,nr_inodes=400") as mounted:
        if not mounted:
            return unmeasured(14, what, REFUSED_THEN_RECOVERED, NO_MOUNTS)
        crowd = folder / "store" / "crowd"
        crowd.mkdir()
        leave = 16 if stage == "pretrain" else 2  # enough to start ranks, too few for their checkpoint
        for number in range(int(inodes_left(crowd)) - leave):
            (crowd / str(number)).touch()
        command = f"{stage} {shop.config}"
        row = refused(14, what, done(folder, command), 5, ["inodes are used up"], problems=damage(folder, stage))
        shutil.rmtree(crowd)
        return redone(shop, folder, stage, row)


def folders_that_cannot_be_written(shop: Workshop) -> list[Outcome]:
    """Experiment 15: refused before a rank starts."""
    return [read_only(shop), forbidden(shop), *(file_in_place(shop, place) for place in ("store", "artifact"))]


def read_only(shop: Workshop) -> Outcome:
    what = "store on a disk that is mounted read-only"
    folder = shop.folder("read-only")
    with small_disk(folder, "size=48m") as mounted:
        if not mounted:
            return unmeasured(15, what, REFUSED_THEN_RECOVERED, NO_MOUNTS)
        subprocess.run(["mount", "-o", "remount,ro", str(folder / "store")], check=True)
        row = refused(15, what, done(folder, shop.pretrain()), 5, [str(folder)])
        subprocess.run(["mount", "-o", "remount,rw", str(folder / "store")], check=True)
        return then_recovered(row, recovery(folder, shop.pretrain(), shop.baseline()))


def forbidden(shop: Workshop) -> Outcome:
    """A store that this user may read and not write; root is made to obey by taking that right of root away."""
    what = "store that this user may not write"
    folder = shop.folder("forbidden")
    (folder / "store").chmod(0o555)
    before = ""
    if os.geteuid() == 0:
        before = "setpriv --bounding-set=-dac_override,-dac_read_search --"
        if shutil.which("setpriv") is None:
            return unmeasured(15, what, REFUSED, "root may write everywhere, and there is no setpriv")
    row = refused(15, what, done(folder, shop.pretrain(), before), 5, [str(folder)])
    (folder / "store").chmod(0o755)
    return row


def file_in_place(shop: Workshop, place: str) -> Outcome:
    folder = shop.folder(f"file-{place}")
    if place == "store":
        shutil.rmtree(folder / "store")
        (folder / "store").write_text("no folder")
        ended = done(folder, f"target {shop.config}")
    else:
        name = artifact(shop.baseline().folder, "pretrain").name
        (folder / "store" / name).write_text("no folder")
        ended = done(folder, shop.pretrain())
    return refused(15, f"a file in the place of the {place}'s folder", ended, 5, [str(folder / "store")])
