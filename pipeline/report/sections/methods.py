"""Section `methods`: how the numbers were made, in plain words. Their sources are in `pipeline/evaluation/`."""

from __future__ import annotations

from pipeline.evaluation.intervals import block_windows
from pipeline.report.finished_run import FinishedRun

# Texts of the report: a reader compares them between reports, so they change only when the method does.
RIVALS = (
    "Each is an arm from scratch like the control, with changes of the model, the tokenizer or the training, its own "
    "choice of learning rate and stopping on the selection text, and its own refits. With another tokenizer its "
    "windows differ, so the gain over it cannot be paired; its interval then joins both losses' intervals by their "
    "squares, which is wider."
)
CURVE = (
    "Pretraining with a warmup-stable-decay schedule is brought to its end at several steps: each branch leaves "
    "the stable phase and decays, as if it had been planned to be so long. Each is finetuned with every learning "
    "rate of the grid on the first seed, which is then refitted. The law is a constant plus a power of the tokens, "
    "fitted by least squares; its intervals repeat the fit on resampled texts, with every point moved by the spread of "
    "the finetuning seeds."
)
PIECES = (
    " The text is so short that each window counts one of {num_windows} pieces of it; every token is predicted from "
    "all of the text before it, as far as the context reaches."
)
LEAK = (
    "Corpus, shards, pretraining and finetuning are made again with decontamination switched off and everything "
    "else the same, the tokenizer too. What the finetuned loss falls by is what the validation text in the corpus "
    "is worth. Each side is one pretraining, and the texts left in change the order of all others: the interval does "
    "not include what another order would change."
)


def methods_section(run: FinishedRun) -> dict[str, str]:
    """A paragraph by subject; what goes beyond the arms is explained where the report has it."""
    num_windows = len(run.windows.inputs)
    paragraphs = methods(num_windows, block_windows(num_windows), run.section.resamples)
    if run.windows.in_pieces:
        paragraphs["Loss"] += PIECES.format(num_windows=num_windows)
    beyond = {"Rivals": (RIVALS, run.rivals), "Curve": (CURVE, run.points), "Leak": (LEAK, run.leak)}
    return paragraphs | {subject: text for subject, (text, shown) in beyond.items() if shown}


def methods(num_windows: int, block: int, resamples: int) -> dict[str, str]:
    """The paragraphs of every report, by subject: arms, loss, choice of rate and step, refit, interval, verdict."""
    return {
        "Arms": "From scratch is the control: the model starts from random weights and trains on the target alone. "
        "Pretrained only is the model after the corpus, before it has trained on the target. Finetuned goes on from "
        "there on the same text as the control, with a smaller learning rate. The gain is the control's loss "
        "less the finetuned one's.",
        "Loss": "The validation text is cut into windows of the model's context, and every token is scored once. "
        "The loss is the sum of nats over all tokens, divided by their number. Bits per byte divide the same sum by "
        "ln 2 and by the text's UTF-8 bytes, nats per character by its characters; so runs with different tokenizers "
        "compare. All of it is computed in 32-bit floats, whatever the training used.",
        "Choice": "The part of the target before the validation text may be trained on. Trials of each arm's grid of "
        "learning rates leave out the selection text, many stretches spread evenly over that part, and are compared on "
        "it: the lowest loss at any step chooses learning rate and stopping. Once that loss has not fallen for several "
        "evaluations in a row (the arm's patience in the config), a trial ends before its planned steps.",
        "Refit": "What is reported is trained afresh, with every seed, on the whole part, selection text included, at "
        "the chosen rate, and stopped after as many epochs as the best trial was best after. Nothing about these "
        "trainings is chosen. The validation text is scored once, here, and no training opens it.",
        "Interval": "Two things are left to chance: which text is scored, and which seeds are trained. The text is "
        f"resampled {resamples:,} times in runs of {block} neighbouring windows out of {num_windows:,}, because "
        "neighbours are alike, and always for both arms together. Each arm's mean over seeds moves by its standard "
        "error. The sum has the tails of Student's t with Welch and Satterthwaite's degrees of freedom, because few "
        "seeds say little about their own spread. The interval is the middle 95% of these draws; the p-value is twice "
        "the share of draws beyond zero, and never 0.",
        "Verdict": "Pretraining helps, the report says, when the whole interval of the gain lies above zero.",
    }
