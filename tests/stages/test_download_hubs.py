"""What is taken from the hubs, and at which commit."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubs.modelscope import ModelScopeHub
from hubs.repository import COMMIT, OLD_COMMIT, Repository, sha256
from lorafinetune.contract.arguments import place
from stages.download_builders import Bench, hub
from stages.download_site import (
    MODEL_FILES,
    REPOSITORIES,
    ROWS,
    TAKEN,
    Site,
    connected,
)


@pytest.fixture(params=["hf", "modelscope"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with connected(request.param, tmp_path) as site:
        yield site


def test_takes_weights_tokenizer_config_and_licence_and_nothing_that_can_run_code(site: Site) -> None:
    result = site.bench.run(site.model)

    assert site.bench.files(site.bench.place(result)) == TAKEN
    assert not result.cache_hit
    assert not site.server.asked(".py")


def test_files_are_asked_for_as_they_are_so_that_their_size_and_ranges_are_those_of_the_listing(
    site: Site,
) -> None:
    site.bench.run(site.model)

    assert [request.headers["Accept-Encoding"] for request in site.server.asked(".safetensors")] == [
        "identity"
    ]


def test_says_what_it_took_at_which_commit(site: Site) -> None:
    result = site.bench.run(site.model)

    manifest = site.bench.manifest(result)
    assert (result.model.source, result.model.revision) == (site.model, COMMIT)
    assert (result.model.digest, result.model.bytes) == (manifest.digest, sum(map(len, TAKEN.values())))
    assert {file.path: (file.size, file.sha256) for file in manifest.files} == {
        name: (len(body), sha256(body)) for name, body in TAKEN.items()
    }
    assert manifest.lineage == {
        "source": site.model,
        "revision": None,
        "commit": COMMIT,
        "endpoint": site.host,
        "licences": ["LICENSE"],
    }


def test_takes_the_files_of_the_revision_that_was_asked_for(site: Site) -> None:
    result = site.bench.run(site.model, revision="v1.0")

    assert result.model.revision == OLD_COMMIT
    assert site.bench.manifest(result).lineage["revision"] == "v1.0"


def test_a_commit_is_a_revision(site: Site) -> None:
    assert site.bench.run(site.model, revision=OLD_COMMIT).model.revision == OLD_COMMIT


def test_takes_the_data_files_of_a_whole_repository(site: Site) -> None:
    result = site.bench.run(site.model, site.data)

    assert site.bench.files(place("datasets", result.datasets[0])) == {
        "rows.json": ROWS,
        "more/rows.jsonl": b"{}",
    }


def test_takes_the_file_that_a_dataset_names_whatever_its_name(site: Site) -> None:
    result = site.bench.run(site.model, f"{site.data}/more/rows.jsonl", f"{site.data}/notes.txt")

    assert [site.bench.files(place("datasets", key)) for key in result.datasets] == [
        {"more/rows.jsonl": b"{}"},
        {"notes.txt": b"notes"},
    ]


SPLIT = {
    f"data/{split}-0000{shard}-of-00002.json": b"[{}]" for split in ("train", "test") for shard in (0, 1)
}


def test_takes_the_files_that_fit_a_pattern(site: Site) -> None:
    site.server.repositories["datasets/owner/split"] = Repository(SPLIT)

    result = site.bench.run(site.model, f"{site.scheme}://owner/split/data/train-*")

    assert site.bench.files(place("datasets", result.datasets[0])) == {
        name: body for name, body in SPLIT.items() if "train" in name
    }


def test_a_repository_of_several_splits_is_refused_before_anything_is_copied(site: Site) -> None:
    site.server.repositories["datasets/owner/split"] = Repository(SPLIT)
    source = f"{site.scheme}://owner/split"

    refusal = site.bench.refusal(site.model, source)

    assert refusal.message == (
        f"spec.datasets[0].source: {source} has files of 2 splits, and all would be trained on: "
        "train (data/train-*), test (data/test-*)"
    )
    assert not list(site.bench.store.list("models")), "and no more is asked of the hub than the listings"
    assert len(site.server.requests) == 2


def test_a_repository_that_was_copied_with_all_its_splits_is_refused_too(site: Site) -> None:
    whole = site.server.repositories["datasets/owner/data"]
    site.bench.run(site.model, site.data)
    site.server.repositories["datasets/owner/data"] = Repository({**whole.files, "test.jsonl": b"{}"})

    assert "has files of 2 splits" in site.bench.refusal(site.model, site.data).message


def test_a_dataset_that_is_named_twice_is_copied_once(site: Site) -> None:
    result = site.bench.run(site.model, f"{site.data}/rows.json", f"{site.data}/rows.json")

    assert result.datasets[0] == result.datasets[1]
    assert len(site.server.asked("rows.json")) == 1


def test_the_second_run_copies_nothing(site: Site) -> None:
    first = site.bench.run(site.model, site.data)
    site.server.forget()

    second = site.bench.run(site.model, site.data)

    assert second == first.model_copy(update={"cache_hit": True})
    assert len(site.server.requests) == 2, "the two listings, and nothing else"


def test_a_new_commit_is_copied_beside_the_old_one(site: Site) -> None:
    first = site.bench.run(site.model)
    newer = "e" * 40
    site.server.repositories["models/owner/model"] = Repository(MODEL_FILES, {"main": newer, "master": newer})

    second = site.bench.run(site.model)

    assert (second.cache_hit, second.model.revision) == (False, newer)
    assert second.model.digest == first.model.digest
    assert site.bench.place(second) != site.bench.place(first)


def test_progress_counts_bytes_of_everything(site: Site, tmp_path: Path) -> None:
    site.bench.run(site.model, site.data)

    progress = json.loads((tmp_path / "progress.json").read_text())
    total = sum(map(len, TAKEN.values())) + len(ROWS) + len(b"{}")
    assert (progress["activity"], progress["done"], progress["total"], progress["unit"]) == (
        "downloading",
        total,
        total,
        "bytes",
    )


class TestModelScopeCommit:
    """How the commit is found, which the hub does not name in full."""

    @pytest.fixture
    def connected(self, tmp_path: Path) -> Iterator[tuple[ModelScopeHub, Bench]]:
        with ModelScopeHub(REPOSITORIES) as server:
            yield server, Bench(tmp_path, hub(server.url))

    def test_is_that_of_the_file_that_it_changed(self, connected: tuple[ModelScopeHub, Bench]) -> None:
        server, bench = connected

        assert bench.run("modelscope://owner/model").model.revision == COMMIT
        assert {request.query["Revision"] for request in server.asked(".json")} == {COMMIT}

    def test_that_removed_something_alone_is_a_digest_of_the_listing(
        self, connected: tuple[ModelScopeHub, Bench]
    ) -> None:
        server, bench = connected
        server.changed = set()

        first = bench.run("modelscope://owner/model")

        assert len(first.model.revision) == 64
        assert {request.query["Revision"] for request in server.asked(".json")} == {"master"}
        assert bench.run("modelscope://owner/model").cache_hit
        smaller = {name: body for name, body in MODEL_FILES.items() if name != "README.md"}
        server.repositories["models/owner/model"] = Repository(smaller)
        assert bench.run("modelscope://owner/model").model.revision != first.model.revision


def test_a_dataset_of_more_files_than_a_page_of_the_listing(tmp_path: Path) -> None:
    rows = {f"part-{number:03}.json": b"[{}]" for number in range(450)}
    with ModelScopeHub(REPOSITORIES | {"datasets/owner/many": Repository(rows)}) as server:
        bench = Bench(tmp_path, hub(server.url))

        result = bench.run("modelscope://owner/model", "modelscope://owner/many")

        assert bench.files(place("datasets", result.datasets[0])) == rows
        assert [request.query["PageNumber"] for request in server.asked("/repo/tree")] == ["1", "2", "3"]


def test_a_folder_is_no_file_whatever_its_name(tmp_path: Path) -> None:
    rows = {"rows.jsonl": b"{}", "old.json/readme.txt": b"text"}
    with ModelScopeHub(REPOSITORIES | {"datasets/owner/data": Repository(rows)}) as server:
        bench = Bench(tmp_path, hub(server.url))

        result = bench.run("modelscope://owner/model", "modelscope://owner/data")

        assert bench.files(place("datasets", result.datasets[0])) == {"rows.jsonl": b"{}"}
