"""A stage posts its progress: to the real receiver, and to whatever else may answer or not."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.certificates import Authority
from hubs.repository import model
from lorafinetune.contract.arguments import (
    ARGUMENTS_VARIABLE,
    MESSAGE_VARIABLE,
    PROGRESS_CA_VARIABLE,
    PROGRESS_TOKEN_VARIABLE,
    PROGRESS_URL_VARIABLE,
    STORE_DIRECTORY_VARIABLE,
    WORKDIR_VARIABLE,
)
from lorafinetune.contract.outcome import DownloadResult, Progress, decode_message
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.push import FLUSH_SECONDS, Pusher, Receiver
from shell.elsewhere import Elsewhere, silent
from shell.issuing import token
from shell.site import HOST, Site
from stages.download_builders import Bench, write

SOON = 0.05
NEVER = 3600.0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "served").mkdir()
    with Site(tmp_path / "served") as served:
        yield served


def target(site: Site, folder: Path) -> Receiver:
    """The site, and a good token for it."""
    (folder / "token").write_text(token() + "\n")
    return Receiver(site.url, site.ca, folder / "token")


def reporter(where: Receiver, interval: float = SOON) -> Reporter:
    return Reporter("train", None, pusher=Pusher(where, interval))


def wait_until(holds: Callable[[], bool], within: float = 10) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def told(site: Site) -> list[tuple[str, int]]:
    return [(progress.activity, progress.done) for _, _, progress in site.taken]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What stands in the log, without the cause."""
    return [record.getMessage().partition(":")[0] for record in caplog.records]


AWAY = "progress can't be posted, and is tried again"
BACK = "progress is posted again"


def test_an_activity_is_told_when_it_begins_and_not_before_the_interval_is_over_again(
    site: Site, tmp_path: Path
) -> None:
    progress = reporter(target(site, tmp_path), NEVER)
    progress.begin("training", 100, "steps")
    wait_until(lambda: told(site) == [("training", 0)])
    progress.advance(1)
    time.sleep(0.1)
    assert told(site) == [("training", 0)]


def test_a_checkpoint_is_told_within_a_second_or_so(site: Site, tmp_path: Path) -> None:
    progress = reporter(target(site, tmp_path), NEVER)
    progress.begin("training", 100, "steps")
    wait_until(lambda: len(site.taken) == 1)
    progress.update(done=10, checkpoint_step=10)
    wait_until(lambda: [told.checkpoint_step for _, _, told in site.taken] == [None, 10], within=3)


def test_the_last_word_is_told_at_the_end(site: Site, tmp_path: Path) -> None:
    progress = reporter(target(site, tmp_path), NEVER)
    progress.begin("training", 100, "steps")
    wait_until(lambda: len(site.taken) == 1)
    progress.advance(7)
    progress.flush()
    assert told(site) == [("training", 0), ("training", 7)]


def test_what_was_told_is_not_told_again(site: Site, tmp_path: Path) -> None:
    progress = reporter(target(site, tmp_path))
    progress.begin("training", 100, "steps")
    wait_until(lambda: len(site.taken) == 1)
    progress.flush()
    time.sleep(3 * SOON)
    assert len(site.taken) == 1


def test_a_renewed_token_is_used(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    where = target(site, tmp_path)
    where.token.write_text(token(exp=int(time.time()) - 60))
    progress = reporter(where)
    progress.begin("training", 100, "steps")
    wait_until(lambda: lines(caplog) == [AWAY])
    where.token.write_text(token())
    wait_until(lambda: len(site.taken) == 1)


def test_an_operator_that_is_away_costs_two_lines_and_what_it_missed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lorafinetune")
    (tmp_path / "served").mkdir()
    with Site(tmp_path / "served") as site:
        progress = reporter(target(site, tmp_path))
    progress.begin("training", 100, "steps")
    for _ in range(20):
        progress.advance(1)
        time.sleep(0.01)
    assert lines(caplog) == [AWAY]
    with site:
        wait_until(lambda: told(site) == [("training", 20)])
    wait_until(lambda: lines(caplog) == [AWAY, BACK])


def test_nobody_waits_for_a_slow_operator(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with silent() as url:
        progress = reporter(replace(target(site, tmp_path), url=url), NEVER)
        progress.begin("training", 100_000, "steps")
        began = time.monotonic()
        for _ in range(5000):
            progress.advance(1)
        assert time.monotonic() - began < 2
        began = time.monotonic()
        progress.flush()
        assert FLUSH_SECONDS * 0.9 < time.monotonic() - began < FLUSH_SECONDS + 0.5
    wait_until(lambda: lines(caplog) == [AWAY])


def test_an_operator_that_is_away_is_not_waited_for_at_the_end(site: Site, tmp_path: Path) -> None:
    with silent() as url:
        pass
    progress = reporter(replace(target(site, tmp_path), url=url), NEVER)
    progress.begin("training", 100, "steps")
    began = time.monotonic()
    progress.flush()
    assert time.monotonic() - began < FLUSH_SECONDS / 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_token_is_not_sent_on(
    status: int, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = Elsewhere(site.folder, status, site.url)
    with here.serving():
        url = f"https://{HOST}:{here.server_port}/progress"
        progress = reporter(replace(target(site, tmp_path), url=url), NEVER)
        progress.begin("training", 100, "steps")
        wait_until(lambda: lines(caplog) == [AWAY])
    assert (here.asked, site.taken) == (["/progress"], [])


def test_a_proxy_is_not_used(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Elsewhere().serving() as proxy:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://{HOST}:{proxy.server_port}")
        reporter(target(site, tmp_path)).begin("training", 100, "steps")
        wait_until(lambda: len(site.taken) == 1)
    assert proxy.asked == []


Change = Callable[[Receiver, Site, Path], Receiver]
UNTRUSTED: dict[str, tuple[str, bool]] = {
    "is vouched for by another authority": (HOST, False),
    "has another name": ("elsewhere.example", True),
}
HOPELESS: dict[str, Change] = {
    "no https": lambda t, site, tmp: replace(t, url=t.url.replace("https", "http")),
    "no address": lambda t, site, tmp: replace(t, url="https://"),
    "no port": lambda t, site, tmp: replace(t, url="https://operator:none/progress"),
    "an unknown host": lambda t, site, tmp: replace(t, url="https://operator.invalid/progress"),
    "a garbled host": lambda t, site, tmp: replace(t, url="https://[::1/progress"),
    "a host with a label that is too long": lambda t, site, tmp: replace(t, url=f"https://{'a' * 64}.b/"),
    "a path that is no path": lambda t, site, tmp: replace(t, url=f"{t.url} HTTP/1.1\r\nX: y"),
    "no certificate": lambda t, site, tmp: replace(t, ca=""),
    "a garbled certificate": lambda t, site, tmp: replace(t, ca="-----BEGIN CERTIFICATE-----\nx"),
    "a certificate in another alphabet": lambda t, site, tmp: replace(t, ca="证书"),
    "no token": lambda t, site, tmp: replace(t, token=tmp / "none"),
    "a folder in the token's place": lambda t, site, tmp: replace(t, token=tmp),
    "a token of two lines": lambda t, site, tmp: replace(t, token=_written(tmp / "two", b"a\nX: b")),
    "a token that is no text": lambda t, site, tmp: replace(t, token=_written(tmp / "raw", b"\xff\x00")),
}


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("sentence", UNTRUSTED)
def test_no_token_is_shown_to_a_server_that(
    sentence: str, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name, vouched = UNTRUSTED[sentence]
    other = tmp_path / "other"
    other.mkdir()
    Authority(other).issue("tls", hosts=[name])
    with Elsewhere(other).serving() as here:
        url = f"https://{HOST}:{here.server_port}/progress"
        where = replace(target(site, tmp_path), url=url)
        where = replace(where, ca=(other / "ca.crt").read_text()) if vouched else where
        reporter(where, NEVER).begin("training", 100, "steps")
        wait_until(lambda: lines(caplog) == [AWAY])
    assert here.asked == []
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text


@pytest.mark.parametrize("sentence", HOPELESS)
def test_a_stage_goes_on_with(
    sentence: str, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    progress = reporter(HOPELESS[sentence](target(site, tmp_path), site, tmp_path), NEVER)
    progress.begin("training", 100, "steps")
    wait_until(lambda: lines(caplog) == [AWAY])
    progress.advance(1)
    progress.flush()
    assert lines(caplog) == [AWAY]
    assert site.taken == []


def test_a_progress_that_can_not_be_written_ends_nothing(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pusher = Pusher(target(site, tmp_path), SOON)
    pusher.offer(Progress.model_construct(stage="train", done=object()))  # type: ignore[arg-type]  # not JSON
    wait_until(lambda: lines(caplog) == [AWAY])
    pusher.offer(Progress(stage="train", done=1))
    wait_until(lambda: told(site) == [("", 1)])


def test_a_stage_is_told_where_to_post_by_its_environment(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = target(site, tmp_path)
    monkeypatch.setenv(PROGRESS_URL_VARIABLE, where.url)
    monkeypatch.setenv(PROGRESS_CA_VARIABLE, where.ca)
    monkeypatch.setenv(PROGRESS_TOKEN_VARIABLE, str(where.token))
    Reporter.from_environment("export").begin("merging", 100, "bytes")
    wait_until(lambda: [progress.stage for _, _, progress in site.taken] == ["export"])


def test_a_whole_stage_tells_its_last_word_and_ends_as_well_without_an_operator(
    site: Site, tmp_path: Path
) -> None:
    where = target(site, tmp_path)
    write(tmp_path / "s3" / "data", model())
    for number, url in enumerate(("https://operator.invalid/progress", where.url)):
        folder = tmp_path / str(number)
        folder.mkdir()
        environment = {
            ARGUMENTS_VARIABLE: Bench(folder).arguments("s3://data").model_dump_json(by_alias=True),
            MESSAGE_VARIABLE: str(folder / "message"),
            STORE_DIRECTORY_VARIABLE: str(tmp_path / "s3"),
            WORKDIR_VARIABLE: str(folder),
            PROGRESS_URL_VARIABLE: url,
            PROGRESS_CA_VARIABLE: where.ca,
            PROGRESS_TOKEN_VARIABLE: str(where.token),
        }
        command = [sys.executable, "-m", "lorafinetune_stages", "download"]
        subprocess.run(command, env=os.environ | environment, check=True, capture_output=True)
        assert isinstance(decode_message("download", (folder / "message").read_text()), DownloadResult)
    *_, last = [progress for _, _, progress in site.taken]
    assert (last.activity, last.done, last.unit) == ("downloading", last.total, "bytes")


def test_a_stage_that_posts_nothing_loads_nothing_for_it() -> None:
    code = (
        "import sys; from lorafinetune_stages.progress import Reporter; "
        "Reporter.from_environment('train').begin('training', 1, 'steps'); "
        "sys.exit(bool({'ssl', 'http.client', 'lorafinetune_stages.push'} & set(sys.modules)))"
    )
    quiet = {name: value for name, value in os.environ.items() if name != PROGRESS_URL_VARIABLE}
    subprocess.run([sys.executable, "-c", code], check=True, env=quiet)
