/** What Gemma 2 and Gemma 3 share. Not a family of its own. */
import type { Fields } from "../config-fields.ts";
import type { ModelConfig } from "../model-config.ts";
import { type Unsaid, activationOf, attentionBiases, decoderOf } from "./decoder.ts";
import { tensorsNamed } from "./names.ts";

const UNSAID: Omit<Unsaid, "maxPositions"> = {
  kvHeadCount: 4,
  headSize: 256,
  normEpsilon: 1e-6,
  tiedEmbeddings: true,
  bosTokenId: 2,
  eosTokenId: 1,
};

/** Four norms a layer, a GELU, embeddings scaled up, queries scaled by a number of their own. */
export function gemmaDecoder(
  fields: Fields,
  family: string,
  maxPositions: number,
): Omit<ModelConfig, "attentionKinds" | "layerKinds"> {
  const decoder = decoderOf(fields, family, { ...UNSAID, maxPositions });
  return {
    ...decoder,
    ...attentionBiases(fields),
    attentionScale: fields.positive("query_pre_attn_scalar", 256) ** -0.5,
    norms: { attentionIn: true, attentionOut: true, ffnIn: true, ffnOut: true },
    activation: activationOf(fields, "hidden_activation", "gelu_pytorch_tanh"),
    embeddingScale: Math.fround(Math.sqrt(decoder.hiddenSize)), // their code keeps it in f32
  };
}

/** A softcap that null switches off and a missing key does not. */
export function softcapOf(fields: Fields, name: string, unsaid?: number): number | undefined {
  return fields.json[name] === undefined ? unsaid : fields.optionalPositive(name);
}

export const gemmaTensors = tensorsNamed({
  norms: {
    attentionIn: "input_layernorm",
    attentionOut: "post_attention_layernorm",
    ffnIn: "pre_feedforward_layernorm",
    ffnOut: "post_feedforward_layernorm",
  },
  gainAdd: 1,
});
