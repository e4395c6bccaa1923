"""Ollama's own server. Its models lie in a folder that goes with the test."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.request import Request

from cluster.build import binary
from cluster.process import Process, Server, fetch, free_port

ANSWERS_WITHIN = 200


class Ollama(Server):
    """environment: whoever has it has Ollama's command line, which speaks with this server."""

    def __init__(self, folder: Path) -> None:
        program, address = binary("ollama"), f"127.0.0.1:{free_port()}"
        self.environment = {
            "HOME": str(folder),
            "OLLAMA_HOST": address,
            "OLLAMA_MODELS": str(folder / "models"),
            "OLLAMA_NO_CLOUD": "1",
            "PATH": f"{program.parent}:{os.environ['PATH']}",
        }
        self._url = f"http://{address}"
        self._process = Process([str(program), "serve"], folder / "ollama.log", self.environment)

    def start(self) -> None:
        self._process.start(lambda: fetch(f"{self._url}/api/version"))

    def stop(self) -> None:
        self._process.stop()

    def answer(self, model: str, question: str) -> tuple[str, list[float]]:
        """What the model says, and how likely it found each token: the logarithms."""
        messages = [{"role": "user", "content": question}]
        body = {"model": model, "messages": messages, "logprobs": True, "stream": False}
        request = Request(f"{self._url}/api/chat", json.dumps(body).encode())
        said: Any = json.loads(fetch(request, within=ANSWERS_WITHIN))
        return said["message"]["content"], [token["logprob"] for token in said["logprobs"]]
