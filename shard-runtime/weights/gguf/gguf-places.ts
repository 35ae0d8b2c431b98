/**
 * Where the roles of a model lie in GGUF files. llama.cpp's names are the same for every family, so roles are named and
 * not the checkpoint's tensors; of the family's own places only what is fused is needed.
 */
import type { TensorPlace } from "../../../core/family.ts";
import type { ModelConfig } from "../../../core/model-config.ts";
import { tensorPlaces } from "../../../core/tensor-places.ts";
import type { StoredPlace } from "../tensor-view.ts";

/** Architectures whose rows of q and k are in the order that turns neighbours, not halves of a head. */
const PAIRED: readonly string[] = ["llama", "granite", "granitemoe", "smollm3"];

const WHOLE: Readonly<Record<string, string>> = {
  "embedding.weight": "token_embd.weight",
  norm: "output_norm.weight",
  "head.weight": "output.weight",
};

/** By the role within its layer. Gains of norms are stored as they multiply, Gemma's too: nothing is to be added. */
const LAYER: Readonly<Record<string, string>> = {
  "attentionIn.norm": "attn_norm.weight",
  "attentionOut.norm": "post_attention_norm.weight",
  "ffnIn.norm": "ffn_norm.weight",
  "ffnOut.norm": "post_ffw_norm.weight",
  "q.norm": "attn_q_norm.weight",
  "k.norm": "attn_k_norm.weight",
  sinks: "attn_sinks.weight",
};
const LINEAR: Readonly<Record<string, string>> = {
  q: "attn_q",
  k: "attn_k",
  v: "attn_v",
  o: "attn_output",
  gate: "ffn_gate",
  up: "ffn_up",
  down: "ffn_down",
  router: "ffn_gate_inp",
};
const EXPERT: Readonly<Record<string, string>> = { gate: "ffn_gate_exps", up: "ffn_up_exps", down: "ffn_down_exps" };

export const ggufPlaces = (config: ModelConfig, architecture: string): readonly StoredPlace[] =>
  tensorPlaces(config).map((place) => ggufPlace(place, config, architecture));

function ggufPlace(place: TensorPlace, config: ModelConfig, architecture: string): StoredPlace {
  const { role, shape } = place;
  if (role === "head.weight" && config.tiedEmbeddings)
    return { role, shape, stored: "token_embd.weight", storedShape: shape };
  const [, layer, name = ""] = /^layers\.(\d+)\.(.+)$/.exec(role) ?? [];
  if (layer === undefined) return { role, shape, stored: WHOLE[role] ?? role, storedShape: shape };
  const [, expert, part = "", kind = ""] = /^experts\.(\d+)\.(\w+)\.(\w+)$/.exec(name) ?? [];
  if (expert !== undefined)
    return {
      role,
      shape,
      stored: `blk.${layer}.${EXPERT[part] ?? part}.${kind}`,
      storedShape: [config.experts?.count ?? 1, ...shape],
      plane: Number(expert),
    };
  const stored = `blk.${layer}.${layerTensor(place, name, architecture)}`;
  if (isFused(place)) return { role, shape, stored, storedShape: place.storedShape, ...rowsOf(place) };
  const isPaired = PAIRED.includes(architecture) && /^[qk]\.(weight|bias)$/.test(name);
  return { role, shape, stored, storedShape: shape, ...(isPaired ? { pairedHeadSize: config.headSize } : {}) };
}

const rowsOf = ({ rows }: TensorPlace) => (rows === undefined ? {} : { rows });

/** Phi's q, k and v in one matrix, and its gate and up, are one in GGUF too. */
const isFused = ({ stored, rows }: TensorPlace): boolean =>
  rows !== undefined && /\.(qkv_proj|gate_up_proj)\.weight$/.test(stored);

function layerTensor(place: TensorPlace, name: string, architecture: string): string {
  if (isFused(place)) return place.stored.includes("qkv_proj") ? "attn_qkv.weight" : "ffn_up.weight";
  if (name === "ffnIn.norm" && architecture === "gpt-oss") return "post_attention_norm.weight";
  const [linear = "", kind = ""] = name.split(".");
  return LAYER[name] ?? `${LINEAR[linear] ?? linear}.${kind}`;
}
