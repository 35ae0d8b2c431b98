/** From stored objects to the nouns of planning: units instead of texts, unions instead of optional fields. */
import { assert, present } from "../../core/assert.ts";
import type { Provider } from "../../core/gen/crds/provider.ts";
import type { ShardedModel, ShardedModelSpecModelSource } from "../../core/gen/crds/shardedmodel.ts";
import type { ShardNode } from "../../core/gen/crds/shardnode.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import { parseQuantity } from "../../core/quantity.ts";
import type { ModelSource } from "../../core/rank-config.ts";
import type { ModelSpec, NodeFacts } from "./types.ts";

/** Positions that a session gets where neither the user nor the model says less. */
export const CONTEXT_LENGTH_DEFAULT = 4096;

const SECONDS_PER: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600 };

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
  const { model, placement } = spec;
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
    contextLength:
      spec.contextLength ?? Math.min(config?.maxPositions ?? CONTEXT_LENGTH_DEFAULT, CONTEXT_LENGTH_DEFAULT),
    slotCount: spec.slots,
    replicas: spec.replicas,
    handOffDtype: spec.handOff.dtype,
    placement: {
      providersMin: placement.providers.min,
      providersMaxSharePercent: Number.parseInt(placement.providers.maxShare, 10),
      providersAllow: placement.providers.allow,
      providersDeny: placement.providers.deny,
      tensorParallelMax: placement.tensorParallel.max,
      tensorParallelAcrossProviders: placement.tensorParallel.acrossProviders,
      nodeSelector: placement.nodeSelector,
    },
    pricePerMillionTokens: parseCredits(spec.rewards.pricePerMillionTokens),
    epochSeconds: parseEpoch(spec.rewards.epoch),
    maxQueue: spec.gateway.maxQueue,
  };
}

/**
 * A node as the planner sees it. `providers` are all there are: one without a public key, or none at all, is not
 * admitted. `ready` is what the cluster says about the machine.
 */
export function nodeFactsOf(node: ShardNode, providers: readonly Provider[], ready: boolean): NodeFacts {
  const { metadata, spec } = node;
  const provider = providers.find((candidate) => candidate.metadata.name === spec.provider);
  return {
    name: metadata.name,
    provider: spec.provider,
    providerAdmitted: provider?.spec.publicKey !== undefined,
    ready,
    labels: metadata.labels ?? {},
    device: spec.device,
    ...(spec.gpuResource === undefined ? {} : { gpuResource: spec.gpuResource }),
    freeBytes: quantityOf(spec.memory.freeBytes),
    memoryBytesPerSecond: quantityOf(spec.memoryBytesPerSecond),
    threadCount: spec.threads,
    signer: spec.signer.target,
    ...(spec.nodeName === undefined ? {} : { machine: spec.nodeName }),
    ...(spec.cache.hostPath === undefined ? {} : { cachePath: spec.cache.hostPath }),
    cacheBytes: quantityOf(spec.cache.sizeBytes),
  };
}

function quantityOf(quantity: number | string): number {
  const parsed = parseQuantity(quantity);
  assert(parsed.ok, "the schema lets through only quantities");
  return Math.floor(parsed.value);
}
