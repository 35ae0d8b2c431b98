/** Builders for the planner's tests: every default is boring, so whatever a test sets is what the test is about. */
import { aModelConfig } from "../../core/model-config-fixture.ts";
import { RUNTIME_BYTES, footprint } from "./footprint.ts";
import type { ModelFacts, ModelSpec, NodeFacts, World } from "./types.ts";

const GIB = 1 << 30;

export const aConfig = aModelConfig;
export const aModel = (set: Partial<ModelSpec> = {}, placement: Partial<ModelSpec["placement"]> = {}): ModelSpec => ({
  namespace: "default",
  name: "tiny",
  uid: "u1",
  generation: 1,
  source: { path: "models/tiny" },
  quantization: "int4",
  kvDtype: "f32",
  contextLength: 256,
  slotCount: 2,
  replicas: 1,
  handOffDtype: "f32",
  placement: {
    providersMin: 1,
    providersMaxSharePercent: 100,
    providersAllow: [],
    providersDeny: [],
    tensorParallelMax: 1,
    tensorParallelAcrossProviders: false,
    nodeSelector: {},
    ...placement,
  },
  pricePerMillionTokens: 150_000n,
  epochSeconds: 3600,
  maxQueue: 16,
  update: { maxSurge: 1, maxUnavailable: 0, progressSeconds: 600, drainSeconds: 300 },
  ...set,
});
export const aNode = (name: string, set: Partial<NodeFacts> = {}): NodeFacts => ({
  name,
  provider: `${name}-owner`,
  providerAdmitted: true,
  ready: true,
  labels: {},
  device: "cpu",
  freeBytes: GIB,
  memoryBytesPerSecond: 20e9,
  threadCount: 1,
  signer: "unix:/run/s.sock",
  ...set,
});
export const FACTS: ModelFacts = { root: "sha256:00", config: aConfig() };
export const aWorld = (
  nodes: readonly NodeFacts[],
  model = aModel(),
  facts = FACTS,
): World & { readonly facts: ModelFacts } => ({
  model,
  facts,
  nodes,
  ranks: [],
  previous: undefined,
  probes: [],
});
const sizes = footprint(aModel(), FACTS);
/** Memory for so many layers and the embedding or the head, whichever end the node gets. */
export const roomForLayers = (count: number) => RUNTIME_BYTES + sizes.layerBytes * count + sizes.endBytes;
/** A node that cannot hold the whole model alone: where one can, and sessions are few, that is the best plan. */
export const aPartNode = (name: string, set: Partial<NodeFacts> = {}): NodeFacts =>
  aNode(name, { freeBytes: roomForLayers(FACTS.config.layerCount - 1), ...set });
