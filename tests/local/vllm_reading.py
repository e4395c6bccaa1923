"""What vLLM does with an adapter that a server is given, up to the layers of its model, which take a GPU:
`python vllm_reading.py MAX_RANK FOLDER…`, where vLLM is installed.

Of each folder it prints in a line what vLLM has against it. Where that is nothing, FOLDER.read has the two
matrices of each module, the second one scaled.
"""

import json
import sys
from pathlib import Path
from typing import Final

from safetensors.torch import save_file
from torch import Tensor
from vllm.config.lora import LoRAConfig
from vllm.lora.lora_model import LoRAModel
from vllm.lora.peft_helper import PEFTHelper
from vllm.model_executor.models.llama import LlamaForCausalLM

PACKED: Final = LlamaForCausalLM.packed_modules_mapping.values()
EXPECTED: Final = {*(module for modules in PACKED for module in modules), "o_proj", "down_proj"}
"""The linear layers of a Llama, whose names vLLM has from its own model."""
CPU: Final = "cpu:0"
"""Of `cpu` vLLM would pin the memory, which takes a GPU."""


def main(max_rank: int, folders: list[str]) -> None:
    config = LoRAConfig(max_lora_rank=max_rank)
    for folder in folders:
        sys.stdout.write(f"{json.dumps(read(Path(folder), config))}\n")


def read(folder: Path, config: LoRAConfig) -> str:
    """What vLLM has against it."""
    try:
        helper = PEFTHelper.from_local_dir(str(folder), None)
        helper.validate_legal(config)
        adapter = LoRAModel.from_local_checkpoint(str(folder), EXPECTED, helper, device=CPU)
    except ValueError as refusal:
        return str(refusal)
    kept: dict[str, Tensor] = {}
    for name, weights in adapter.loras.items():
        weights.optimize()
        kept |= {f"{name}.a": weights.lora_a, f"{name}.b": weights.lora_b}
    save_file(kept, folder.with_suffix(".read"))
    return ""


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
