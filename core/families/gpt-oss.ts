/**
 * gpt-oss: a mixture of experts with biases in every layer, clamped gates, sinks, a window in every other layer. All
 * experts of a layer lie in one tensor, gate and up rows by turns. Defaults as in transformers' GptOssConfig.
 */
import type { Family, TensorPlace } from "../family.ts";
import { attentionBiases, decoderOf } from "./decoder.ts";
import { expertsOf } from "./experts.ts";
import { attending, layerTypes, layersOf, windowsByType } from "./layers.ts";
import { type Layer, linear, tensorsNamed } from "./names.ts";
import { neutralExcept } from "./options.ts";
import { ropeOf } from "./rope.ts";

const YARN = { rope_type: "yarn", factor: 32, truncate: false, original_max_position_embeddings: 4096 };

export const gptOss: Family = {
  modelType: "gpt_oss",
  architecture: "GptOssForCausalLM",
  neutral: {
    ...neutralExcept("attention_bias", "sliding_window", "num_local_experts", "num_experts"),
    hidden_act: ["silu"], // their code always clamps and never asks
  },
  read(fields) {
    const decoder = decoderOf(fields, "gpt_oss", {
      kvHeadCount: 8,
      headSize: 64,
      normEpsilon: 1e-5,
      tiedEmbeddings: false,
      maxPositions: 131_072,
      bosTokenId: null,
      eosTokenId: null,
    });
    const types = layerTypes(fields, decoder.layerCount, (layer) =>
      layer % 2 === 0 ? "sliding_attention" : "full_attention",
    );
    const windows = windowsByType(fields, types, 128, decoder.maxPositions);
    const rope = ropeOf(fields, decoder.headSize, decoder.maxPositions, { theta: 150_000, settings: YARN });
    const experts = expertsOf(fields, { count: 128, perToken: 4 }, decoder.ffnSize, "softmaxOfChosen");
    return {
      ...decoder,
      ...layersOf(
        decoder.layerCount,
        (layer) => attending(rope, windows(layer)),
        () => true,
      ),
      ...attentionBiases(fields, true),
      sinks: true,
      activation: {
        kind: "clampedSwiGlu",
        alpha: fields.positive("swiglu_alpha", 1.702),
        limit: fields.positive("swiglu_limit", 7),
      },
      experts: { ...experts, routerBias: true, bias: true },
    };
  },
  tensors: tensorsNamed({ ffn: stackedExperts }),
};

/** Stored as [experts, inputs, outputs], outputs of gate and up by turns; biases as [experts, outputs]. */
function stackedExperts(layer: Layer): readonly TensorPlace[] {
  const { hiddenSize, experts } = layer.config;
  if (experts === undefined) return [];
  const { count, size } = experts;
  const place = (plane: number, own: string, theirs: string, outputs: number, inputs: number, first?: number) => {
    const storedOutputs = first === undefined ? outputs : outputs * 2;
    const role = `${layer.role}experts.${plane}.${own}`;
    const stored = `${layer.stored}mlp.experts.${theirs}`;
    const shared = { plane, ...(first === undefined ? {} : { rows: { start: first, step: 2 } }) };
    const weight: TensorPlace = {
      role: `${role}.weight`,
      shape: [outputs, inputs],
      stored,
      storedShape: [count, inputs, storedOutputs],
      transposed: true,
      ...shared,
    };
    const bias: TensorPlace = {
      role: `${role}.bias`,
      shape: [outputs],
      stored: `${stored}_bias`,
      storedShape: [count, storedOutputs],
      ...shared,
    };
    return [weight, bias];
  };
  return [
    ...linear(layer, "router", "mlp.router", [count, hiddenSize], true),
    ...Array.from({ length: count }, (_, plane) => [
      ...place(plane, "gate", "gate_up_proj", size, hiddenSize, 0),
      ...place(plane, "up", "gate_up_proj", size, hiddenSize, 1),
      ...place(plane, "down", "down_proj", hiddenSize, size),
    ]).flat(),
  ];
}
