"""What vLLM's own parsers make of a command and of a request: they come before its server, which takes a GPU.

`python vllm_parsing.py serve …`, where vLLM is installed, prints as JSON what `vllm serve …` would be told by
its command line, and by a request whose body is the standard input.
"""

import json
import sys
from typing import Any, Final

import vllm.platforms
from vllm.platforms.cpu import CpuPlatform

vllm.platforms._current_platform = CpuPlatform()
"""vLLM finds no GPU here, and without a platform it has no defaults."""

from vllm.entrypoints.common.cli_args import make_arg_parser  # noqa: E402 - it asks for the platform
from vllm.entrypoints.openai.chat_completion.api_router import router  # noqa: E402
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest  # noqa: E402
from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: E402

OPTIONS: Final = ("model_tag", "port", "enable_lora", "max_lora_rank")


def main(arguments: list[str], body: str) -> None:
    told = vars(make_arg_parser(FlexibleArgumentParser()).parse_args(arguments))
    served: dict[str, Any] = {name: told[name] for name in OPTIONS}
    served["adapters"] = {module.name: module.path for module in told["lora_modules"]}
    asked = ChatCompletionRequest.model_validate_json(body)
    request = {"model": asked.model, "unknown": asked.model_extra}
    paths = [route.path for route in router.routes]
    sys.stdout.write(f"{json.dumps({'served': served, 'request': request, 'paths': paths})}\n")


if __name__ == "__main__":
    main(sys.argv[2:], sys.stdin.read())
