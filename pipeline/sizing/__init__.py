"""A config that fits: `folio init` looks at the text, the machine and the minutes there are, and this room chooses the
model's size, the vocabulary, the batch and the steps of every arm (docs/decisions/a-run-that-fits.md derives the rule).
It trains nothing and writes nothing but text. May import `graph`, whose forecast says how long a config takes, and
everything below; only the command imports it. Start with `choice.py`.

    named_texts.py      what the arguments name, and how much text there is
    short_documents.py  whether the corpus is made of messages, which must not be dropped
    model_sizes.py      the sizes that are tried, each with its vocabulary, and the loss to expect of each
    recipe.py           the config of one size for one amount of training
    run_forecast.py     how long the run of a config takes
    choice.py           the search: for each size the amount that fills the minutes, then the best size
    summary.py, written_config.py   the choice in five lines, and as a commented YAML file
"""
