"""`make cluster-up`: a real Kubernetes of one node on this machine, unless it is there already.

Prints what to put into the shell on standard output, and what it does on standard error, so that
`eval "$(make -s cluster-up)"` works.
"""

import sys
import time

from cluster import packages
from cluster.build import one_at_a_time
from cluster.process import ServerError, say
from cluster.single_node import SingleNode
from cluster.sources import BuildError


def main() -> int:
    try:
        packages.become_administrator()
        with one_at_a_time("containerd"):
            _up(SingleNode())
    except (ServerError, BuildError, OSError) as error:
        say(f"the cluster did not come up: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; `make cluster-down` removes what is there")
        return 130
    return 0


def _up(cluster: SingleNode) -> None:
    if cluster.running():
        say("the cluster is up already")
    else:
        started = time.monotonic()
        cluster.start()
        say(f"the cluster is up, after {time.monotonic() - started:.0f} s; it uses {_megabytes(cluster)} MB")
    cluster.temporary.unlink(missing_ok=True)
    sys.stdout.write(f"export KUBECONFIG={cluster.kubeconfig}\n")
    sys.stdout.write(f"export PATH={cluster.layout.programs}:$PATH\n")


def _megabytes(cluster: SingleNode) -> int:
    return round(cluster.group.memory() / 1e6)


if __name__ == "__main__":
    sys.exit(main())
