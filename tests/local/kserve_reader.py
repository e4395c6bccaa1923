"""KServe's storage initializer, in an environment of its own: it brings a model into a pod before the server
starts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cluster.environments import environment
from cluster.process import run

PROJECT: Final = Path(__file__).parent / "readers" / "kserve"
PROGRAM: Final = "import sys; from kserve_storage import Storage; Storage.download(*sys.argv[1:])"
ANNOTATION: Final = "serving.kserve.io/s3-"


def initialize(uri: str, to: Path, secret: Mapping[str, Any]) -> None:
    """Downloads what is at a URI, with what KServe's controller makes of a Secret for it."""
    python = environment(PROJECT, "kserve") / "bin" / "python"
    run(str(python), "-c", PROGRAM, uri, str(to), environment=_variables(secret), name="the initializer")


def _variables(secret: Mapping[str, Any]) -> dict[str, str]:
    """As the controller names them."""
    told = {name.removeprefix(ANNOTATION): value for name, value in secret["metadata"]["annotations"].items()}
    scheme = "http" if told["usehttps"] == "0" else "https"
    return {
        **secret["stringData"],
        "AWS_DEFAULT_REGION": told["region"],
        "AWS_ENDPOINT_URL": f"{scheme}://{told['endpoint']}",
        "S3_ENDPOINT": told["endpoint"],
        "S3_USE_HTTPS": told["usehttps"],
    }
