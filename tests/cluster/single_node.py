"""A real Kubernetes of one node on this machine, from bare processes: for who has no cluster.

It is crash-only. Whatever state a start, a stop or a kill left behind, `end` removes all of it and
`start` begins with `end`; nothing needs to have been remembered.
"""

import hashlib
import shutil
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from cluster import components, images, network, packages, settings
from cluster.build import binary, one_at_a_time
from cluster.cgroups import ControlGroup
from cluster.client import Client
from cluster.components import Component
from cluster.layers import chains
from cluster.layout import NODE_NAME, Layout
from cluster.machine import Machine
from cluster.process import Process, fetch, say

MANIFESTS = Path(__file__).parent / "manifests"
PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "coredns",
    "pause",
)
TOOLS = ("kubectl", "helm")
PATIENCE = 180.0
TAKE = 'cd "$1"; shift; tar --create --remove-files blobs index.json oci-layout | "$@" -'
CTR = ("ctr", f"--address={settings.SOCKET}", "--namespace=k8s.io")


class SingleNode:
    """The one cluster of this machine (or of one cache folder, to be exact)."""

    def __init__(self) -> None:
        self.layout = Layout()
        owner = hashlib.sha256(str(self.layout.root).encode()).hexdigest()[:8]
        self.group = ControlGroup(f"lorafinetune-{owner}")
        self._machine = Machine(self.group, self.layout.logs)

    @property
    def kubeconfig(self) -> Path:
        return self.layout.kubeconfig

    @property
    def temporary(self) -> Path:
        """A file that is there while only tests want the cluster."""
        return self.layout.root / "temporary"

    def running(self) -> bool:
        """Whether pods can run on it; one that was killed half-way is not running."""
        try:
            self._machine.first_process()
            self.check_ready()
        except OSError:
            return False
        return True

    def start(self) -> None:
        """Bring it up anew: at most a minute, after whatever must be built once."""
        packages.ensure()
        for name in (*PROGRAMS, *TOOLS):
            binary(name)
        self.end()
        network.check_free()
        with step("namespaces, network and certificates"):
            self._prepare()
        with step("etcd, API server and containerd"):
            self._start_foundation()
        with step("controllers, scheduler, proxy, DNS and kubelet"):
            self._start_followers()

    def end(self) -> None:
        """Remove every process, interface, rule and file of it, however it came to be left."""
        self._machine.end()
        network.close_way_out(self.layout.way_out)
        if self.layout.root.exists():
            shutil.rmtree(self.layout.root)

    @contextmanager
    def silent(self, program: str = "kubelet") -> Iterator[None]:
        """A program of it, or of its pods, stands still while the block runs."""
        with self.group.paused(program):
            yield

    @contextmanager
    def without(self, name: str) -> Iterator[None]:
        """One of its components is killed, and is there again after the block."""
        component = next(c for c in components.every(self.layout) if c.name == name)
        with self.away(component):
            yield

    @contextmanager
    def away(self, component: Component) -> Iterator[None]:
        """What was started in it is killed, and is there again after the block."""
        self.group.kill_program(component.name)
        try:
            yield
        finally:
            self.serve(component)

    def serve(self, component: Component) -> None:
        """Start one more program in it, which stays until the cluster ends or somebody kills it."""
        process = self._launch(component)
        process.await_answer(lambda: self._answers(component), PATIENCE)
        process.let_go()

    @contextmanager
    def lost(self) -> Iterator[None]:
        """The kubelet and all that runs in pods is killed; a kubelet is there again after the block."""
        with self.without("kubelet"):
            self.group.kill_pods()
            yield

    def kill_container(self, called: str) -> None:
        """End all that runs in it without a word. called: as the status of its pod has it."""
        self._ctr("tasks", "kill", "--all", "--signal=SIGKILL", called.rpartition("/")[2])

    @contextmanager
    def container_paused(self, called: str) -> Iterator[None]:
        """All that runs in it stands still while the block runs. called: as the status of its pod has it."""
        with self.group.container_paused(called.rpartition("/")[2]):
            yield

    def check_ready(self) -> None:
        """Raise OSError unless pods can run: the node is well, and a pod would have its identity."""
        client = self._client()
        client.get("/api/v1/namespaces/default/serviceaccounts/default")
        conditions = client.get(f"/api/v1/nodes/{NODE_NAME}")["status"]["conditions"]
        if not any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
            raise InterruptedError(f"the node is not ready: {conditions}")

    def run(self, *command: str) -> str:
        """What a command prints that runs in it."""
        return self._machine.run(*command)

    def has_image(self, reference: str) -> bool:
        return reference in self._ctr("images", "list", "--quiet", f"name=={reference}").split()

    def offer(self, reference: str) -> None:
        """See that pods can run the image; what it shares with images that are here is not copied."""
        with one_at_a_time("offers"):
            held = {line.split()[0] for line in self._ctr("snapshots", "list").splitlines()[1:]}
            unpacked = held.issuperset(chains(images.layers(reference)))
            if not (unpacked and self.has_image(reference)):
                with step(f"import of {reference}"):
                    images.export(reference, held, self._take)

    def alias(self, reference: str, other: str) -> None:
        """Let pods know an image by another name too, whichever image had it."""
        self._ctr("images", "tag", "--force", reference, other)

    def _take(self, reference: str, layout: Path) -> None:
        """Unpack the layers; keeping them packed as well would only take space."""
        name = f"--base-name={reference.rpartition(':')[0]}"
        self._machine.run("sh", "-c", TAKE, "take", str(layout), *CTR, "images", "import", name, within=900)
        self._ctr("content", "prune", "references")

    def _prepare(self) -> None:
        self.layout.create()
        settings.write(self.layout, self.group.path, images.program("pause"))
        for tool in TOOLS:
            (self.layout.programs / tool).symlink_to(binary(tool))
        self._machine.start(NODE_NAME)
        network.open_way_out(self.layout.way_out)

    def _start_foundation(self) -> None:
        containerd = self._launch(components.containerd(self.layout))
        etcd = components.etcd(self.layout)
        self._launch(etcd).await_answer(partial(self._probe, etcd), PATIENCE)
        apiserver = components.apiserver(self.layout)
        process = self._launch(apiserver)
        containerd.await_answer(lambda: self._ctr("version"), PATIENCE)
        self._sort_images()
        process.await_answer(partial(self._probe, apiserver), PATIENCE)
        self._client().apply_file(MANIFESTS / "dns.yaml")

    def _start_followers(self) -> None:
        started = [(component, self._launch(component)) for component in components.followers(self.layout)]
        for component, process in started:
            process.await_answer(partial(self._probe, component), PATIENCE)
        kubelet = started[0][1]
        kubelet.await_answer(self.check_ready, PATIENCE)

    def _sort_images(self) -> None:
        """Drop those that nothing could name any more, and see that pods can start."""
        rows = [line.split() for line in self._ctr("images", "list").splitlines()[1:]]
        known = images.known()
        kept = {digest for name, _, digest, *_ in rows if name in known}
        for name, _, digest, *_ in rows:
            if digest not in kept:
                self._ctr("images", "remove", name)
        self.offer(images.program("pause"))

    def _launch(self, component: Component) -> Process:
        log = self.layout.logs / f"{component.name}.log"
        process = Process(self._machine.inside(*component.command()), log, detached=True)
        process.launch()
        return process

    def _probe(self, component: Component) -> None:
        authority = ssl.create_default_context(cafile=str(self.layout.certificates / "ca.crt"))
        fetch(component.health, authority)

    def _answers(self, component: Component) -> None:
        if component.health:
            self._probe(component)
        else:
            self._ctr("version")

    def _client(self) -> Client:
        return Client(self.kubeconfig)

    def _ctr(self, *command: str, within: float = 120) -> str:
        return self._machine.run(*CTR, *command, within=within)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Tell how long something took, in seconds."""
    started = time.monotonic()
    yield
    say(f"{time.monotonic() - started:5.1f} s  {what}")
