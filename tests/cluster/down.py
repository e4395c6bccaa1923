"""`make cluster-down`: end the cluster that `make cluster-up` made, and all that is left of it."""

import sys

from cluster import packages
from cluster.build import one_at_a_time
from cluster.process import ServerError, say
from cluster.single_node import SingleNode


def main() -> int:
    try:
        packages.become_administrator()
        with one_at_a_time("containerd"):
            SingleNode().end()
    except (ServerError, OSError) as error:
        say(f"the cluster did not end: {error}")
        return 1
    say("the cluster is down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
