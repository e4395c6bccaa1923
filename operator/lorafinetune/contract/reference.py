"""The reference page of `training.extraArgs`, made from the table that the checks read:
`python -m lorafinetune.contract.reference`."""

import sys
from typing import Final

from lorafinetune.contract.extra_args import EXTRA_ARGUMENTS, OWNED, REFUSED, ExtraArgument, Refusal

ABOUT: Final = {
    "adam_beta1": "decay of Adam's first moment",
    "adam_beta2": "decay of Adam's second moment",
    "adam_epsilon": "what Adam adds to the denominator",
    "disable_shuffling": "takes the rows in their own order in every epoch",
    "eaft_alpha": "strength of the weights of `use_eaft_loss`",
    "logging_steps": "steps between two points of the loss curve",
    "loraplus_lr_embedding": "LoRA+: the learning rate of adapters of embeddings",
    "loraplus_lr_ratio": "LoRA+: how many times the learning rate of A that of B is",
    "neftune_noise_alpha": "NEFTune: strength of the noise on the embeddings",
    "optim": "the optimizer",
    "torch_empty_cache_steps": "steps between two times that torch gives back the memory it does not use",
    "use_dft_loss": "the DFT loss in place of cross-entropy",
    "use_eaft_loss": "the EAFT loss in place of cross-entropy",
}

INTRODUCTION: Final = """# Extra arguments

<!-- Generated from the table of arguments by `make generate`. -->

`spec.training.extraArgs` sets arguments of LLaMA-Factory that have no field of their own. Names are
LLaMA-Factory's, and every value is a string:

```yaml
training:
  epochs: "3"
  extraArgs: {neftune_noise_alpha: "5", adam_beta2: "0.95"}
```

Every argument of LLaMA-Factory is in exactly one of the three tables below. What is not in the first one is
refused with the reason: by `lorafinetune validate`, or by the operator before it makes a Job.
"""

ALLOWED: Final = """## Allowed

- **changes the result**: the argument is part of the training's key, so another value is another training. An
  argument that does not change the result can be edited at any time, and nothing is trained again.
- **can be packed**: the argument means the same for conversations that share a row. With one that can't be
  packed, `packing: auto` pads the conversations, which takes longer, and `packing: tokens` is refused.
- **objectives**: with another `training.objective` the argument is refused.

| argument | value | changes the result | can be packed | objectives | what it is |
|---|---|---|---|---|---|
"""

FIELDS: Final = """## Set by a field

These are refused in `extraArgs`: set the field.

| argument | field |
|---|---|
"""

REFUSALS: Final = """## Not allowed

| because | arguments |
|---|---|
"""


def page() -> str:
    """The page as Markdown."""
    allowed = "".join(_allowed(name, argument) for name, argument in EXTRA_ARGUMENTS.items())
    fields = "".join(f"| `{name}` | `spec.{field}` |\n" for name, field in OWNED.items())
    refused = "".join(_refused(refusal) for refusal in Refusal)
    return "\n".join([INTRODUCTION, ALLOWED + allowed, FIELDS + fields, REFUSALS + refused])


def _allowed(name: str, argument: ExtraArgument) -> str:
    said = ("no", "yes")
    cells = (
        f"`{name}`",
        argument.form,
        said[argument.shapes_result],
        said[argument.packing_safe],
        ", ".join(f"`{objective}`" for objective in argument.objectives),
        ABOUT[name],
    )
    return f"| {' | '.join(cells)} |\n"


def _refused(refusal: Refusal) -> str:
    names = ", ".join(f"`{name}`" for name in sorted(REFUSED) if REFUSED[name] is refusal)
    return f"| {refusal} | {names} |\n"


if __name__ == "__main__":
    sys.stdout.write(page())
