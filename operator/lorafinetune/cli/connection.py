"""How the API server is reached: what kubectl would do with the same flags, by Kubernetes' own client."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lorafinetune.api.safetext import safe_line
from lorafinetune.cli.cluster import ApiError, Cluster, Response
from lorafinetune.cli.errors import CommandError

if TYPE_CHECKING:
    from kubernetes.client import Configuration

HOME: Final = "~/.kube/config"
ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
CONNECT_SECONDS: Final = 10
NO_CLIENT: Final = "NoClient: Kubernetes' client is not installed. Install it: pip install '.[cluster]'"


@dataclass(frozen=True)
class Access:
    """Which cluster and namespace a person means; empty: as the kubeconfig says."""

    context: str = ""
    namespace: str = ""
    kubeconfig: str = ""

    @property
    def files(self) -> str:
        """The kubeconfigs, which are merged, as `KUBECONFIG` lists them."""
        return self.kubeconfig or os.environ.get("KUBECONFIG") or HOME

    @property
    def exists(self) -> bool:
        return any(Path(file).expanduser().exists() for file in self.files.split(os.pathsep) if file)


def connect(access: Access) -> Cluster:
    """The cluster that is meant; nothing is asked yet. Raises CommandError."""
    try:
        from kubernetes import client
    except ModuleNotFoundError:
        raise CommandError(NO_CLIENT) from None
    settings = client.Configuration()
    if not access.exists and not access.kubeconfig and ACCOUNT.exists():
        namespace = _as_service_account(settings)
    else:
        namespace = _as_kubeconfig(settings, access)
    return Cluster(settings.host.rstrip("/"), access.namespace or namespace, _Sender(settings))


def _as_kubeconfig(settings: "Configuration", access: Access) -> str:
    """Fills the settings, and returns the context's namespace."""
    from kubernetes import config
    from kubernetes.config import ConfigException

    if not access.exists:
        raise _no_cluster(f"there is no kubeconfig at {access.files}", "Give --kubeconfig FILE.")
    load: Callable[..., None] = config.load_kube_config
    contexts_in: Callable[..., Any] = config.list_kube_config_contexts
    try:
        with _overheard() as said:
            contexts, current = contexts_in(access.files)
            load(access.files, access.context or None, client_configuration=settings, persist_config=False)
    except ConfigException as problem:
        raise _no_cluster(safe_line(str(problem)), "Give another one with --context.") from None
    except Exception as problem:  # a hostile file breaks the client in many ways
        told = f"{access.files} can't be used: {_fault(problem)}"
        raise _no_cluster(told, "Mend it, or give another one with --kubeconfig.") from None
    if said:
        raise _no_cluster(
            f"the credential plugin fails: {safe_line(said[0])}", "Install it, or log in again."
        )
    name = access.context or current["name"]
    chosen = next(each["context"] for each in contexts if each["name"] == name)
    return str(chosen.get("namespace") or "default")


def _fault(problem: Exception) -> str:
    """The client's own words only where they are for a person."""
    from yaml import YAMLError

    if isinstance(problem, YAMLError):
        return safe_line(str(problem))
    return str(problem.strerror).lower() if isinstance(problem, OSError) else "it is no kubeconfig"


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """What the client logs of a credential plugin in place of an exception."""
    said: list[str] = []
    root = logging.getLogger()

    def keep(record: logging.LogRecord) -> bool:
        said.append(record.getMessage())
        return False

    root.addFilter(keep)
    try:
        yield said
    finally:
        root.removeFilter(keep)


def _as_service_account(settings: "Configuration") -> str:
    from kubernetes import config

    load: Callable[..., None] = config.load_incluster_config
    load(client_configuration=settings)
    return ACCOUNT.read_text().strip()


def _no_cluster(message: str, hint: str) -> CommandError:
    return CommandError(f"NoCluster: {message}. {hint}")


class _Sender:
    """Sends with the credentials of the settings, which renews them where they run out."""

    def __init__(self, settings: "Configuration") -> None:
        from kubernetes.client import ApiClient

        self._settings = settings
        self._pool: Any = ApiClient(settings).rest_client.pool_manager

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, quiet: float
    ) -> Response:
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError

        login: Any = self._settings.auth_settings()
        try:
            response = self._pool.request(
                method,
                url,
                headers={**headers, **{each["key"]: each["value"] for each in login.values()}},
                body=body,
                timeout=Timeout(connect=min(CONNECT_SECONDS, quiet), read=quiet),
                retries=False,
                preload_content=False,
            )
        except HTTPError as problem:
            raise _no_answer(self._settings.host, problem) from None
        return _Answer(response, self._settings.host)


class _Answer:
    """An answer whose end may be missing."""

    def __init__(self, response: Any, server: str) -> None:
        self._response = response
        self._server = server
        self.status: int = response.status

    def stream(self, amt: int = 2**16) -> Any:
        from urllib3.exceptions import HTTPError

        try:
            yield from self._response.stream(amt)
        except HTTPError as problem:
            raise _no_answer(self._server, problem) from None

    def release_conn(self) -> None:
        self._response.close()


def _no_answer(server: str, problem: Exception) -> ApiError:
    """The system's own words, where there are any below the library's."""
    cause: BaseException | None = problem
    while cause is not None and not (isinstance(cause, OSError) and cause.strerror):
        cause = cause.__cause__ or cause.__context__
    what = cause.strerror.lower() if isinstance(cause, OSError) and cause.strerror else _words(problem)
    return ApiError(0, "NoAnswer", f"{server} does not answer: {what}")


def _words(problem: Exception) -> str:
    text = safe_line(str(problem))
    return "it takes too long" if "timed out" in text.lower() else text.rpartition(": ")[2] or repr(problem)
