"""The real operator with nothing but what the chart gives it: its variables, its certificate, its account."""

import base64
import http.client
import re
import socket
import ssl
from collections.abc import Iterator

import pytest

from apiserver.operating import Namespace, Operator
from chart.helm import NAMESPACE, OPERATOR, Values, at, render
from chart.permissions import SELDOM, SERVED
from chart.site import Permission, Site
from chart.variants import VARIANTS
from cluster.controllers import Controllers
from cluster.kubeconfig import kubeconfig
from cluster.process import fetch, free_port
from lorafinetune.contract.arguments import PROGRESS_CA_VARIABLE, PROGRESS_URL_VARIABLE
from lorafinetune.contract.outcome import Progress
from lorafinetune.core.jobs import PROGRESS_AUDIENCE
from lorafinetune.shell import settings

pytestmark = pytest.mark.apiserver

TEAM = "team"
HOST, PATH = f"lorafinetune.{NAMESPACE}.svc", "/progress"
RECEIVER = ("127.0.0.1", free_port())
GROUPS = {"lorafinetunes": "lorafinetune.dev", "jobs": "batch"}
CALL = re.compile(r'^lorafinetune_api_calls_total\{code="(.+)",resource="(.+)",verb="(.+)"\}', re.MULTILINE)


def variables(values: Values) -> dict[str, str]:
    container = at(render(OPERATOR, values), "Deployment/lorafinetune: spec.template.spec.containers.0")
    return {one["name"]: one["value"] for one in container["env"] if "value" in one}


@pytest.fixture(scope="module")
def runs(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """A namespace that is served by the operator of an installed chart."""
    with Controllers(tmp_path_factory.mktemp("controllers"), site.server):
        namespace = Namespace(site.server, TEAM)
        site.new_namespace(NAMESPACE)
        site.install("lorafinetune", OPERATOR, NAMESPACE, {"watch": {"namespaces": [TEAM]}})
        yield namespace


@pytest.fixture(scope="module")
def operator(site: Site, runs: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    folder = tmp_path_factory.mktemp("operator")
    secret = site.get("secret", "lorafinetune-tls", f"--namespace={NAMESPACE}")
    for name, content in secret["data"].items():
        (folder / name).write_bytes(base64.b64decode(content))
    token = site.kubectl("create", "token", "lorafinetune", f"--namespace={NAMESPACE}").strip()
    file = folder / "kubeconfig"
    file.write_text(kubeconfig(site.server.url, site.server.ca_file.read_bytes(), token))
    here = {
        settings.TLS_DIRECTORY: str(folder),
        settings.PROGRESS_ADDRESS: ":".join(map(str, RECEIVER)),
    }
    running = Operator(file, folder / "operator.log", **variables({"watch": {"namespaces": [TEAM]}}) | here)
    running.start()
    yield running
    running.stop()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_operator_reads_every_variable_that_it_is_given(variant: str) -> None:
    given = variables(VARIANTS[variant])
    known = {value for name, value in vars(settings).items() if name.isupper() and isinstance(value, str)}
    assert given.keys() <= known
    read = settings.read(given)
    assert read.namespaces == tuple(VARIANTS[variant].get("watch", {}).get("namespaces", ()))
    assert (read.progress is not None) == VARIANTS[variant].get("progress", {}).get("enabled", True)
    assert read.log_format == "json"


def test_the_ports_are_those_that_the_operator_listens_at() -> None:
    objects = render(OPERATOR)
    read = settings.read(variables({}))
    assert read.progress
    listens = [read.status_address.port, read.progress.address.port]
    ports = at(objects, "Deployment/lorafinetune: spec.template.spec.containers.0.ports")
    assert [port["containerPort"] for port in ports] == listens
    assert [port["port"] for port in at(objects, "Service/lorafinetune: spec.ports")] == listens


def test_a_whole_life_needs_what_is_granted_and_nothing_else(operator: Operator, runs: Namespace) -> None:
    runs.apply("whole", {"ttlSecondsAfterFinished": 86400})
    runs.finish_all("whole")
    runs.apply("stopped")
    runs.job("stopped", "download")
    runs.edit("stopped", {"suspend": True})
    runs.wait(lambda: not runs.jobs_of("stopped"))
    runs.wait(lambda: "patch" in {verb for verb, _, _ in used(operator)})
    assert operator.metric("lorafinetune_api_calls_total", code="403") == 0
    assert used(operator) <= SERVED
    assert SERVED - used(operator) <= SELDOM


def used(operator: Operator) -> set[Permission]:
    """What the operator asked the API server for, but the keys of tokens, which are no object."""
    found = CALL.findall(fetch(f"{operator.url}/metrics").decode())
    calls = {(verb, resource) for _, resource, verb in found if resource != "other"}
    return {(verb, GROUPS.get(resource.partition("/")[0], ""), resource) for verb, resource in calls}


def test_a_stage_that_trusts_what_it_is_told_may_post(
    site: Site, operator: Operator, runs: Namespace
) -> None:
    runs.apply("posting")
    pod = runs.pod(runs.job("posting", "download"))
    told = {one["name"]: one.get("value") for one in pod["spec"]["containers"][0]["env"]}
    assert told[PROGRESS_URL_VARIABLE] == f"https://{HOST}:8443{PATH}"
    bound = [f"--bound-object-name={pod['metadata']['name']}", f"--bound-object-uid={pod['metadata']['uid']}"]
    audience = [f"--audience={PROGRESS_AUDIENCE}", "--bound-object-kind=Pod"]
    token = site.kubectl("create", "token", "default", f"--namespace={TEAM}", *audience, *bound).strip()
    context = ssl.create_default_context(cadata=told[PROGRESS_CA_VARIABLE])
    assert posted(context, token) == 204
    assert posted(context, "another") == 401


def posted(context: ssl.SSLContext, token: str) -> int:
    """The answer to one post to the receiver, which is called by the name of its Service."""
    connection = http.client.HTTPSConnection(HOST)
    with socket.create_connection(RECEIVER) as plain:
        connection.sock = context.wrap_socket(plain, server_hostname=HOST)
        body = Progress(stage="download", done=1, total=2, unit="files").model_dump_json(by_alias=True)
        connection.request("POST", PATH, body, {"Authorization": f"Bearer {token}"})
        status = connection.getresponse().status
        connection.close()
    return status
