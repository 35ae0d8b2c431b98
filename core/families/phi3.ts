/**
 * Phi-3, 3.5, 4 and 4-mini: q, k and v in one matrix, gate and up in another; long rope, of part of a head in 4-mini.
 * Defaults as in transformers' Phi3Config.
 */
import type { Family, TensorPlace } from "../family.ts";
import { activationOf, decoderOf } from "./decoder.ts";
import { attending, layersOf, onlyLayerType, windowOf } from "./layers.ts";
import { type Layer, keysOf, linear, queriesOf, tensorsNamed } from "./names.ts";
import { neutralExcept } from "./options.ts";
import { ropeOf } from "./rope.ts";

export const phi3: Family = {
  modelType: "phi3",
  architecture: "Phi3ForCausalLM",
  neutral: neutralExcept("partial_rotary_factor", "sliding_window"),
  read(fields) {
    const decoder = decoderOf(fields, "phi3", {
      normEpsilon: 1e-5,
      tiedEmbeddings: false,
      maxPositions: 4096,
      bosTokenId: 1,
      eosTokenId: 32_000,
    });
    const window = windowOf(fields, null, decoder.maxPositions);
    onlyLayerType(fields, window === undefined ? "full_attention" : "sliding_attention", "as sliding_window stands");
    const rope = ropeOf(fields, decoder.headSize, decoder.maxPositions, {
      partial: true,
      kinds: { su: "longrope", yarn: "longrope" }, // what first releases called it
      originalPositions: 4096,
    });
    return {
      ...decoder,
      ...layersOf(decoder.layerCount, () => attending(rope, window)),
      activation: activationOf(fields),
    };
  },
  tensors: tensorsNamed({ qkv: fusedQkv, ffn: fusedFfn }),
};

function fusedQkv(layer: Layer): readonly TensorPlace[] {
  const { config, stored } = layer;
  const [queries, keys] = [queriesOf(config), keysOf(config)];
  const of = rowsOf(layer, `${stored}self_attn.qkv_proj.weight`, queries + 2 * keys);
  return [of("q", 0, queries), of("k", queries, keys), of("v", queries + keys, keys)];
}

function fusedFfn(layer: Layer): readonly TensorPlace[] {
  const { ffnSize, hiddenSize } = layer.config;
  const of = rowsOf(layer, `${layer.stored}mlp.gate_up_proj.weight`, 2 * ffnSize);
  return [
    of("gate", 0, ffnSize),
    of("up", ffnSize, ffnSize),
    ...linear(layer, "down", "mlp.down_proj", [hiddenSize, ffnSize]),
  ];
}

/** Neighbouring rows of one stored matrix of `rowCount` rows. */
const rowsOf =
  ({ config, role }: Layer, stored: string, rowCount: number) =>
  (own: string, start: number, count: number): TensorPlace => ({
    role: `${role}${own}.weight`,
    shape: [count, config.hiddenSize],
    stored,
    storedShape: [rowCount, config.hiddenSize],
    rows: { start, step: 1 },
  });
