"""Texts are told apart by what they hold: files, hub datasets, files on the web, and those of the installation."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.schema import Config
from pipeline.config.text_sections import CorpusSection, SourceSection, TargetSection
from pipeline.config.training_sections import PretrainedSection
from pipeline.errors import ConfigError, DataError, EnvironmentFault
from pipeline.inputs import hub_commit, named_target, outside
from pipeline.inputs.hub_commit import HubCommit
from pipeline.inputs.outside import (
    INSTALLED_TEXT,
    Outside,
    find_source,
    find_sources,
    find_target,
    find_weights,
    look_outside,
)

SILENT = EnvironmentFault("The hub does not answer.")


def written(folder: Path, **texts: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def corpus(folder: Path) -> Any:
    return find_source(SourceSection(path="texts/*.txt"), folder)


def test_a_moved_folder_is_the_same_text_and_another_content_is_not(tmp_path: Path) -> None:
    written(tmp_path / "one" / "texts", a="first", b="second")
    before = corpus(tmp_path / "one")
    shutil.move(tmp_path / "one", tmp_path / "two")
    assert corpus(tmp_path / "two").digest == before.digest
    written(tmp_path / "two" / "texts", b="SECOND")
    assert corpus(tmp_path / "two").digest != before.digest


@pytest.mark.parametrize("change", ["one more", "one less", "another name"])
def test_files_that_come_go_or_are_renamed_make_another_text(change: str, tmp_path: Path) -> None:
    texts = written(tmp_path / "texts", a="first", b="second")
    before = corpus(tmp_path)
    if change == "one more":
        written(texts, c="third")
    elif change == "one less":
        (texts / "b.txt").unlink()
    else:
        (texts / "b.txt").rename(texts / "c.txt")
    assert corpus(tmp_path).digest != before.digest


def test_a_target_is_identified_by_its_content_alone(tmp_path: Path) -> None:
    written(tmp_path, mine="text", yours="text", other="another")
    mine, yours, other = (
        find_target(TargetSection(path=f"{name}.txt"), tmp_path) for name in ("mine", "yours", "other")
    )
    assert mine.digest == yours.digest != other.digest
    assert (mine.shown, mine.files[0].path) == ("mine.txt", f"{tmp_path}/mine.txt")


def test_what_is_shown_and_kept_holds_no_folder_above_the_pattern(tmp_path: Path) -> None:
    written(tmp_path / "texts", a="first")
    text = find_source(SourceSection(path=f"{tmp_path}/texts/*.txt"))
    assert text.shown == "texts/*.txt"
    assert str(tmp_path) not in str(text.record())


def test_weights_are_identified_by_the_files_that_are_imported(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "merges.txt"):
        (tmp_path / name).write_text(name)
    section = PretrainedSection(path=str(tmp_path))
    before = find_weights(section)
    assert before.address == str(tmp_path)
    (tmp_path / "README.md").write_text("read me")
    assert find_weights(section).digest == before.digest
    (tmp_path / "model.safetensors").write_text("other weights")
    assert find_weights(section).digest != before.digest
    with pytest.raises(ConfigError, match=r"pretrained\.path: there is no folder"):
        find_weights(PretrainedSection(path=str(tmp_path / "gone")))


def test_a_run_of_missing_texts_says_for_each_key_why(tmp_path: Path) -> None:
    config = Config.model_validate(
        {"name": "x", "target": {"path": "my.txt"}, "corpus": {"sources": [{"path": "texts/*.txt"}]}}
    ).based_in(tmp_path)
    found = look_outside(config)
    assert set(found.faults) == {"target", "corpus"}
    assert "unknown" in found.identity("corpus")
    with pytest.raises(ConfigError, match=r"target.path: there is no file '.*/my.txt'"):
        found.refuse_unknown()
    written(tmp_path, my="target")
    written(tmp_path / "texts", a="first")
    assert look_outside(config).faults == {}


def test_no_source_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"corpus\.sources is empty"):
        find_sources(CorpusSection())


def test_missing_sources_are_told_from_those_that_are_there(tmp_path: Path) -> None:
    section = CorpusSection(sources=(SourceSection(path="texts/*.txt"),), fallback=True)
    without = find_sources(section, tmp_path)
    assert list(without) == [INSTALLED_TEXT]
    assert without[INSTALLED_TEXT].note.startswith("Source texts/*.txt: no file matches")
    written(tmp_path / "texts", a="first")
    assert list(find_sources(section, tmp_path)) == ["texts/*.txt"]


def test_a_demo_without_data_is_told_from_one_with_data(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FOLIO_DATA", raising=False)
    monkeypatch.setattr(named_target, "URL", f"{site.address}/input.txt")
    section = TargetSection(name="tiny-shakespeare", fallback=True)
    without = find_target(section)
    assert (without.kind, without.digest) == ("installed", find_target(section).digest)
    assert len(site.requests) == 1, "a server that did not answer is not asked again at once"
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare" / "input.txt").write_text("whatever: the stage checks it")
    monkeypatch.setenv("FOLIO_DATA", str(tmp_path))
    found = find_target(section)
    assert found.identity == {"sha256": named_target.SHA256}
    assert found.digest == find_target(TargetSection(name="tiny-shakespeare")).digest != without.digest


def test_the_named_target_needs_no_look_at_a_server(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FOLIO_DATA", raising=False)
    monkeypatch.setattr(named_target, "URL", f"{site.address}/input.txt")
    assert find_target(TargetSection(name="tiny-shakespeare")).identity == {"sha256": named_target.SHA256}
    assert site.requests == []


# Hub datasets


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[HubCommit | Exception]:
    """What the hub answers next."""
    answers: list[HubCommit | Exception] = []

    def answer(name: str, revision: str) -> HubCommit:
        now = answers.pop(0)
        if isinstance(now, Exception):
            raise now
        return now

    monkeypatch.setattr(outside, "hub_commit", answer)
    return answers


DATASET = SourceSection(hub="me/mine")


def test_a_hub_dataset_is_its_commit(hub: list[HubCommit | Exception]) -> None:
    hub += [HubCommit("a" * 40, "mit"), HubCommit("a" * 40, "mit"), HubCommit("b" * 40, "mit")]
    first, same, later = (find_source(DATASET) for _ in range(3))
    assert first.digest == same.digest != later.digest
    assert (first.address, first.identity) == ("me/mine", {"commit": "a" * 40})


def test_a_pinned_dataset_needs_no_network(hub: list[HubCommit | Exception]) -> None:
    assert find_source(SourceSection(hub="me/mine", revision="c" * 40)).identity == {"commit": "c" * 40}


def test_a_silent_hub_is_believed_to_hold_what_it_held_and_that_is_said(hub: list[HubCommit | Exception]) -> None:
    hub += [HubCommit("a" * 40, "mit"), SILENT, SILENT]
    before, now = find_source(DATASET), find_source(DATASET)
    assert now.digest == before.digest
    assert now.note.startswith("me/mine does not answer: taken to be as it was on 20")
    with pytest.raises(EnvironmentFault):
        find_source(SourceSection(hub="me/other"))


def test_a_dataset_that_is_gone_is_not_remembered(hub: list[HubCommit | Exception]) -> None:
    hub += [HubCommit("a" * 40, "mit"), ConfigError("Hub dataset me/mine: 404.")]
    find_source(DATASET)
    with pytest.raises(ConfigError, match="404"):
        find_source(DATASET)


def test_a_local_folder_is_no_dataset_and_its_path_works(tmp_path: Path) -> None:
    written(tmp_path / "texts", a="first")
    with pytest.raises(ConfigError, match=r"hub 'texts' is a folder here\. Write path: \"texts/\*\""):
        find_source(SourceSection(name="s", hub="texts"), tmp_path)
    assert len(find_source(SourceSection(path="texts/*"), tmp_path).files) == 1


def test_the_hub_is_asked_with_little_patience() -> None:
    assert hub_commit.INFO_SECONDS <= 5


# Files on the web


def test_a_web_file_is_what_its_server_says_of_it(site: Any) -> None:
    site.files["/a.jsonl"] = b"{}\n"
    source = SourceSection(url=f"{site.address}/a.jsonl")
    first, same = find_source(source), find_source(source)
    assert first.digest == same.digest
    digests = {first.digest}
    for name in ("ETag", "Last-Modified"):
        site.headers[name] = "one"
        digests.add(find_source(source).digest)
    site.files["/a.jsonl"] = b"{}\n{}\n"
    digests.add(find_source(source).digest)
    assert len(digests) == 4


def test_two_addresses_with_equal_validators_are_two_texts(site: Any) -> None:
    site.headers["ETag"] = "one"
    site.files |= {"/a.jsonl": b"{}\n", "/b.jsonl": b"{}\n"}
    one, two = (find_source(SourceSection(name="s", url=f"{site.address}/{name}.jsonl")) for name in "ab")
    assert one.digest != two.digest


def test_a_new_token_is_no_new_text_and_none_is_kept(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.files["/a.jsonl"] = b"{}\n"
    texts = []
    for token in ("canary-one", "canary-two"):
        monkeypatch.setenv("TOKEN", token)
        texts.append(find_source(SourceSection(url=f"{site.address}/a.jsonl?token=${{TOKEN}}")))
    assert texts[0].digest == texts[1].digest
    assert "canary" not in str([text.record() for text in texts]) + texts[0].shown
    assert "canary" not in str(texts)


def test_a_new_literal_token_is_no_new_text_where_the_server_tells_texts_apart(site: Any) -> None:
    site.files["/a.jsonl"] = b"{}\n"
    urls = [f"{site.address}/a.jsonl?token=one", f"{site.address}/a.jsonl?token=two"]
    without, _ = (find_source(SourceSection(url=url)).digest for url in urls)
    site.headers["ETag"] = "one"
    first, second = (find_source(SourceSection(url=url)).digest for url in urls)
    assert first == second != without


def test_the_name_of_a_web_file_keeps_its_variables_unfilled(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "canary")
    monkeypatch.setenv("WHOLE", f"{site.address}/canary.jsonl.gz?token=canary")
    site.files |= {"/canary/x-canary.jsonl": b"{}\n", "/canary.jsonl.gz": b""}
    urls = [f"{site.address}/${{TOKEN}}/x-${{TOKEN}}.jsonl", "${WHOLE}"]
    texts = [find_source(SourceSection(url=url)) for url in urls]
    assert [text.files_name for text in texts] == ["x-${TOKEN}.jsonl", "${WHOLE}.jsonl.gz"]
    assert "canary" not in str(texts)


def test_a_silent_server_is_believed_and_one_that_never_answered_is_not(site: Any) -> None:
    site.files["/a.jsonl"] = b"{}\n"
    source = SourceSection(url=f"{site.address}/a.jsonl")
    before = find_source(source)
    site.faults = [503] * 8
    now = find_source(source)
    assert now.digest == before.digest
    assert "a.jsonl does not answer: taken to be as it was on 20" in now.note
    with pytest.raises(EnvironmentFault, match="503"):
        find_source(SourceSection(url=f"{site.address}/b.jsonl"))


def test_a_web_file_that_changes_meanwhile_is_noticed(site: Any) -> None:
    site.files["/a.jsonl"] = b"{}\n"
    text = find_source(SourceSection(url=f"{site.address}/a.jsonl"))
    text.refuse_changed()
    site.headers["ETag"] = "another"
    with pytest.raises(DataError, match=r"a\.jsonl changed while it was read"):
        text.refuse_changed()


def test_an_address_that_is_no_web_address_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"url does not begin with https://\. Write path"):
        find_source(SourceSection(name="s", url="texts/a.jsonl"))


def test_notes_are_those_of_every_text() -> None:
    said = outside.OutsideText("a", "web", {}, note="a does not answer")
    assert Outside({"corpus": {"a": said, "b": outside.OutsideText("b", "web", {})}}, {}).notes == ["a does not answer"]
