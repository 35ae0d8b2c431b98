"""The tiny random checkpoints of test/golden/families: at least two unlike configurations of every family, one of them
with every optional feature on, and with an epsilon so large that forgetting it shows. Configurations are spelled as the
checkpoints that people publish are (`hub`), or as transformers 5 writes them (`own`): both spellings must be read.
"""

from __future__ import annotations

from dataclasses import dataclass

"""Prompt lengths: some shorter than the windows (8), some longer; none so long that a golden gets large."""
PROMPT_LENGTHS = (1, 5, 13, 24, 40)


@dataclass(frozen=True)
class FamilyCheckpoint:
    name: str
    about: str
    seed: int
    dtype: str
    config: dict
    """Whether config.json is `config` as it stands (hub) or what transformers writes for it (own)."""
    spelling: str
    prompt_lengths: tuple[int, ...] = PROMPT_LENGTHS
    """Gains, as random_weights.py tells: of matrices; of the head, and so of a tied embedding; of an embedding that is
    not tied; of routers, so wide that the choice of experts hardly ever hangs on rounding."""
    matrix_gain: float = 1.3
    head_gain: float = 3.0
    embedding_gain: float = 1.0
    router_gain: float = 4.0
    """Gains of norms lie around this: 0 where the model adds 1."""
    norm_centre: float = 1.0
    """Of the last norm, where it is another: a scaled tied embedding must be small, or each token foretells itself."""
    last_norm_centre: float | None = None
    bias_spread: float = 0.4


def sizes(hidden: int, ffn: int, layers: int, heads: int, kv_heads: int, vocabulary: int, **more: object) -> dict:
    return {
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": 256,
        "bos_token_id": 1,
        "eos_token_id": 2,
    } | more


def _llama(**more: object) -> dict:
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu"} | more


_YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def _growing(count: int, start: float, step: float) -> list[float]:
    return [round(start + step * index, 3) for index in range(count)]


CHECKPOINTS = (
    FamilyCheckpoint(
        name="llama-2",
        about="the shape of Llama 2: as many KV heads as query heads, no head_dim, no theta, float16",
        seed=11, dtype="F16", spelling="hub",
        config=_llama(**sizes(72, 100, 5, 6, 6, 90), attention_bias=False, pretraining_tp=1, rms_norm_eps=1e-5,
                      rope_scaling=None, tie_word_embeddings=False, torch_dtype="float16", use_cache=True),
    ),
    FamilyCheckpoint(
        name="llama-3-all",
        about="every option of Llama: grouped heads of a size of their own, biases everywhere, tied, "
        "llama3 rope scaling",
        seed=12, dtype="BF16", spelling="own",
        config=_llama(**sizes(66, 88, 5, 6, 2, 84), head_dim=20, attention_bias=True, mlp_bias=True,
                      rms_norm_eps=0.002, rope_theta=500000.0, rope_scaling=_LLAMA3, tie_word_embeddings=True,
                      dtype="bfloat16"),
    ),
    FamilyCheckpoint(
        name="llama-linear",
        about="linear rope scaling in the oldest spelling, attention_bias alone, float32",
        seed=13, dtype="F32", spelling="hub",
        config=_llama(**sizes(64, 96, 4, 8, 4, 80), attention_bias=True, rms_norm_eps=1e-6, rope_theta=10000.0,
                      rope_scaling={"type": "linear", "factor": 4.0}, tie_word_embeddings=False, torch_dtype="float32"),
    ),
    FamilyCheckpoint(
        name="mistral-window",
        about="a sliding window of 8 in every layer, head_dim of its own, bfloat16",
        seed=21, dtype="BF16", spelling="hub",
        config={"architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_act": "silu"}
        | sizes(60, 80, 5, 6, 3, 80) | {
            "head_dim": 16, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "sliding_window": 8,
            "tie_word_embeddings": False, "torch_dtype": "bfloat16"},
    ),
    FamilyCheckpoint(
        name="mistral-plain",
        about="no window, heads of 12, tied",
        seed=22, dtype="F16", spelling="own",
        config={"architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_act": "silu"}
        | sizes(72, 104, 4, 6, 2, 96) | {
            "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "sliding_window": None, "tie_word_embeddings": True,
            "dtype": "float16"},
    ),
    FamilyCheckpoint(
        name="qwen2-tied",
        about="biases on q, k and v only, tied, window switched off though a size is given",
        seed=31, dtype="BF16", spelling="hub",
        config={"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu"}
        | sizes(70, 90, 4, 7, 1, 100) | {
            "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "sliding_window": 8, "use_sliding_window": False,
            "max_window_layers": 4, "tie_word_embeddings": True, "torch_dtype": "bfloat16"},
    ),
    FamilyCheckpoint(
        name="qwen2-all",
        about="a window of 8 from the third layer on, yarn, untied",
        seed=32, dtype="F32", spelling="hub",
        config={"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu"}
        | sizes(96, 112, 5, 8, 2, 80) | {
            "rms_norm_eps": 0.002, "rope_theta": 10000.0, "rope_scaling": _YARN, "sliding_window": 8,
            "use_sliding_window": True, "max_window_layers": 2, "tie_word_embeddings": False, "torch_dtype": "float32"},
    ),
    FamilyCheckpoint(
        name="qwen3-tied",
        about="q and k normed per head, head_dim of its own, tied",
        seed=41, dtype="BF16", spelling="hub",
        config={"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu"}
        | sizes(64, 96, 4, 6, 3, 90) | {
            "attention_bias": False, "head_dim": 16, "rms_norm_eps": 1e-6, "rope_scaling": None, "rope_theta": 1000000,
            "sliding_window": None, "use_sliding_window": False, "max_window_layers": 4, "tie_word_embeddings": True,
            "torch_dtype": "bfloat16"},
    ),
    FamilyCheckpoint(
        name="qwen3-all",
        about="attention_bias, a window of 8 from the second layer on, yarn, heads of 24, untied",
        seed=42, dtype="F32", spelling="own",
        config={"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu"}
        | sizes(80, 72, 5, 6, 2, 80) | {
            "attention_bias": True, "head_dim": 24, "rms_norm_eps": 0.002, "rope_theta": 10000.0,
            "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
            "sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1, "tie_word_embeddings": False,
            "dtype": "float32"},
    ),
    FamilyCheckpoint(
        name="gemma2-published",
        about="as published: soft caps of 50 and 30, every other layer a window of 8, four norms, scaled embeddings",
        seed=51, dtype="BF16", spelling="hub", norm_centre=0.0, last_norm_centre=8.0, head_gain=0.3, matrix_gain=1.8,
        config={"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "hidden_act": "gelu_pytorch_tanh",
                "hidden_activation": "gelu_pytorch_tanh"}
        | sizes(64, 96, 4, 8, 4, 90, pad_token_id=0, eos_token_id=1, bos_token_id=2) | {
            "attention_bias": False, "attn_logit_softcapping": 50.0, "cache_implementation": "hybrid",
            "final_logit_softcapping": 30.0, "head_dim": 16, "query_pre_attn_scalar": 16, "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0, "sliding_window": 8, "sliding_window_size": 8, "torch_dtype": "bfloat16"},
    ),
    FamilyCheckpoint(
        name="gemma2-all",
        about="soft caps low enough to bend, query_pre_attn_scalar other than head_dim, heads of 20, "
        "attention_bias, untied",
        seed=52, dtype="F32", spelling="own", norm_centre=0.0, head_gain=4.0, embedding_gain=0.15,
        config={"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2",
                "hidden_activation": "gelu_pytorch_tanh"}
        | sizes(72, 84, 5, 6, 3, 80, pad_token_id=0, eos_token_id=1, bos_token_id=2) | {
            "attention_bias": True, "attn_logit_softcapping": 2.5, "final_logit_softcapping": 8.0, "head_dim": 20,
            "query_pre_attn_scalar": 11, "rms_norm_eps": 0.002, "rope_theta": 10000.0, "sliding_window": 8,
            "tie_word_embeddings": False, "dtype": "float32"},
    ),
    FamilyCheckpoint(
        name="gemma3-published",
        about="as published: a window of 8 but for every third layer, two thetas, linear scaling on the global one",
        seed=61, dtype="BF16", spelling="hub", norm_centre=0.0, last_norm_centre=8.0, head_gain=0.3, matrix_gain=1.8,
        config={"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text",
                "hidden_activation": "gelu_pytorch_tanh"}
        | sizes(64, 88, 7, 4, 1, 90, pad_token_id=0, eos_token_id=[1, 3], bos_token_id=2) | {
            "attention_bias": False, "attn_logit_softcapping": None, "cache_implementation": "hybrid",
            "final_logit_softcapping": None, "head_dim": 16, "query_pre_attn_scalar": 16, "rms_norm_eps": 1e-6,
            "rope_local_base_freq": 10000, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "rope_theta": 1000000, "sliding_window": 8, "sliding_window_pattern": 3, "torch_dtype": "bfloat16"},
    ),
    FamilyCheckpoint(
        name="gemma3-all",
        about="layer_types of no simple pattern, a cap on the logits, attention_bias, query_pre_attn_scalar "
        "and heads of their own",
        seed=62, dtype="F32", spelling="own", norm_centre=0.0, last_norm_centre=9.0, head_gain=0.3, matrix_gain=1.6,
        config={"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text",
                "hidden_activation": "gelu_pytorch_tanh"}
        | sizes(72, 80, 6, 6, 2, 80, pad_token_id=0, eos_token_id=1, bos_token_id=2) | {
            "attention_bias": True, "attn_logit_softcapping": None, "final_logit_softcapping": 9.0, "head_dim": 24,
            "query_pre_attn_scalar": 30, "rms_norm_eps": 0.002, "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention",
                            "sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1000000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0}},
            "tie_word_embeddings": True, "dtype": "float32"},
    ),
    FamilyCheckpoint(
        name="phi3-plain",
        about="Phi-3-mini-4k: fused qkv and gate-up, no scaling, a window (8)",
        seed=71, dtype="BF16", spelling="hub",
        config={"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_act": "silu"}
        | sizes(96, 80, 4, 6, 6, 80) | {
            "attention_bias": False, "attention_dropout": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
            "original_max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_scaling": None, "rope_theta": 10000.0,
            "sliding_window": 8, "pad_token_id": 0, "tie_word_embeddings": False, "torch_dtype": "bfloat16"},
    ),
    FamilyCheckpoint(
        name="phi3-short",
        about="longrope, every position within the original ones: the short factors; the whole head turns; "
        "grouped heads",
        seed=72, dtype="F16", spelling="hub",
        config={"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_act": "silu"}
        | sizes(96, 88, 5, 6, 2, 80, max_position_embeddings=1024) | {
            "attention_bias": False, "original_max_position_embeddings": 256, "rms_norm_eps": 1e-5,
            "rope_scaling": {"type": "longrope", "short_factor": _growing(8, 1.05, 0.09),
                             "long_factor": _growing(8, 1.3, 2.4)},
            "rope_theta": 10000.0, "sliding_window": None, "pad_token_id": 0, "tie_word_embeddings": False,
            "torch_dtype": "float16"},
    ),
    FamilyCheckpoint(
        name="phi4-long",
        about="longrope, every prompt past the original positions: the long factors; three quarters of a head "
        "turn; tied",
        seed=73, dtype="BF16", spelling="hub", prompt_lengths=(17, 20, 29, 40, 48),
        config={"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_act": "silu"}
        | sizes(96, 80, 5, 6, 3, 84, max_position_embeddings=512) | {
            "attention_bias": False, "original_max_position_embeddings": 16, "partial_rotary_factor": 0.75,
            "rms_norm_eps": 0.002,
            "rope_scaling": {"type": "longrope", "short_factor": _growing(6, 1.0, 0.05),
                             "long_factor": _growing(6, 1.2, 3.1)},
            "rope_theta": 10000.0, "sliding_window": None, "pad_token_id": 0, "tie_word_embeddings": True,
            "torch_dtype": "bfloat16"},
    ),
    FamilyCheckpoint(
        name="olmo2-published",
        about="norms after attention and FFN, q and k normed over all heads together, as many KV heads as query heads",
        seed=81, dtype="F32", spelling="hub",
        config={"architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2", "hidden_act": "silu"}
        | sizes(72, 88, 4, 6, 6, 84) | {
            "attention_bias": False, "pad_token_id": 0, "rms_norm_eps": 1e-6, "rope_scaling": None,
            "rope_theta": 500000, "tie_word_embeddings": False, "torch_dtype": "float32"},
    ),
    FamilyCheckpoint(
        name="olmo2-all",
        about="grouped heads, attention_bias, linear rope scaling, tied",
        seed=82, dtype="BF16", spelling="own", head_gain=1.0, norm_centre=1.8, last_norm_centre=3.0,
        bias_spread=0.1, matrix_gain=2.0,
        config={"architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2", "hidden_act": "silu"}
        | sizes(96, 80, 5, 8, 4, 80) | {
            "attention_bias": True, "pad_token_id": 0, "rms_norm_eps": 0.002,
            "rope_scaling": {"rope_type": "linear", "factor": 2.0}, "rope_theta": 10000.0, "tie_word_embeddings": True,
            "dtype": "bfloat16"},
    ),
    FamilyCheckpoint(
        name="granite-published",
        about="multipliers of embedding, attention, residual and logits, tied",
        seed=91, dtype="BF16", spelling="hub", head_gain=0.15, last_norm_centre=64.0, matrix_gain=1.6,
        config={"architectures": ["GraniteForCausalLM"], "model_type": "granite", "hidden_act": "silu"}
        | sizes(64, 96, 5, 8, 2, 90) | {
            "attention_bias": False, "attention_multiplier": 0.09, "embedding_multiplier": 12.0,
            "logits_scaling": 3.0, "residual_multiplier": 0.5, "mlp_bias": False, "pad_token_id": 0,
            "rms_norm_eps": 1e-5, "rope_scaling": None, "rope_theta": 10000.0, "tie_word_embeddings": True,
            "torch_dtype": "bfloat16"},
    ),
    FamilyCheckpoint(
        name="granite-all",
        about="other multipliers, biases everywhere, heads of 12, llama3 rope scaling, untied",
        seed=92, dtype="F32", spelling="own", head_gain=5.0,
        config={"architectures": ["GraniteForCausalLM"], "model_type": "granite", "hidden_act": "silu"}
        | sizes(72, 80, 4, 6, 3, 80) | {
            "attention_bias": True, "attention_multiplier": 0.4, "embedding_multiplier": 3.5, "logits_scaling": 1.7,
            "residual_multiplier": 0.6, "mlp_bias": True, "pad_token_id": 0, "rms_norm_eps": 0.002,
            "rope_scaling": _LLAMA3, "rope_theta": 10000.0, "tie_word_embeddings": False, "dtype": "float32"},
    ),
    FamilyCheckpoint(
        name="smollm3-published",
        about="every third layer without rope, tied",
        seed=101, dtype="BF16", spelling="hub", head_gain=1.0, last_norm_centre=3.0,
        config={"architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "hidden_act": "silu"}
        | sizes(64, 88, 6, 8, 2, 84) | {
            "attention_bias": False, "max_window_layers": 6, "mlp_bias": False, "no_rope_layer_interval": 4,
            "no_rope_layers": [1, 1, 0, 1, 1, 0], "pad_token_id": 0, "pretraining_tp": 2, "rms_norm_eps": 1e-6,
            "rope_scaling": None, "rope_theta": 5000000.0, "sliding_window": None, "use_sliding_window": False,
            "tie_word_embeddings": True, "torch_dtype": "bfloat16"},
    ),
    FamilyCheckpoint(
        name="smollm3-all",
        about="a window of 8 where there is no rope, biases everywhere, yarn, untied",
        seed=102, dtype="F32", spelling="own",
        config={"architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "hidden_act": "silu"}
        | sizes(96, 72, 5, 6, 3, 80) | {
            "attention_bias": True, "mlp_bias": True, "no_rope_layers": [0, 1, 1, 0, 1], "pad_token_id": 0,
            "rms_norm_eps": 0.002, "rope_theta": 10000.0,
            "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
            "sliding_window": 8, "use_sliding_window": True, "tie_word_embeddings": False, "dtype": "float32"},
    ),
    FamilyCheckpoint(
        name="mixtral-published",
        about="two of four experts, no window",
        seed=111, dtype="BF16", spelling="hub",
        config={"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_act": "silu"}
        | sizes(64, 48, 4, 8, 2, 80) | {
            "num_experts_per_tok": 2, "num_local_experts": 4, "output_router_logits": False, "rms_norm_eps": 1e-5,
            "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02, "sliding_window": None,
            "tie_word_embeddings": False, "torch_dtype": "bfloat16"},
    ),
    FamilyCheckpoint(
        name="mixtral-all",
        about="three of five experts, a window of 8, head_dim of its own, tied",
        seed=112, dtype="F32", spelling="own", head_gain=1.5, last_norm_centre=2.0,
        config={"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_act": "silu"}
        | sizes(60, 40, 5, 6, 3, 80) | {
            "head_dim": 12, "num_experts_per_tok": 3, "num_local_experts": 5, "rms_norm_eps": 0.002,
            "rope_theta": 10000.0, "sliding_window": 8, "tie_word_embeddings": True, "dtype": "float32"},
    ),
    FamilyCheckpoint(
        name="qwen3-moe-published",
        about="three of eight experts in every layer, their weights made to sum to one",
        seed=121, dtype="BF16", spelling="hub",
        config={"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_act": "silu"}
        | sizes(64, 96, 4, 8, 2, 80) | {
            "attention_bias": False, "decoder_sparse_step": 1, "head_dim": 16, "max_window_layers": 4,
            "mlp_only_layers": [], "moe_intermediate_size": 32, "norm_topk_prob": True, "num_experts": 8,
            "num_experts_per_tok": 3, "output_router_logits": False, "rms_norm_eps": 1e-6, "rope_scaling": None,
            "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001, "sliding_window": None,
            "use_sliding_window": False, "tie_word_embeddings": False, "torch_dtype": "bfloat16"},
    ),
    FamilyCheckpoint(
        name="qwen3-moe-all",
        about="experts in every other layer but one that is dense by name, weights not made to sum to one, "
        "attention_bias, a window of 8, tied",
        seed=122, dtype="F32", spelling="own", head_gain=1.0, last_norm_centre=3.0,
        config={"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_act": "silu"}
        | sizes(72, 80, 6, 6, 3, 80) | {
            "attention_bias": True, "decoder_sparse_step": 2, "head_dim": 20, "mlp_only_layers": [3],
            "moe_intermediate_size": 40, "norm_topk_prob": False, "num_experts": 6, "num_experts_per_tok": 2,
            "rms_norm_eps": 0.002, "rope_theta": 10000.0, "sliding_window": 8, "use_sliding_window": True,
            "tie_word_embeddings": True, "dtype": "float32"},
    ),
    FamilyCheckpoint(
        name="gpt-oss-published",
        about="as published: two of four stacked experts, sinks, every other layer a window of 8, yarn not truncated",
        seed=131, dtype="BF16", spelling="hub", matrix_gain=1.2,
        config={"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "hidden_act": "silu"}
        | sizes(64, 48, 4, 8, 2, 80, max_position_embeddings=4096) | {
            "attention_bias": True, "attention_dropout": 0.0, "experts_per_token": 2, "head_dim": 16,
            "initial_context_length": 512,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
            "num_experts_per_tok": 2, "num_local_experts": 4, "output_router_logits": False, "pad_token_id": 0,
            "rms_norm_eps": 1e-5,
            "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 8.0,
                             "original_max_position_embeddings": 512, "rope_type": "yarn", "truncate": False},
            "rope_theta": 150000, "router_aux_loss_coef": 0.9, "sliding_window": 8, "swiglu_limit": 7.0,
            "tie_word_embeddings": False, "torch_dtype": "bfloat16"},
    ),
    FamilyCheckpoint(
        name="gpt-oss-all",
        about="three of six experts, windows in no simple pattern, a limit low enough to clamp, heads of 24, "
        "yarn truncated with other betas, tied",
        seed=132, dtype="F32", spelling="own", head_gain=1.5, last_norm_centre=2.0, matrix_gain=1.2,
        config={"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "hidden_act": "silu"}
        | sizes(72, 40, 5, 6, 3, 80) | {
            "attention_bias": True, "head_dim": 24,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention",
                            "sliding_attention"],
            "num_experts_per_tok": 3, "num_local_experts": 6, "pad_token_id": 0, "rms_norm_eps": 0.002,
            "rope_theta": 10000.0,
            "rope_scaling": {"beta_fast": 2.0, "beta_slow": 0.5, "factor": 4.0,
                             "original_max_position_embeddings": 64, "rope_type": "yarn", "truncate": True},
            "sliding_window": 8, "swiglu_limit": 2.0, "tie_word_embeddings": True, "dtype": "float32"},
    ),
)
