/** A configuration for tests: every default is boring, so whatever a test sets is what the test is about. */
import type { ModelConfig } from "./model-config.ts";

export function aModelConfig(set: Partial<ModelConfig> = {}): ModelConfig {
  const headSize = set.headSize ?? 32;
  const layerCount = set.layerCount ?? 12;
  return {
    family: "llama",
    hiddenSize: 256,
    layerCount,
    headCount: 8,
    kvHeadCount: 2,
    headSize,
    ffnSize: 1024,
    vocabularySize: 1000,
    normEpsilon: 1e-5,
    tiedEmbeddings: false,
    maxPositions: 2048,
    attentionKinds: [{ rope: { theta: 10_000, rotarySize: headSize, scaling: { kind: "none" } } }],
    layerKinds: Array.from({ length: layerCount }, () => ({ attention: 0, experts: false })),
    attentionScale: headSize ** -0.5,
    sinks: false,
    qkvBias: false,
    attentionOutBias: false,
    mlpBias: false,
    norms: { attentionIn: true, attentionOut: false, ffnIn: true, ffnOut: false },
    activation: { kind: "silu" },
    embeddingScale: 1,
    residualScale: 1,
    logitScale: 1,
    eosTokenIds: [2],
    ...set,
  };
}
