"""The report's answer in words: one sentence for the top, one for the data, and every reason for doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.evaluation.arms import TrainedArm

Report = Mapping[str, Any]
STAND_IN = "installed text"  # the origin of a target or corpus when nothing that was asked for answered


def target_title(target: Mapping[str, Any]) -> str:
    """The target's name as a sentence says it; a stand-in says that it is one."""
    if target["origin"] == STAND_IN:
        return "a stand-in text"
    return "Tiny Shakespeare" if target["name"] == "tiny-shakespeare" else str(target["name"])


class Headline(NamedTuple):
    """The answer: what is claimed, with number, unit and target, and how sure that is."""

    claim: str
    certainty: str

    def __str__(self) -> str:
        return f"{self.claim} ({self.certainty})."


def headline(report: Report) -> Headline:
    """The answer in one sentence."""
    title = target_title(report["target"])
    if report["gain"] is None:
        loss = report["arms"]["scratch"]["val_bits_per_byte"]
        reached = f"Trained from scratch, the model reaches {loss['mean']:.3f} bits per byte on {title}"
        return Headline(reached, f"{interval(loss)}; nothing was pretrained, so there is no gain to report")
    gain = report["gain"]["bits_per_byte"]
    amount = f"{abs(gain['mean']):.3f} bits per byte"
    if report["gain"]["helps"]:
        return Headline(f"Pretraining helps on {title}: it saves {amount}", interval(gain))
    if gain["ci95"][1] < 0:
        return Headline(f"Pretraining hurts on {title}: it costs {amount}", f"gain {interval(gain)}")
    return Headline(
        f"No gain shown on {title}: {number(gain['mean'])} bits per byte", f"{interval(gain)} includes zero"
    )


def interval(value: Mapping[str, Any]) -> str:
    """The 95% interval in words, without its unit."""
    low, high = value["ci95"]
    return f"95% interval {number(low)} to {number(high)}"


def number(value: float) -> str:
    """Three decimals, which is finer than any interval so far, and a minus instead of a hyphen."""
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def exact(value: float) -> str:
    """Every digit that report.json keeps, and a minus instead of a hyphen."""
    return f"{value:.6g}".replace("-", "\N{MINUS SIGN}")


def alarms(report: Report) -> list[str]:
    """What a reader must know before the number: stand-ins, validation text left in the corpus, failed controls."""
    found = []
    if report["target"]["origin"] == STAND_IN:
        found.append(
            f"The target is not what was asked for but a stand-in, {report['target']['name']}: text that every "
            "installation has. This page shows that the pipeline runs; its numbers compare with nothing else."
        )
    if (report["contamination"] or {}).get("corpus_origin") == STAND_IN:
        found.append("The corpus is a stand-in as well: docstrings of the installed packages.")
    left = (report["contamination"] or {}).get("val_ngrams_left_in_shards")
    if left:
        found.append(
            f"{left:,} n-grams of the validation text are still in the training shards; the gain may be memory."
        )
    if report.get("imported"):
        found.append(
            "The pretrained weights are somebody else's; whether they have seen the validation text is unknown."
        )
    failed = [name.replace("_", " ") for name, held in report["controls"].items() if not held]
    if failed:
        found.append(f"Controls that did not hold: {', '.join(failed)}.")
    return found


def caveats(
    arms: Sequence[TrainedArm], max_steps: Mapping[str, int], gap_measured: bool = True, imported: bool = False
) -> list[str]:
    """What limits the answer, found in how the arms were trained. `max_steps` by arm name."""
    found = []
    for arm in arms:
        rates = sorted(entry["learning_rate"] for entry in arm.grid)
        if len(rates) > 1 and arm.learning_rate in (rates[0], rates[-1]):
            found.append(
                f"{arm.name}: the best learning rate is at the edge of the grid ({arm.learning_rate:g} of "
                f"{rates[0]:g} to {rates[-1]:g}); a better one may lie outside."
            )
        if len(rates) == 1:
            found.append(f"{arm.name}: only one learning rate was tried, {rates[0]:g}.")
        if any(trial.best_step >= max_steps[arm.name] for trial in arm.trials):
            found.append(f"{arm.name}: a seed was still improving at its last step; more steps may lower its loss.")
        if arm.diverged_seeds:
            seeds = ", ".join(map(str, arm.diverged_seeds))
            found.append(f"{arm.name}: training diverged with seed {seeds}, which the mean leaves out.")
        if len(arm.trials) == 1:
            found.append(f"{arm.name}: one seed; its interval holds the text's uncertainty but not the training's.")
    if len(arms) > 1:
        found.append("One pretraining run: the intervals do not say how much another pretraining seed would change.")
    if imported:
        found.append(
            "The pretrained weights were imported. What they were trained on is not known here, so it cannot be "
            "excluded that it holds the validation text; the gain may partly be memory."
        )
    if not gap_measured:
        found.append("The corpus has too little validation text to say how much pretraining memorized.")
    return found


def rival_caveats(rivals: Sequence[Mapping[str, Any]], control: float) -> list[str]:
    """Doubt about the control: every rival from scratch that does better than its `control` bits per byte."""
    better = [one for one in rivals if one["val_bits_per_byte"]["mean"] < control]
    return [_rival_caveat(one, control) for one in sorted(better, key=lambda one: one["val_bits_per_byte"]["mean"])]


def _rival_caveat(rival: Mapping[str, Any], control: float) -> str:
    reached = f"{rival['name']}, from scratch, reaches {number(rival['val_bits_per_byte']['mean'])} bits per byte"
    gain = rival["gain_bits_per_byte"]
    over_it = f"; the gain over it is {number(gain['mean'])} ({interval(gain)})" if gain else ""
    return f"{reached}, less than the control's {number(control)}{over_it}."


def methods(num_windows: int, block: int, resamples: int) -> dict[str, str]:
    """How the numbers were made, in plain words, by subject; sources are in `pipeline/evaluation/intervals.py`."""
    return {
        "Arms": "From scratch is the control: the model starts from random weights and trains on the target alone. "
        "Pretrained only is the model after the corpus, before it has trained on the target. Finetuned goes on from "
        "there on the same training text as the control, with a smaller learning rate. The gain is the control's loss "
        "less the finetuned one's.",
        "Loss": "The validation text is cut into windows of the model's context, and every token is scored once. "
        "The loss is the sum of nats over all tokens, divided by their number. Bits per byte divide the same sum by "
        "ln 2 and by the text's UTF-8 bytes, nats per character by its characters; so runs with different tokenizers "
        "compare. All of it is computed in 32-bit floats, whatever the training used.",
        "Choice": "Each arm tries its grid of learning rates on its first seed, then trains all seeds with the best "
        "one. Learning rate and best step are chosen on the selection text; the validation text is scored once, here. "
        "Once the selection loss has not fallen for several evaluations in a row (the arm's patience in the config), a "
        "training ends before its planned steps.",
        "Interval": "Two things are left to chance: which text is scored, and which seeds are trained. The text is "
        f"resampled {resamples:,} times in runs of {block} neighbouring windows out of {num_windows:,}, because "
        "neighbours are alike, and always for both arms together. Each arm's mean over seeds moves by its standard "
        "error. The sum has the tails of Student's t with Welch and Satterthwaite's degrees of freedom, because few "
        "seeds say little about their own spread. The interval is the middle 95% of these draws; the p-value is twice "
        "the share of draws beyond zero, and never 0.",
        "Verdict": "Pretraining helps, the report says, when the whole interval of the gain lies above zero.",
    }


RIVALS = (
    "Each is an arm from scratch like the control, with changes of the model, the tokenizer or the training, and "
    "its own choice of learning rate and step on the selection text. With another tokenizer its windows differ, "
    "so the gain over it cannot be paired; its interval then joins both losses' intervals by their squares, which "
    "is wider."
)
CURVE = (
    "Pretraining with a warmup-stable-decay schedule is brought to its end at several steps: each branch leaves "
    "the stable phase and decays, as if it had been planned to be so long. Each is finetuned with every learning "
    "rate of the grid on the first seed. The law is a constant plus a power of the tokens, fitted by least "
    "squares; its intervals repeat the fit on resampled texts, with every point moved by the spread of the "
    "finetuning seeds."
)
LEAK = (
    "Corpus, shards, pretraining and finetuning are made again with decontamination switched off and everything "
    "else the same, the tokenizer too. What the finetuned loss falls by is what the validation text in the corpus "
    "is worth. Each side is one pretraining, and the texts left in change the order of all others: the interval does "
    "not include what another order would change."
)


def further_methods(report: Report) -> dict[str, str]:
    """How what goes beyond the arms was measured, where the report has it."""
    found = {"Rivals": (RIVALS, report["rivals"]), "Curve": (CURVE, report["curve"]), "Leak": (LEAK, report["leak"])}
    return {subject: text for subject, (text, section) in found.items() if section}
