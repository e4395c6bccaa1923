"""Every argument of LLaMA-Factory, and what becomes of it: one table, so that none is let in by chance.

An argument has a typed field of its own, or may be set by its own name in `training.extraArgs`, or is
refused with a reason. What names a path, a host, a hub, code or a reporter is always refused.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

NUMBERS: Final = {
    int: re.compile("-?[0-9]{1,18}"),
    float: re.compile("-?[0-9]{1,18}([.][0-9]{1,18})?(e[+-]?[0-9]{1,3})?", re.IGNORECASE),
}
"""As they are written; Python would take 1_0, other digits and spaces, too."""
Value = bool | int | float | str


@dataclass(frozen=True)
class ExtraArgument:
    """An argument that may be set by name.

    low, high: bounds of a number, themselves allowed but for the one in `without`. choices: of a text.
    packing_safe: whether it means the same for a conversation in a row with others, where logits are made
    at learned places alone. objectives: those for which LLaMA-Factory heeds it, and it means something.
    """

    type: type[bool] | type[int] | type[float] | type[str]
    low: float = 0
    high: float = 1
    without: float | None = None
    choices: tuple[str, ...] = ()
    shapes_result: bool = True
    packing_safe: bool = True
    objectives: tuple[str, ...] = ("sft", "dpo", "pt")

    def parse(self, text: str) -> Value:
        """The typed value. Raises ValueError that says what the text must be."""
        value = self._read(text)
        if value is None or not self._allows(value):
            raise ValueError(f"must be {self.form}, not {text!r}")
        return value

    @property
    def form(self) -> str:
        """What a value must be: the end of "must be …"."""
        if self.type is bool:
            return "true or false"
        if self.type is str:
            return f"one of {', '.join(self.choices)}"
        kind = "a whole number" if self.type is int else "a number"
        but = "" if self.without is None else f", but not {self.without:g}"
        return f"{kind} from {self.low:.10g} to {self.high:.10g}{but}"

    def _read(self, text: str) -> Value | None:
        if self.type is bool:
            return TRUTH.get(text)
        if self.type is str:
            return text
        return self.type(text) if NUMBERS[self.type].fullmatch(text) else None

    def _allows(self, value: Value) -> bool:
        if isinstance(value, str):
            return value in self.choices
        return self.low <= value <= self.high and value != self.without


TRUTH: Final = {"true": True, "false": False}

EXTRA_ARGUMENTS: Final = {
    "adam_beta1": ExtraArgument(float, without=1),
    "adam_beta2": ExtraArgument(float, without=1),
    "adam_epsilon": ExtraArgument(float),
    "disable_shuffling": ExtraArgument(bool),
    "eaft_alpha": ExtraArgument(float, high=100, objectives=("sft",)),
    "logging_steps": ExtraArgument(int, 1, 1_000_000, shapes_result=False),
    "loraplus_lr_embedding": ExtraArgument(float),
    "loraplus_lr_ratio": ExtraArgument(float, 0, 1_000_000, without=0),
    "neftune_noise_alpha": ExtraArgument(
        float, 0, 1000, without=0, packing_safe=False, objectives=("sft", "pt")
    ),  # with dpo it would disturb the base that answers are compared with
    "optim": ExtraArgument(
        str, choices=("adafactor", "adagrad", "adamw_torch", "adamw_torch_fused", "rmsprop", "sgd")
    ),
    "torch_empty_cache_steps": ExtraArgument(int, 1, 1_000_000, shapes_result=False),
    "use_dft_loss": ExtraArgument(bool, packing_safe=False, objectives=("sft",)),
    "use_eaft_loss": ExtraArgument(bool, packing_safe=False, objectives=("sft",)),
}

OWNED: Final = {
    "bf16": "training.precision",
    "cutoff_len": "training.cutoffLength",
    "dataset": "datasets",
    "early_stopping_steps": "training.checkpoint.earlyStopping.patience",
    "eval_dataset": "training.evaluation",
    "eval_steps": "training.evaluation.everySteps",
    "eval_strategy": "training.evaluation",
    "fp16": "training.precision",
    "fp8": "training.precision",
    "gradient_accumulation_steps": "training.batchSize",
    "interleave_probs": "datasets",
    "learning_rate": "training.learningRate",
    "load_best_model_at_end": "training.checkpoint.select",
    "lora_alpha": "training.lora.alpha",
    "lora_dropout": "training.lora.dropout",
    "lora_rank": "training.lora.rank",
    "lora_target": "training.lora.targets",
    "lr_scheduler_kwargs": "training.scheduler",
    "lr_scheduler_type": "training.scheduler",
    "mask_history": "training.learnFrom",
    "max_grad_norm": "training.maxGradNorm",
    "max_samples": "training.maxSamples",
    "max_steps": "training.maxSteps",
    "mix_strategy": "datasets",
    "model_name_or_path": "model.source",
    "model_revision": "model.revision",
    "num_train_epochs": "training.epochs",
    "per_device_train_batch_size": "training.batchSize",
    "pref_beta": "training.dpo.beta",
    "quantization_bit": "training.quantization",
    "quantization_type": "training.quantization",
    "save_steps": "training.checkpoint.every",
    "save_strategy": "training.checkpoint.every",
    "save_total_limit": "training.checkpoint.keep",
    "seed": "training.seed",
    "stage": "training.objective",
    "template": "model.template",
    "train_on_prompt": "training.trainOnPrompt",
    "use_dora": "training.lora.variant",
    "use_rslora": "training.lora.variant",
    "val_size": "training.evaluation.fraction",
    "warmup_ratio": "training.warmupRatio",
    "warmup_steps": "training.warmupRatio",
    "weight_decay": "training.weightDecay",
}
"""Arguments that a field of the spec stands for."""


class Refusal(StrEnum):
    """Why an argument is refused: the end of "… is not allowed: ..."."""

    PATH = "it names a file or a directory, and stages read and write only the store"
    REMOTE = "it names a host, a hub or a credential, and `spec.connections` is the only place for these"
    CODE = "it can run code that is not ours"
    REPORTER = "it sends data to a tracker"
    DATA = "it shapes the rows, which `spec.datasets` and `spec.model.template` alone describe"
    DEVICE = "the stage chooses it from the model and the card, and no result depends on it"
    PRECISION = "`spec.training.precision` and `quantization` alone say how the training computes"
    RECORDS = "the stage itself logs, evaluates and saves: see training.evaluation and training.checkpoint"
    ORDER = "`spec.training.seed` and `batchSize` alone say which rows are in which step"
    BASE = "it changes the base model or its tokenizer, so that the adapter would not fit the base"
    METHOD = "LoRA with a plain optimizer is the only method"
    OBJECTIVE = "it belongs to an objective or a loss that is not supported: see `spec.training.objective`"
    UNREPEATABLE = "its loss depends on how a step is cut into micro-batches, which is the card's affair"
    GENERATION = "it belongs to generating text, which the training does not"
    EXPORT = "it belongs to the export: see `spec.export`"
    MEDIA = "images, videos and sound are not supported"


_REFUSED: Final = {
    Refusal.PATH: """
        adapter_folder adapter_name_or_path cache_dir dataset_dir deepspeed enable_torch_profiler
        export_quantization_dataset fsdp_config generation_config hyper_parallel_args
        kt_expert_checkpoint_path kt_weight_path logging_dir media_dir new_special_tokens_config
        offload_folder output_dir overwrite_output_dir profile_modules profiler_active_steps
        profiler_output_dir profiler_profile_memory profiler_record_shapes profiler_repeat
        profiler_wait_steps profiler_warmup_steps profiler_with_stack ref_model ref_model_adapters
        resume_from_checkpoint reward_model reward_model_adapters tokenized_path
        """,
    Refusal.REMOTE: """
        export_hub_model_id hf_hub_token hub_always_push hub_model_id hub_private_repo hub_revision
        hub_strategy hub_token master_addr master_port ms_hub_token om_hub_token push_to_hub
        ray_init_kwargs ray_num_workers trackio_bucket_id trackio_space_id trackio_static_space_id
        """,
    Refusal.CODE: """
        accelerator_config debug liger_kernel_config optim_args parallelism_config sglang_config
        torch_compile_backend trust_remote_code vllm_config
        """,
    Refusal.REPORTER: """
        project report_to run_name swanlab_api_key swanlab_lark_secret swanlab_lark_webhook_url
        swanlab_logdir swanlab_mode swanlab_project swanlab_run_name swanlab_workspace use_swanlab
        """,
    Refusal.DATA: """
        buffer_size data_shared_file_system default_system enable_thinking eval_on_each_dataset
        ignore_pad_token_for_loss neat_packing overwrite_cache packing preprocessing_batch_size
        preprocessing_num_workers preserve_thinking split_special_tokens streaming tool_format
        use_fast_tokenizer
        """,
    Refusal.DEVICE: """
        auto_find_batch_size average_tokens_across_devices dataloader_num_workers
        dataloader_persistent_workers dataloader_pin_memory dataloader_prefetch_factor ddp_backend
        ddp_broadcast_buffers ddp_bucket_cap_mb ddp_find_unused_parameters ddp_static_graph
        ddp_timeout disable_gradient_checkpointing enable_liger_kernel flash_attn fsdp
        full_determinism gradient_checkpointing gradient_checkpointing_kwargs
        kt_lora_expert_intermediate_size kt_lora_expert_num kt_use_lora_experts local_rank
        log_on_each_node low_cpu_mem_usage save_on_each_node skip_memory_metrics tf32 torch_compile
        torch_compile_mode use_cache use_cpu use_hyper_parallel use_kt use_kv_cache use_liger_kernel
        use_mca use_reentrant_gc use_unsloth use_unsloth_gc use_v1_kernels
        """,
    Refusal.PRECISION: """
        bf16_full_eval double_quantization fp16_full_eval fp8_backend
        fp8_enable_fsdp_float8_all_gather pure_bf16 quantization_device_map quantization_method
        upcast_layernorm upcast_lmhead_output
        """,
    Refusal.RECORDS: """
        batch_eval_metrics compute_accuracy disable_tqdm do_eval do_predict do_train
        enable_jit_checkpoint eval_accumulation_steps eval_delay eval_do_concat_batches
        eval_on_start eval_use_gather_object greater_is_better include_effective_tokens_per_second
        include_for_metrics include_num_input_tokens_seen log_level log_level_replica
        logging_first_step logging_nan_inf_filter logging_strategy metric_for_best_model
        per_device_eval_batch_size plot_loss prediction_loss_only print_param_status
        restore_callback_states_from_checkpoint save_only_model
        """,
    Refusal.ORDER: """
        data_seed dataloader_drop_last ignore_data_skip label_names length_column_name
        remove_unused_columns sortish_sampler train_sampling_strategy
        """,
    Refusal.BASE: """
        add_special_tokens add_tokens additional_target create_new_adapter init_special_tokens
        mixture_of_depths pissa_convert pissa_init pissa_iter resize_vocab rope_scaling shift_attn
        train_from_scratch
        """,
    Refusal.METHOD: """
        apollo_layerwise apollo_proj apollo_proj_type apollo_rank apollo_scale apollo_scale_front
        apollo_scale_type apollo_target apollo_update_interval badam_mask_mode badam_mode
        badam_start_block badam_switch_interval badam_switch_mode badam_update_ratio badam_verbose
        finetuning_type freeze_extra_modules freeze_trainable_layers freeze_trainable_modules
        galore_layerwise galore_proj_type galore_rank galore_scale galore_target
        galore_update_interval module_dropout oft_block_size oft_rank oft_target
        optim_target_modules use_adam_mini use_apollo use_badam use_galore use_llama_pro use_muon
        """,
    Refusal.OBJECTIVE: """
        asft_alpha dpo_label_smoothing kto_chosen_weight kto_rejected_weight ld_alpha
        ppo_buffer_size ppo_epochs ppo_score_norm ppo_target ppo_whiten_rewards pref_bco_weight
        pref_ftx pref_loss ref_model_quantization_bit reward_model_quantization_bit
        reward_model_type simpo_gamma use_asft_loss
        """,
    Refusal.UNREPEATABLE: "label_smoothing_factor moe_aux_loss_coef",
    Refusal.GENERATION: """
        do_sample eval_num_beams generation_max_length generation_num_beams infer_backend
        infer_dtype length_penalty max_length max_new_tokens num_beams predict_with_generate
        repetition_penalty sglang_lora_backend sglang_maxlen sglang_mem_fraction sglang_tp_size
        skip_special_tokens temperature top_k top_p vllm_enforce_eager vllm_gpu_util
        vllm_max_lora_rank vllm_maxlen
        """,
    Refusal.EXPORT: """
        export_device export_dir export_legacy_format export_quantization_bit
        export_quantization_maxlen export_quantization_nsamples export_size
        """,
    Refusal.MEDIA: """
        audio_sampling_rate crop_to_patches freeze_language_model freeze_multi_modal_projector
        freeze_vision_tower image_do_pan_and_scan image_max_pixels image_min_pixels
        use_audio_in_video video_fps video_max_pixels video_maxlen video_min_pixels
        """,
}

REFUSED: Final = {name: refusal for refusal, names in _REFUSED.items() for name in names.split()}
"""Arguments that are not allowed, each with the reason."""


def problem(name: str, text: str) -> tuple[str, str] | None:
    """What is wrong with an extra argument, and what to do; None where it may be set to this text."""
    if name in OWNED:
        return "has a field of its own", f"Set `spec.{OWNED[name]}`."
    if name in REFUSED:
        return f"is not allowed: {REFUSED[name]}", f"Remove it. {_allowed()}"
    if name not in EXTRA_ARGUMENTS:
        known = (*EXTRA_ARGUMENTS, *OWNED, *REFUSED)
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        meant = f": did you mean {close[0]}?" if close else ""
        return f"LLaMA-Factory has no argument of this name{meant}", _allowed()
    try:
        EXTRA_ARGUMENTS[name].parse(text)
    except ValueError as misfit:
        return str(misfit), "Mend the value."
    return None


def suits(name: str, objective: str) -> bool:
    """Whether an argument that may be set has a meaning for an objective."""
    return name not in EXTRA_ARGUMENTS or objective in EXTRA_ARGUMENTS[name].objectives


def shaping(arguments: Mapping[str, str]) -> dict[str, Value]:
    """The arguments that change the result, by value: `5` and `5.0` make the same training."""
    return {name: _value(name, text) for name, text in arguments.items() if _shapes(name)}


def packing_safe(names: Iterable[str]) -> bool:
    """Whether conversations may share a row in a training with these arguments."""
    return all(EXTRA_ARGUMENTS[name].packing_safe for name in names if name in EXTRA_ARGUMENTS)


def _shapes(name: str) -> bool:
    return name not in EXTRA_ARGUMENTS or EXTRA_ARGUMENTS[name].shapes_result


def _value(name: str, text: str) -> Value:
    """A key is also made of what the checks will refuse."""
    return text if problem(name, text) else EXTRA_ARGUMENTS[name].parse(text)


def _allowed() -> str:
    return f"Allowed are {', '.join(EXTRA_ARGUMENTS)}."
