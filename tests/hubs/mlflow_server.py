"""A real MLflow server, in an environment of its own, locked in `mlflow/`."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request

from cluster.environments import environment
from cluster.process import Process, Server, fetch, free_port

PROJECT = Path(__file__).parent / "mlflow"
STARTS_WITHIN = 120


class MlflowServer(Server):
    """Keeps its runs in a file. It is asked by the REST API."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [
            str(environment(PROJECT, "mlflow") / "bin" / "mlflow"),
            "server",
            f"--backend-store-uri=sqlite:///{directory}/runs.db",
            f"--artifacts-destination={directory}",
            "--host=127.0.0.1",
            f"--port={port}",
            "--workers=1",
        ]
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": "", "PYTHONWARNINGS": "ignore"}
        self._process = Process(command, directory / "mlflow.log", quiet)

    def start(self) -> None:
        self._process.start(lambda: fetch(f"{self.url}/health"), STARTS_WITHIN)

    def stop(self) -> None:
        self._process.stop()

    def get(self, method: str, **query: Any) -> Any:
        return json.loads(fetch(f"{self._api(method)}?{urlencode(query)}"))

    def post(self, method: str, **body: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        return json.loads(fetch(Request(self._api(method), json.dumps(body).encode(), headers)))

    def runs(self, experiment: str) -> list[Any]:
        """Those of an experiment, in no order."""
        found = self.get("experiments/get-by-name", experiment_name=experiment)["experiment"]
        return list(self.post("runs/search", experiment_ids=[found["experiment_id"]]).get("runs", []))

    def curve(self, run: str, name: str) -> list[tuple[int, float]]:
        """A metric by step, as often as the server has it."""
        found = self.get("metrics/get-history", run_id=run, metric_key=name).get("metrics", [])
        return sorted((metric["step"], metric["value"]) for metric in found)

    def _api(self, method: str) -> str:
        return f"{self.url}/api/2.0/mlflow/{method}"
