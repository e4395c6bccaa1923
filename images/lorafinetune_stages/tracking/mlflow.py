"""MLflow, by its REST API 2.0, with connections and refusals of ours.

Its own client makes connections by itself, follows redirects, asks git and the environment who we are, and
brings the clients of Databricks and of OpenTelemetry; what it would be asked for here are six requests of an
API that is documented. A run is found again by a tag, for the server gives ids of its own.
"""

import base64
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Final, TypeVar

import httpx

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import PASSWORD_KEY, USERNAME_KEY, credential_variable
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.hubs import Pause
from lorafinetune_stages.hubs.http import Http
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.hubs.retry import retry
from lorafinetune_stages.tracking.record import Record

API: Final = "api/2.0/mlflow"
TAG: Final = "lorafinetune.id"
MAX_METRICS: Final = 1000
"""Of one request, as the API has it."""
MAX_OTHERS: Final = 100
"""Parameters, or tags, of one request."""
FINISHED: Final = "FINISHED"

One = TypeVar("One")


def tell(origin: Origin, experiment: str, record: Record, pause: Pause) -> None:
    """Brings the run of that id to the state of the record. Raises StageError."""
    with closing(_Server(origin, pause)) as server:
        run, is_finished = retry(partial(server.run, server.experiment(experiment), record), pause)
        for batch in _batches(record, is_finished):
            server.post("runs/log-batch", {"run_id": run, **batch})
        server.post("runs/update", {"run_id": run, "status": FINISHED, "end_time": _milliseconds(record)})


class _Server:
    """One MLflow server."""

    def __init__(self, origin: Origin, pause: Pause) -> None:
        self._origin = origin
        self._pause = pause
        self._http = Http(origin, _authorization(origin), self._explain)
        self._api = f"{origin.endpoint}/{API}"

    def close(self) -> None:
        self._http.close()

    def post(self, method: str, body: Mapping[str, Any]) -> None:
        retry(partial(self._asked, method, body), self._pause)

    def experiment(self, name: str) -> str:
        """The id of an experiment, which is made where it is missing. Somebody who was faster is no error."""
        find = partial(self._find, name)
        found = retry(find, self._pause)
        if found is None:
            try:
                return self._text(self._asked("experiments/create", {"name": name}), "experiment_id")
            except StageError as refused:
                found = retry(find, self._pause)
                if found is None:
                    raise refused
        return found

    def run(self, experiment: str, record: Record) -> tuple[str, bool]:
        """The id of the run that has our tag, which is made where it is missing; and whether all was told of
        it."""
        wanted = {"experiment_ids": [experiment], "filter": f"tags.`{TAG}` = '{record.id}'", "max_results": 1}
        if found := self._asked("runs/search", wanted).get("runs"):
            info = self._part(found[0] if isinstance(found, list) else None, "info")
            return self._text(info, "run_id"), info.get("status") == FINISHED
        begun = {
            "experiment_id": experiment,
            "run_name": record.name,
            "start_time": _milliseconds(record),
            "tags": [{"key": TAG, "value": record.id}],
        }
        made = self._part(self._asked("runs/create", begun), "run")
        return self._text(self._part(made, "info"), "run_id"), False

    def _find(self, name: str) -> str | None:
        try:
            answer = self._http.get(f"{self._api}/experiments/get-by-name", {"experiment_name": name})
        except StageError as problem:
            if problem.reason is self._origin.missing:
                return None
            raise
        found = self._part(self._decoded(answer), "experiment")
        if found.get("lifecycle_stage") == "deleted":
            what = f"its experiment {name!r} is deleted there: restore it, or name another"
            raise self._origin.error(Reason.CONFIG_INVALID, f"{self._origin.failed}: {what}")
        return self._text(found, "experiment_id")

    def _asked(self, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._decoded(self._http.ask(f"{self._api}/{method}", body))

    def _decoded(self, answer: bytes) -> dict[str, Any]:
        try:
            return self._object(json.loads(answer))
        except (ValueError, RecursionError) as problem:
            raise self._strange() from problem

    def _part(self, value: Any, name: str) -> dict[str, Any]:
        return self._object(self._object(value).get(name))

    def _object(self, value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        raise self._strange()

    def _text(self, value: Mapping[str, Any], name: str) -> str:
        text = value.get(name)
        if isinstance(text, str):
            return text
        raise self._strange()

    def _strange(self) -> StageError:
        return self._http.unavailable("answers with something else than MLflow does")

    def _explain(self, answer: httpx.Response) -> StageError:
        reasons = {
            401: Reason.CREDENTIALS_INVALID,
            403: Reason.CREDENTIALS_INVALID,
            404: self._origin.missing,
        }
        reason = reasons.get(answer.status_code, Reason.HUB_UNAVAILABLE)
        what = f"{self._origin.failed}: {self._origin.host} answers {answer.status_code}"
        return self._origin.error(reason, what)


def _authorization(origin: Origin) -> dict[str, str]:
    """By name and password where the Secret has them, else by its token."""
    name = origin.connection.name if origin.connection else ""
    user, password = (
        os.environ.get(credential_variable(name, key), "") for key in (USERNAME_KEY, PASSWORD_KEY)
    )
    if user and password:
        return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
    token = origin.token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _batches(record: Record, is_finished: bool) -> Iterator[dict[str, Any]]:
    """What is told of a run, in parts that the API takes. Of one that was told whole nothing but the tags can
    have changed."""
    yield from ({"tags": part} for part in _parts(_pairs(record.tags), MAX_OTHERS))
    if not is_finished:
        yield from ({"params": part} for part in _parts(_pairs(record.parameters), MAX_OTHERS))
        yield from ({"metrics": part} for part in _parts(list(_metrics(record)), MAX_METRICS))


def _metrics(record: Record) -> Iterator[dict[str, Any]]:
    at = _milliseconds(record)
    points = [*((point.step, point.values) for point in record.points), (record.last_step, record.results)]
    for step, values in points:
        yield from ({"key": n, "value": v, "timestamp": at, "step": step} for n, v in values.items())


def _pairs(texts: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": name, "value": text} for name, text in texts.items()]


def _parts(values: Sequence[One], size: int) -> Iterator[Sequence[One]]:
    yield from (values[at : at + size] for at in range(0, len(values), size))


def _milliseconds(record: Record) -> int:
    return int(record.ended.timestamp() * 1000)
