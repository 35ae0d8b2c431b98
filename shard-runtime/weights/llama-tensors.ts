/** Names and shapes of the tensors that a Llama-family checkpoint of a given configuration has. */
import type { ModelConfig } from "../../core/model-config.ts";

export type NamedShape = readonly [name: string, shape: readonly number[]];

/** All of them, in the order in which a model uses them. Matrices are [outputs, inputs]. */
export function tensorShapes(config: ModelConfig): readonly NamedShape[] {
  const { hiddenSize, vocabularySize, tiedEmbeddings } = config;
  return [
    ["model.embed_tokens.weight", [vocabularySize, hiddenSize]],
    ...Array.from({ length: config.layerCount }, (_, layer) => layerShapes(config, layer)).flat(),
    ["model.norm.weight", [hiddenSize]],
    ...(tiedEmbeddings ? [] : [["lm_head.weight", [vocabularySize, hiddenSize]] as const]),
  ];
}

function layerShapes(config: ModelConfig, layer: number): readonly NamedShape[] {
  const { hiddenSize, ffnSize } = config;
  const queries = config.headCount * config.headSize;
  const keys = config.kvHeadCount * config.headSize;
  const prefix = `model.layers.${layer}.`;
  const linear = (name: string, outputs: number, inputs: number, bias: boolean): readonly NamedShape[] => [
    [`${prefix}${name}.weight`, [outputs, inputs]],
    ...(bias ? [[`${prefix}${name}.bias`, [outputs]] as const] : []),
  ];
  return [
    [`${prefix}input_layernorm.weight`, [hiddenSize]],
    ...linear("self_attn.q_proj", queries, hiddenSize, config.attentionBias),
    ...linear("self_attn.k_proj", keys, hiddenSize, config.attentionBias),
    ...linear("self_attn.v_proj", keys, hiddenSize, config.attentionBias),
    ...linear("self_attn.o_proj", hiddenSize, queries, config.attentionBias),
    [`${prefix}post_attention_layernorm.weight`, [hiddenSize]],
    ...linear("mlp.gate_proj", ffnSize, hiddenSize, config.mlpBias),
    ...linear("mlp.up_proj", ffnSize, hiddenSize, config.mlpBias),
    ...linear("mlp.down_proj", hiddenSize, ffnSize, config.mlpBias),
  ];
}
