"""How rows become a dataset, by what is to be learned from them.

Importing this module imports torch, transformers and LLaMA-Factory, which takes long.
"""

from collections.abc import Sequence
from pathlib import Path

from llamafactory.data.template import get_template_and_fix_tokenizer

from lorafinetune.contract.arguments import PrepareArguments
from lorafinetune_stages.prepare.blocks import BlockBuilder, TextTokeniser
from lorafinetune_stages.prepare.conversation_builder import ConversationBuilder
from lorafinetune_stages.prepare.corpus import Corpus
from lorafinetune_stages.prepare.examples import Example
from lorafinetune_stages.prepare.findings import Findings
from lorafinetune_stages.prepare.pair_builder import PairBuilder, PairTokeniser
from lorafinetune_stages.prepare.preflight import Toolkit
from lorafinetune_stages.prepare.splits import Splits
from lorafinetune_stages.prepare.template_comparison import TemplateFit, fit_template
from lorafinetune_stages.store import Advance


def fit_builder(
    arguments: PrepareArguments,
    template: str,
    toolkit: Toolkit,
    corpus: Corpus,
    findings: Findings,
    examples: Sequence[Example],
    root: Path,
    advance: Advance,
) -> tuple[Splits, TemplateFit]:
    """What writes the dataset, and how well the template fits the model; plain texts have no template.
    examples: rows to compare it on.

    Raises StageError(TemplateMismatch).
    """
    common = (corpus, findings, root, advance)
    if arguments.training.objective == "pt":
        get_template_and_fix_tokenizer(toolkit.tokenizer, toolkit.data_args)
        return BlockBuilder(*common, TextTokeniser(toolkit.tokenizer, toolkit.data_args)), TemplateFit()
    tokeniser, fit = fit_template(template, arguments.template is None, toolkit, examples)
    if arguments.training.objective == "sft":
        return ConversationBuilder(*common, tokeniser), fit
    pairs = PairTokeniser(tokeniser.template, toolkit.tokenizer, toolkit.processor, toolkit.data_args)
    return PairBuilder(*common, pairs), fit
