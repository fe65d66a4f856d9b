# A newcomer's commands. Each does its own set-up; `make demo` and `make test` are the two to start with.
PYTHON ?= python3
BIN := .venv/bin
export DS_ACCELERATOR ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo cuda || echo cpu)

.PHONY: help install demo test test-tools eval-harness check bench faults init-results split-results null-results schema lecture clean

help:
	@sed -n 's/^## //p' Makefile

## make install      everything into .venv
install: .venv/installed
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

## make demo         the main job at a small scale, in a few minutes; the last line names the report
demo: install
	$(BIN)/folio run configs/demo.yaml

## make test         the whole test suite
test: install
	$(BIN)/pytest

## make test-tools   what a few tests skip without (Debian, as root): a browser, sshd and pdsh, network namespaces
test-tools:
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends chromium openssh-client openssh-server pdsh iproute2

## make eval-harness the lm-evaluation-harness into .venv, and its test
eval-harness: install
	$(BIN)/python -m pip install --quiet --editable '.[harness]'
	$(BIN)/python -m pytest tests/pipeline/huggingface/test_harness.py

## make check        static checks: ruff, mypy, import-linter, typos
check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/typos

## make bench        speed as ratios against references, into docs/results/bench.json and bench.md
bench: install
	$(BIN)/python -m tests.bench

## make faults       kills, stops, damages and misleads real runs; about half an hour, into docs/results/faults.md
faults: install
	$(BIN)/python -m tests.faults.experiments

## make schema       the JSON Schema of report.json, into docs/report.schema.json
schema: install
	$(BIN)/python -m pipeline.report.report_json > docs/report.schema.json

## make init-results what `folio init` chooses, beside sizes chosen by hand; three hours, into docs/results/init.md
init-results: install
	$(BIN)/python -m tests.bench.bench_init

## make split-results what refits are worth; half an hour, into docs/results/split.md
split-results: install
	$(BIN)/python -m tests.bench.bench_split

## make null-results refits on fifty synthetic targets; an hour, into docs/results/null.md
null-results: install
	$(BIN)/python -m tests.bench.bench_null

## make lecture      climbs the lecture's ladder, into docs/results/lecture.md
lecture: install
	$(BIN)/folio lecture --out docs/results

## make clean        removes .venv and the artifacts
clean:
	rm -rf .venv artifacts
