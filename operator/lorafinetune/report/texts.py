"""What the page says, in its two languages. Texts of others (messages, sources, rows) stay as they are."""

from typing import Any, Final

from lorafinetune.report.language import Language

COLUMN: Final = {Language.EN: 0, Language.ZH: 1}

TEXTS: Final[dict[str, tuple[str, str]]] = {
    "title": ("Fine-tuning {name}", "微调 {name}"),
    "about": ("{model}, in {namespace}: {stage}", "{model}，命名空间 {namespace}：{stage}"),
    "notStarted": ("not started", "未开始"),
    "failed": ("{stage} failed: {reason}", "{stage} 失败：{reason}"),
    "waits": ("{stage} waits: {reason}", "{stage} 等待中：{reason}"),
    "aRun": ("the run", "运行"),
    "hint": ("What to do: {hint}", "处理方法：{hint}"),
    # The verdict
    "verdict": ("Verdict", "结论"),
    "unfinished": (
        "No verdict: the training has not come to its end.",
        "暂无结论：训练尚未结束。",
    ),
    "noEvaluation": (
        "No verdict: nothing was evaluated on held-out rows. Set training.evaluation to know next time.",
        "无结论：没有在留出样本上做过评估。下次请设置 training.evaluation。",
    ),
    "fewRows": (
        "No verdict: it would take {needed} held-out rows that are not trained on, and there are {rows}.",
        "无结论：至少需要 {needed} 条未参与训练的留出样本，实际只有 {rows} 条。",
    ),
    "once": (
        "No verdict: there is one evaluation, and the base model was not evaluated, "
        "so there is nothing to compare with.",
        "无结论：只评估过一次，且未评估基座模型，没有可比较的对象。",
    ),
    "better": (
        "On the held-out rows the tuned model is better than its base: the loss is lower by {change}.",
        "在留出样本上，微调后的模型优于基座模型：损失降低了 {change}。",
    ),
    "notBetter": (
        "On the held-out rows the tuned model is not better than its base: the loss is higher by {change}.",
        "在留出样本上，微调后的模型并不优于基座模型：损失升高了 {change}。",
    ),
    "chance": (
        "No verdict: the losses of the base and the tuned model differ by {change}, "
        "which may be chance on these rows.",
        "无结论：基座模型与微调模型的损失相差 {change}，在这些样本上可能只是偶然。",
    ),
    "uncompared": (
        "No verdict: the losses of the base and the tuned model differ by {change}, but rows were not "
        "compared one by one, so how far chance goes is not known.",
        "无结论：基座模型与微调模型的损失相差 {change}，但未逐条比较样本，因此偶然误差的大小未知。",
    ),
    "fell": (
        "No verdict: the base model was not evaluated. "
        "The loss on the held-out rows fell by {change} between the first evaluation and the last.",
        "无结论：未评估基座模型。从首次评估到末次评估，留出样本上的损失降低了 {change}。",
    ),
    "notFallen": (
        "No verdict: the base model was not evaluated. The loss on the held-out rows did not fall: "
        "between the first evaluation and the last it rose by {change}.",
        "无结论：未评估基座模型。留出样本上的损失没有降低：从首次评估到末次评估升高了 {change}。",
    ),
    "baseUnknown": (
        "How much the loss fell or rose before the first evaluation is not known.",
        "首次评估之前的变化未知。",
    ),
    "overfits": (
        "The best loss, {best}, was at step {step}, and has risen by {risen} since: a sign of over-fitting.",
        "最低损失 {best} 出现在第 {step} 步，此后升高了 {risen}：这是过拟合的迹象。",
    ),
    "tookBest": (
        "The best loss, {best}, was at step {step}, and rose by {risen} afterwards: "
        "the result is the adapter of that step.",
        "最低损失 {best} 出现在第 {step} 步，此后升高了 {risen}：最终结果采用该步的适配器。",
    ),
    "bestLast": (
        "The last evaluation is the best one: no over-fitting is to be seen.",
        "末次评估即最佳评估：未见过拟合。",
    ),
    "stoppedEarly": (
        "The training was stopped early, after step {step} of {total}: "
        "the loss on the held-out rows did not improve any more.",
        "训练在第 {step} 步（共 {total} 步）后提前停止：留出样本上的损失不再改善。",
    ),
    "leaked": (
        "{leaked} of the {rows} held-out rows are trained on too, and flatter the result.",
        "{rows} 条留出样本中有 {leaked} 条也在训练集中，结果因此偏乐观。",
    ),
    "noneLeaked": (
        "None of the {rows} held-out rows is trained on.",
        "{rows} 条留出样本均未参与训练。",
    ),
    "interval": (
        "Tuned minus base, row by row over {rows} rows: {change}; with 95 % confidence from {low} to {high} "
        "(paired bootstrap).",
        "微调减基座，逐条比较 {rows} 条样本：{change}；95% 置信区间为 {low} 至 {high}（配对自助法）。",
    ),
    "heldOutLoss": (
        "Loss on {rows} held-out rows, in nats per {unit}",
        "{rows} 条留出样本上的损失（单位：nat/{unit}）",
    ),
    "base": ("base model", "基座模型"),
    "first": ("first evaluation", "首次评估"),
    "best": ("best evaluation", "最佳评估"),
    "final": ("last evaluation", "末次评估"),
    "result": ("the result, on the unquantised base", "最终结果（在未量化的基座上）"),
    "step": ("step", "步"),
    "loss": ("loss", "损失"),
    "pairsRight": ("pairs told right", "判断正确的偏好对"),
    # The answers
    "answers": ("Answers", "回答"),
    "answersAre": (
        "What both say to held-out prompts that were drawn by the seed: greedy, of at most {tokens} tokens; "
        "{cut} stands where a text was cut.",
        "两个模型对按种子抽取的留出提示的回答：贪心解码，最多 {tokens} 个词元；{cut} 表示文本在此处被截断。",
    ),
    "answersMissing": (
        "Prompts for whose answers there was no time: {missing} of {asked}.",
        "因时间不足而未作答的提示：{asked} 条中有 {missing} 条。",
    ),
    "answersQuantized": (
        "Both answered on the base in 4 bits, as in the training: what is exported may use other words.",
        "两者均在训练所用的 4 位量化基座上作答：导出的模型的措辞可能不同。",
    ),
    "prompt": ("prompt {number}", "提示 {number}"),
    "expectedAnswer": ("answer in the data", "数据中的回答"),
    "tunedModel": ("tuned model", "微调后的模型"),
    "nothingSaid": ("(nothing)", "（无）"),
    # The curves
    "curves": ("Curves", "曲线"),
    "noCurve": ("There is no log of the training yet.", "尚无训练日志。"),
    "lastPoints": (
        "The training has not ended: these are the last points that are known.",
        "训练尚未结束：以下是目前已知的最近若干点。",
    ),
    "lossCurve": ("Loss, in nats per {unit}, by step", "各步的损失（单位：nat/{unit}）"),
    "perToken": ("learned token", "学习的词元"),
    "perPair": ("pair", "偏好对"),
    "rateCurve": ("Learning rate by step", "各步的学习率"),
    "training": ("training", "训练"),
    "heldOut": ("held-out rows", "留出样本"),
    "thinned": (
        "A point stands for up to {steps} steps: their mean, and a band from the least to the greatest.",
        "每个点代表至多 {steps} 步：取其平均值，色带为最小值到最大值。",
    ),
    "pointAt": ("step {step}: {value}", "第 {step} 步：{value}"),
    "pointOver": (
        "steps {first} to {step}: {value} ({low} to {high})",
        "第 {first} 至 {step} 步：{value}（{low} 至 {high}）",
    ),
    "values": ("The values", "数值"),
    "steps": ("steps", "步"),
    "value": ("value", "数值"),
    "leastToMost": ("least to greatest", "最小至最大"),
    # The data
    "data": ("Data", "数据"),
    "noData": ("The store has no data report of this run.", "存储中没有此运行的数据报告。"),
    "rows": (
        "{rows} rows to train on, {held_out} held out, {dropped} left out as bad.",
        "{rows} 条用于训练，{held_out} 条留出，{dropped} 条因错误被剔除。",
    ),
    "tokens": (
        "{tokens} tokens to train on, of which {learned} are learned. Template {template}.",
        "训练集共 {tokens} 个词元，其中 {learned} 个参与学习。模板 {template}。",
    ),
    "repeatsKept": (
        "Rows that equal an earlier one: {count}; they were kept.",
        "与之前相同的样本：{count} 条，已保留。",
    ),
    "repeatsLeft": (
        "Rows that equal an earlier one: {count}; they were left out.",
        "与之前相同的样本：{count} 条，已剔除。",
    ),
    "overlap": (
        "Held-out rows that are trained on too: {rows}; whose prompt is: {prompts}.",
        "同时在训练集中的留出样本：{rows} 条；提示在训练集中的：{prompts} 条。",
    ),
    "source": ("source", "来源"),
    "readAs": ("read as", "格式"),
    "rowsRead": ("rows read", "读取"),
    "trainedOn": ("trained on", "训练"),
    "repeated": ("repeated", "重复"),
    "leftOut": ("left out, and why", "剔除及原因"),
    "badRows": ("The first bad rows", "最先出现的错误样本"),
    "lengths": ("Rows by length in tokens", "按词元长度统计的样本数"),
    "over": ("over", "超出"),
    "cut": (
        "Rows that are cut at {cutoff} tokens: {count}; of {answers} tokens of answers {lost} are lost.",
        "在 {cutoff} 个词元处被截断的样本：{count} 条；回答共 {answers} 个词元，丢失 {lost} 个。",
    ),
    "samples": ("As the model sees it", "模型看到的样本"),
    "marked": ("What is marked is learned.", "标记部分为学习内容。"),
    "markedPairs": (
        "What is marked is learned. Of each pair the chosen answer comes first, then the rejected one.",
        "标记部分为学习内容。每对中先是选中的回答，后是拒绝的回答。",
    ),
    "differs": ("Template and model differ", "模板与模型自带模板不同"),
    # Time and money
    "time": ("Time and GPUs", "时间与 GPU"),
    "stage": ("stage", "阶段"),
    "state": ("state", "状态"),
    "took": ("took", "用时"),
    "failures": ("failed attempts", "失败次数"),
    "foundInStore": ("{state}, found in the store", "{state}，已在存储中找到"),
    "gpuSeconds": ("GPU-seconds", "GPU 秒"),
    "gpuHeld": ("held", "占用"),
    "gpuTraining": ("of which in optimizer steps", "其中优化步"),
    "gpuEvaluating": ("of which in evaluations", "其中评估"),
    "noGpu": ("No GPU was held.", "未占用 GPU。"),
    "resumes": (
        "Times that the training went on from a checkpoint: {count}.",
        "训练从检查点恢复了 {count} 次。",
    ),
    "noResumes": ("The training was not interrupted.", "训练未曾中断。"),
    "speed": ("{count} useful tokens a second.", "每秒 {count} 个有效词元。"),
    # The result
    "load": ("Load the result", "加载结果"),
    "noResult": ("There is no result yet.", "尚无结果。"),
    "adapter": ("The adapter", "适配器"),
    "merged": ("The merged model", "合并后的模型"),
    "published": ("Published", "已发布"),
    "askBoth": ("Ask the base and the tuned model the same questions", "向基座模型与微调模型提相同的问题"),
    "baseElsewhere": (
        "Put the path of the base model, {source}, where BASE stands.",
        "请将 BASE 替换为基座模型 {source} 的路径。",
    ),
    # Lineage
    "lineage": ("Lineage", "来源追溯"),
    "noLineage": ("The store has no output of this run yet.", "存储中尚无此运行的输出。"),
    "madeOn": ("complete since {created}", "完成于 {created}"),
    "outputKey": ("key", "键"),
    "outputDigest": ("digest", "摘要"),
}


class Speaker:
    """Says a text of the table in one language."""

    def __init__(self, language: Language) -> None:
        self._column = COLUMN[language]

    def __call__(self, key: str, /, **values: Any) -> str:
        """Raises KeyError for what is not in the table, or lacks a value."""
        return TEXTS[key][self._column].format(**values)
