"""A kubelet in a thread, for tests that have something else to do: every Pod runs and ends well."""

import threading
import time
from types import TracebackType
from typing import Self

from apiserver.operating import Namespace, Object, outcome_of, uid
from cluster.client import ApiError
from lorafinetune.core.observed import STAGE_LABEL

PAUSE = 0.1


class Kubelet:
    """Takes the Pods of one namespace between enter and exit. seen: the uids of its Jobs, by stage."""

    def __init__(self, namespace: Namespace) -> None:
        self.seen: dict[str, set[str]] = {}
        self._namespace = namespace
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._thread.join()

    def _serve(self) -> None:
        while not self._left.is_set():
            try:
                self._look()
            except OSError:
                time.sleep(PAUSE)
            time.sleep(PAUSE)

    def _look(self) -> None:
        for job in self._namespace.items("jobs"):
            self.seen.setdefault(job["metadata"]["labels"][STAGE_LABEL], set()).add(uid(job))
        for pod in self._namespace.items("pods"):
            try:
                self._serve_pod(pod)
            except ApiError:
                continue

    def _serve_pod(self, pod: Object) -> None:
        if "deletionTimestamp" in pod["metadata"]:
            self._namespace.remove(pod)
        elif "nodeName" not in pod["spec"]:
            self._namespace.run(pod)
        elif pod["status"]["phase"] == "Running":
            self._namespace.end(pod, outcome_of(pod))
