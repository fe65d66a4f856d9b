"""A damaged manifest or file is refused and named."""

import json

import pytest

from pipeline.errors import DataError
from pipeline.graph import runner
from pipeline.graph.manifest import MANIFEST, damaged_files, file_entries


def changed(key, value):
    """A damage that gives one key of the manifest another value; None removes it."""
    return lambda text: json.dumps({k: v for k, v in {**json.loads(text), key: value}.items() if v is not None})


OUTSIDE = [{"path": "../../text.txt", "bytes": 1, "sha256": "0"}]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda text: text[:40], "is damaged"),
        (changed("files", None), "is damaged"),
        (changed("files", OUTSIDE), "outside"),
        (changed("stage", "corpus"), "holds the manifest of"),
        (changed("format", 9), "format 9"),
    ],
)
def test_damaged_manifests_are_refused(chain, damage, expected, config):
    folder = runner.run_nodes(config(), chain)["target"].folder
    (folder / MANIFEST).write_text(damage((folder / MANIFEST).read_text()))
    with pytest.raises(DataError, match=expected):
        runner.run_nodes(config(), chain)


def test_verification_names_each_damaged_file(chain, config):
    artifact = runner.run_nodes(config(), chain)["target"]
    assert damaged_files(artifact.folder, artifact.manifest.files) == []
    text = (artifact.folder / "text.txt").read_text()
    (artifact.folder / "text.txt").write_text(text.swapcase())
    assert damaged_files(artifact.folder, artifact.manifest.files) == ["text.txt has another sha256"]
    (artifact.folder / "text.txt").unlink()
    with pytest.raises(DataError, match=r"text\.txt is missing"):
        artifact.checked()


def test_drafts_that_a_killed_process_left_are_no_files_of_the_artifact(tmp_path):
    for name in ("text", "text.tmp", f"{MANIFEST}.tmp", MANIFEST):
        (tmp_path / name).write_text(name)
    assert [entry.path for entry in file_entries(tmp_path)] == ["text"]
