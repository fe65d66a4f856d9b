"""A config for the texts of the demo with a model size that somebody chose, and the recipe of `folio init`.

python -m tests.bench.hand_made_config 10 '4 x 128' ten.yaml
"""

from __future__ import annotations

import sys
from pathlib import Path

from cli.new_config import wish_of
from pipeline.graph.machines import this_machine
from pipeline.sizing.choice import filled
from pipeline.sizing.model_sizes import CandidateModel
from pipeline.sizing.run_forecast import run_seconds, timed_machine
from pipeline.sizing.written_config import yaml_text
from tests.bench.bench_init import BY_HAND, CORPUS


def main() -> None:
    """Write the config."""
    minutes, name, output = float(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    sizes = {row[0]: CandidateModel(*row[1:4], context=256, vocab_size=row[4]) for row in BY_HAND}
    wish, _ = wish_of("tiny-shakespeare", list(CORPUS), minutes, None, output)
    seconds_of = run_seconds(wish, timed_machine(this_machine(), wish, list(sizes.values())))
    output.write_text(yaml_text(filled(sizes[name], wish, seconds_of), wish, " ".join(sys.argv)))


if __name__ == "__main__":
    main()
