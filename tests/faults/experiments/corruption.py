"""Experiments 10, 13 and 26: what lies on the disk is not what was written there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from pipeline.graph.manifest import damaged_files
from pipeline.runtime.files import sha256_of
from pipeline.training.checkpoint_files import RECEIPT, CheckpointReceipt, receipt_or_reason
from tests.faults.experiments.blows import seeded
from tests.faults.experiments.launched_folio import LaunchedFolio, done
from tests.faults.experiments.outcome import (
    OTHER,
    REFUSED,
    WRONG,
    Outcome,
    recovered,
    recovery,
    refused,
    then_recovered,
)
from tests.faults.experiments.workshop import Workshop, artifact, last_step, newest_checkpoint

FLIPS = 100
Damage = Callable[[Path], str]  # damages a checkpoint, and names what the operator must read


def flipped(path: Path, position: int, bit: int) -> None:
    """Change one bit of a file."""
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ 1 << bit]))


def reasons(checkpoint: Path) -> str:
    """What Folio's own check, which every resume makes first, says of a checkpoint; empty if nothing is wrong."""
    receipt, reason = receipt_or_reason(checkpoint)
    return "; ".join(filter(None, [reason, *damaged_files(checkpoint, receipt.files if receipt else ())]))


def damaged_checkpoints(shop: Workshop) -> list[Outcome]:
    folder = shop.folder("flips", "interrupted")
    checkpoint = newest_checkpoint(folder)
    outcomes = [bit_flips(checkpoint), cut_and_deleted(checkpoint)]
    damages: dict[str, Damage] = {"truncated": truncate, "with one bit flipped": flip, "deleted": delete}
    outcomes += [passed_over(shop, f"a file of the newest checkpoint {how}", act) for how, act in damages.items()]
    outcomes.append(passed_over(shop, "the newest checkpoint renamed to a later step", rename))
    return [*outcomes, all_damaged(shop)]


def bit_flips(checkpoint: Path) -> Outcome:
    """One bit at a time, at a random place of a random file; each is undone."""
    random, missed = seeded(10), list[str]()
    files = sorted(path for path in checkpoint.iterdir() if path.is_file())
    for _ in range(FLIPS):
        path = random.choice(files)
        position, bit = random.randrange(path.stat().st_size), random.randrange(8)
        flipped(path, position, bit)
        if path.name not in reasons(checkpoint):
            missed.append(f"{path.name}, bit {bit} of byte {position}")
        flipped(path, position, bit)
    intact = reasons(checkpoint) == ""
    noticed = FLIPS - len(missed)
    return Outcome(
        10,
        f"{FLIPS} bits flipped, one at a time, at random places of a checkpoint's files; the check of every resume",
        REFUSED,
        WRONG if missed else REFUSED,
        not missed and intact,
        detail="; ".join([f"{noticed} of {FLIPS} noticed, with the file's name", *missed]),
    )


def cut_and_deleted(checkpoint: Path) -> Outcome:
    """Each file of a checkpoint cut in half, then missing."""
    missed, cases = list[str](), 0
    for path in sorted(path for path in checkpoint.iterdir() if path.is_file()):
        content = path.read_bytes()
        for how in ("cut", "missing"):
            path.write_bytes(content[: len(content) // 2]) if how == "cut" else path.unlink()
            cases += 1
            missed += [] if path.name in reasons(checkpoint) else [f"{path.name} {how}"]
        path.write_bytes(content)
    return Outcome(
        10,
        "each file of a checkpoint cut in half, then deleted; the same check",
        REFUSED,
        WRONG if missed else REFUSED,
        not missed,
        detail="; ".join([f"{cases - len(missed)} of {cases} noticed, with the file's name", *missed]),
    )


def state_file(checkpoint: Path) -> Path:
    return sorted(checkpoint.glob("*optim_states.pt"))[-1]


def truncate(checkpoint: Path) -> str:
    path = state_file(checkpoint)
    path.write_bytes(path.read_bytes()[:-1000])
    return path.name


def flip(checkpoint: Path) -> str:
    path = state_file(checkpoint)
    flipped(path, path.stat().st_size // 2, 3)
    return path.name


def delete(checkpoint: Path) -> str:
    path = state_file(checkpoint)
    path.unlink()
    return path.name


def rename(checkpoint: Path) -> str:
    checkpoint.rename(checkpoint.with_name("step-00000099"))
    return "step-00000099"


def passed_over(shop: Workshop, what: str, damage: Damage) -> Outcome:
    """A real resume: the older checkpoint is taken, and a line says why."""
    folder = shop.folder("passed-over", "interrupted")
    reached, name = last_step(folder), damage(newest_checkpoint(folder))
    again = recovery(folder, shop.pretrain(), shop.baseline())
    lines = [line.strip() for line in again.ended.stderr.splitlines() if "is not used" in line]
    problems = [] if lines and name in lines[0] else [f"no line names {name}"]
    said = lines[0] if lines else again.ended.said
    # A renamed checkpoint is nobody's: it stays where it is.
    return recovered(10, what, again, problems=problems, said=said, steps_lost=reached - again.ended.resumed)


def all_damaged(shop: Workshop) -> Outcome:
    """Without a valid checkpoint, beginning anew in silence would throw the training away."""
    folder = shop.folder("all-damaged", "interrupted")
    names = [flip(path) for path in sorted(artifact(folder, "pretrain").glob("checkpoints/step-????????"))]
    return refused(10, "a bit flipped in every checkpoint", done(folder, shop.pretrain()), 3, [names[0]])


def changed_tokenizer(shop: Workshop) -> list[Outcome]:
    """Another tokenizer under finished shards, as it is and with a manifest that vouches for it."""
    folder = shop.folder("tokenizer")
    path = artifact(folder, "tokenizer") / "tokenizer.json"
    content, before = path.read_bytes(), sha256_of(path)
    path.write_bytes(content + b" ")
    after = sha256_of(path)
    row = refused(13, "tokenizer.json changed under the shards", done(folder, shop.pretrain()), 3, ["tokenizer.json"])
    record = path.with_name("manifest.json")
    vouched = json.loads(record.read_text())
    for entry in vouched["files"]:
        if entry["path"] == path.name:
            entry |= {"bytes": path.stat().st_size, "sha256": after}
    kept = record.read_bytes()
    record.write_text(json.dumps(vouched))
    what = "the same, and the tokenizer's manifest changed with it"
    vouched_row = refused(13, what, done(folder, shop.pretrain()), 3, [before[:8], after[:8]])
    path.write_bytes(content)
    record.write_bytes(kept)
    again = recovery(folder, shop.pretrain(), shop.baseline())
    return [row, then_recovered(vouched_row, again)]


class Canary:
    """Leaves a folder behind if it is unpickled by whoever runs what a pickle names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def canaries(shop: Workshop) -> list[Outcome]:
    """Checkpoints that somebody else made, with a receipt that vouches for them."""
    outcomes = [pickle_canary(shop, pattern) for pattern in ("*model_states.pt", "*rank_1_*optim_states.pt")]
    return [*outcomes, secrets_and_listeners(shop)]


def pickle_canary(shop: Workshop, pattern: str) -> Outcome:
    """A file of the only checkpoint holds a call of a function in place of the state."""
    folder = shop.folder("canary", "interrupted")
    checkpoint = newest_checkpoint(folder)
    for older in checkpoint.parent.glob("step-????????"):
        if older != checkpoint:
            shutil.rmtree(older)
    (path,) = checkpoint.glob(pattern)
    song = folder / "song"
    torch.save({"module": Canary(song), "optimizer_state_dict": Canary(song), "folio": Canary(song)}, path)
    receipt = CheckpointReceipt.model_validate_json((checkpoint / RECEIPT).read_bytes())
    changed = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    files = tuple(entry.model_copy(update=changed) if entry.path == path.name else entry for entry in receipt.files)
    sealed = receipt.model_copy(update={"files": files}).sealed()
    (checkpoint / RECEIPT).write_text(sealed.model_dump_json(indent=1) + "\n")
    ended = done(folder, shop.pretrain())
    sang = ["the pickle was executed"] if song.exists() else []
    row = refused(
        26, f"a pickle that calls a function in {path.name}, vouched for by the receipt", ended, 3, problems=sang
    )
    return replace(row, outcome=WRONG if sang else row.outcome)


def secrets_and_listeners(shop: Workshop) -> Outcome:
    """A token in the environment is in no file and no command line, and nobody listens beyond loopback."""
    token, folder = "hf_kanarienvogel", shop.folder("secrets")
    folio = LaunchedFolio(folder, shop.pretrain(), HF_TOKEN=token)
    reached = folio.reach(4)
    family = folio.family()
    shown = [process.pid for process in family if token in " ".join(process.cmdline())]
    listening = {
        connection.laddr.ip
        for process in family
        for connection in process.net_connections("tcp")
        if connection.status == "LISTEN"
    }
    ended = folio.end()
    files = [
        path.name for path in (folder / "store").rglob("*") if path.is_file() and token.encode() in path.read_bytes()
    ]
    problems = [f"the token is in {', '.join(files)}"] if files else []
    problems += ["the token is in a command line"] if shown else []
    problems += [f"listened at {sorted(listening)}"] if listening != {"127.0.0.1"} else []
    problems += [] if reached and ended.code == 0 and token not in ended.stderr else [f"exit code {ended.code}"]
    what = "HF_TOKEN set: not in any file, output or command line; the ranks listen at 127.0.0.1 only"
    return Outcome(26, what, "R", OTHER if problems else "R", not problems, ended.code, detail="; ".join(problems))
