/** From stored objects to the nouns of planning: units instead of texts, unions instead of optional fields. */
import { assert, present } from "../../core/assert.ts";
import type { Provider } from "../../core/gen/crds/provider.ts";
import type {
  ShardedModel,
  ShardedModelSpec,
  ShardedModelSpecModelSource,
  ShardedModelSpecObjective,
} from "../../core/gen/crds/shardedmodel.ts";
import type { ShardNode } from "../../core/gen/crds/shardnode.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import { parseQuantity } from "../../core/quantity.ts";
import type { ModelSource } from "../../core/rank-config.ts";
import type { Limits } from "./rollout.ts";
import type { ModelSpec, NodeFacts, Objective, Placement } from "./types.ts";

/** Positions that a session gets where neither the user nor the model says less. */
export const CONTEXT_LENGTH_DEFAULT = 4096;

/** Sessions of a chain where nobody says how many; the planner may choose others. */
export const SLOT_COUNT_DEFAULT = 4;

/** What Kubernetes calls a machine's region; a ShardNode may carry it too. */
export const REGION_LABEL = "topology.kubernetes.io/region";
const RELIABILITY_MIN = 0.001;

/** Where a node's signer listens if nobody says otherwise. */
const SIGNER_SOCKET = "unix:/run/tessellate/signer.sock";

const SECONDS_PER: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600 };

/** The model with what the planner chose for it: what ranks are told, and what figures are for. */
export const plannedModel = (model: ModelSpec, { slotCount }: Pick<Placement, "slotCount">): ModelSpec =>
  slotCount === undefined ? model : { ...model, slotCount };

/** `90s`, `30m`, `1h` in seconds. */
export function parseEpoch(epoch: string): number {
  const seconds = Number.parseInt(epoch, 10) * (SECONDS_PER[epoch.slice(-1)] ?? Number.NaN);
  assert(Number.isSafeInteger(seconds) && seconds > 0, "the schema lets through only whole seconds, minutes and hours");
  return seconds;
}

/** `"0.15"` credits in micro-credits, exactly. */
export function parseCredits(credits: string): bigint {
  const [whole = "0", fraction = ""] = credits.split(".");
  return BigInt(whole) * 1_000_000n + BigInt(fraction.padEnd(6, "0"));
}

export function modelSourceOf(source: ShardedModelSpecModelSource): ModelSource {
  const { path, url, huggingFace, persistentVolumeClaim } = source;
  if (path !== undefined) return { path };
  if (url !== undefined) return { url };
  if (persistentVolumeClaim !== undefined) return { persistentVolumeClaim };
  const { repo, revision, endpoint } = present(huggingFace, "the schema asks for exactly one source");
  return { huggingFace: endpoint === undefined ? { repo, revision } : { repo, revision, endpoint } };
}

/** What the user asked for. `config` is the model's, where it could be read: it says how long a context may be. */
export function modelSpecOf({ metadata, spec }: ShardedModel, config?: ModelConfig): ModelSpec {
  const { model } = spec;
  const tokenSecret = model.source.huggingFace?.tokenSecretRef;
  return {
    namespace: metadata.namespace ?? "default",
    name: metadata.name,
    uid: metadata.uid ?? "",
    generation: metadata.generation ?? 1,
    source: modelSourceOf(model.source),
    ...(model.digest === undefined ? {} : { digest: model.digest }),
    ...(model.manifestUrl === undefined ? {} : { manifestUrl: model.manifestUrl }),
    ...(model.mirrors === undefined ? {} : { mirrors: model.mirrors.map(modelSourceOf) }),
    ...(tokenSecret === undefined ? {} : { hubTokenSecret: tokenSecret }),
    quantization: spec.quantization,
    kvDtype: spec.kvCache.dtype,
    contextLength:
      spec.contextLength ?? Math.min(config?.maxPositions ?? CONTEXT_LENGTH_DEFAULT, CONTEXT_LENGTH_DEFAULT),
    slotCount: spec.slots ?? SLOT_COUNT_DEFAULT,
    ...(spec.slots === undefined ? { slotsByPlanner: true as const } : {}),
    replicas: spec.replicas,
    handOffDtype: spec.handOff.dtype,
    placement: placementOf(spec),
    ...(spec.objective === undefined ? {} : { objective: objectiveOf(spec.objective) }),
    spares: spec.spares,
    ...(spec.idle === undefined ? {} : { idle: spec.idle }),
    planPolicy: spec.planPolicy,
    gainMinPercent: Number.parseInt(spec.update.minGain, 10),
    update: updateOf(spec),
    pricePerMillionTokens: parseCredits(spec.rewards.pricePerMillionTokens),
    epochSeconds: parseEpoch(spec.rewards.epoch),
    maxQueue: spec.gateway.maxQueue,
  };
}

function updateOf({ update }: ShardedModelSpec): Limits {
  const { maxSurge, maxUnavailable, progressDeadlineSeconds, drainSeconds, maxSlowdown } = update;
  return {
    maxSurge,
    maxUnavailable,
    progressSeconds: progressDeadlineSeconds,
    drainSeconds,
    ...(maxSlowdown === "Any" ? {} : { maxSlowdownPercent: Number.parseInt(maxSlowdown, 10) }),
  };
}

function placementOf({ placement }: ShardedModelSpec): ModelSpec["placement"] {
  const { providers, tensorParallel, edges, devices, regions, surviveProviders, maxPricePerHour } = placement;
  return {
    providersMin: providers.min,
    providersMaxSharePercent: Number.parseInt(providers.maxShare, 10),
    providersAllow: providers.allow,
    providersDeny: providers.deny,
    tensorParallelMax: tensorParallel.max,
    tensorParallelAcrossProviders: tensorParallel.acrossProviders,
    ...(tensorParallel.when === "Always" ? { tensorParallelAlways: true as const } : {}),
    nodeSelector: placement.nodeSelector,
    replacement: placement.replacement,
    ...(placement.tolerations.length === 0 ? {} : { tolerations: placement.tolerations }),
    ...(devices === undefined ? {} : { devices }),
    ...(regions === undefined ? {} : { regions }),
    ...(edges === undefined ? {} : { edgeProviders: edges.providers }),
    ...(surviveProviders === undefined ? {} : { surviveProviders }),
    ...(maxPricePerHour === undefined ? {} : { pricePerHourMax: parseCredits(maxPricePerHour) }),
  };
}

function objectiveOf({ throughput, latency, price }: ShardedModelSpecObjective): Objective {
  if (price !== undefined) return { kind: "Price", tokensPerSecondMin: price.minTokensPerSecond };
  if (latency !== undefined) {
    const { maxPricePerHour } = latency;
    return {
      kind: "Latency",
      ...(maxPricePerHour === undefined ? {} : { pricePerHourMax: parseCredits(maxPricePerHour) }),
    };
  }
  const maxMs = throughput?.maxTimePerTokenMs;
  return { kind: "Throughput", ...(maxMs === undefined ? {} : { timePerTokenMsMax: maxMs }) };
}

/**
 * A node as the planner sees it. `providers` are all there are: one without a public key, or none at all, is not
 * admitted. `ready` is what the cluster says about the machine. `measuredDaysAgo`: left out, nothing is too old.
 */
export function nodeFactsOf(
  node: ShardNode,
  providers: readonly Provider[],
  ready: boolean,
  measuredDaysAgo?: number,
): NodeFacts {
  const { metadata, spec, status } = node;
  const measured = status?.measured ?? {};
  const region = spec.region ?? metadata.labels?.[REGION_LABEL];
  const provider = providers.find((candidate) => candidate.metadata.name === spec.provider);
  return {
    name: metadata.name,
    provider: spec.provider,
    providerAdmitted: provider?.spec.publicKey !== undefined,
    ready,
    labels: metadata.labels ?? {},
    device: spec.device,
    ...(spec.gpuResource === undefined ? {} : { gpuResource: spec.gpuResource }),
    ...(spec.deviceClass === undefined ? {} : { deviceClass: spec.deviceClass }),
    freeBytes: quantityOf(spec.memory.freeBytes),
    memoryBytesPerSecond: measured.memoryBytesPerSecond ?? quantityOf(spec.memoryBytesPerSecond),
    threadCount: spec.threads,
    signer: spec.signer.target ?? SIGNER_SOCKET,
    ...(spec.nodeName === undefined ? {} : { machine: spec.nodeName }),
    ...(spec.cache.hostPath === undefined ? {} : { cachePath: spec.cache.hostPath }),
    cacheBytes: quantityOf(spec.cache.sizeBytes),
    ...(region === undefined ? {} : { region }),
    ...(measured.layerTimes === undefined ? {} : { layerTimes: measured.layerTimes }),
    ...(measured.links === undefined ? {} : { links: measured.links }),
    ...(measuredDaysAgo === undefined ? {} : { measuredDaysAgo }),
    // Nobody has seen a node that never answered: a share of nothing is taken for the least that counts.
    ...(measured.reliability === undefined ? {} : { reliability: Math.max(RELIABILITY_MIN, measured.reliability) }),
    ...(measured.cached === undefined
      ? {}
      : { cached: Object.fromEntries(measured.cached.map(({ root, bytes }) => [root, bytes])) }),
    ...(spec.pricePerHour === undefined ? {} : { pricePerHour: parseCredits(spec.pricePerHour) }),
  };
}

function quantityOf(quantity: number | string): number {
  const parsed = parseQuantity(quantity);
  assert(parsed.ok, "the schema lets through only quantities");
  return Math.floor(parsed.value);
}
