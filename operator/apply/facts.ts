/**
 * What a model is, remembered. Once a plan has been made its ShardPlan holds all that planning needs, so that neither a
 * new operator nor an absent source changes what serves. Only another source is read anew.
 */
import type { ShardPlan } from "../../core/gen/crds/shardplan.ts";
import type { Clock } from "../../core/clock.ts";
import { digestOf } from "../../core/digest.ts";
import { HELD_IN_BLOCKS } from "../../core/held-bytes.ts";
import { parseModelConfig } from "../../core/model-config.ts";
import { type Refusal, type Result, ok, refuse } from "../../core/result.ts";
import { type FactsRequest, type ReadFacts, readFacts } from "../manifest/read-facts.ts";

/** A source that could not be read is tried again after this long. */
const RETRY_MS = 15_000;

type Known = { readonly result: Result<ReadFacts>; readonly atMs: number };

export class FactsBook {
  readonly #clock: Clock;
  readonly #read: (request: FactsRequest) => Promise<Result<ReadFacts>>;
  readonly #known = new Map<string, Known>(); // by model; the last source only

  constructor(clock: Clock, read = readFacts) {
    this.#clock = clock;
    this.#read = read;
  }

  /** The facts of `key`'s model: of the plan in force, of memory, or read from the source. */
  async of(key: string, request: FactsRequest, plan: ShardPlan | undefined): Promise<ReadFacts | Refusal> {
    const source = sourceDigestOf(request);
    if (plan?.spec.model.sourceDigest === source) {
      const planned = factsIn(plan);
      if (planned.ok) return planned.value;
    }
    const known = this.#known.get(`${key} ${source}`);
    const fresh = known !== undefined && (known.result.ok || this.#clock.monotonicMs() - known.atMs < RETRY_MS);
    const result = fresh ? known.result : await this.#readAnew(key, source, request);
    return result.ok ? result.value : result;
  }

  forget(key: string): void {
    for (const each of this.#known.keys()) if (each.startsWith(`${key} `)) this.#known.delete(each);
  }

  async #readAnew(key: string, source: string, request: FactsRequest): Promise<Result<ReadFacts>> {
    const result = unreadable(request) ?? (await this.#read(request).catch(asRefusal));
    this.forget(key);
    this.#known.set(`${key} ${source}`, { result, atMs: this.#clock.monotonicMs() });
    return result;
  }
}

/** Changes with where a model is read from. */
export function sourceDigestOf({ source, digest, manifestUrl }: FactsRequest): string {
  const text = JSON.stringify([source, digest ?? null, manifestUrl ?? null]);
  const known = digests.get(text);
  if (known !== undefined) return known;
  if (digests.size >= DIGESTS_COUNT_MAX) digests.clear();
  const found = digestOf(Buffer.from(text));
  digests.set(text, found);
  return found;
}

/** By what they are of: each look at a model asks twice. */
const digests = new Map<string, string>();
const DIGESTS_COUNT_MAX = 10_000;

/** Of plans as they were read: a copy is never changed, and asked about at every look. */
const read = new WeakMap<ShardPlan, Result<ReadFacts>>();

/** What a ShardPlan says about its model. */
export function factsIn(plan: ShardPlan): Result<ReadFacts> {
  const known = read.get(plan) ?? readFactsIn(plan);
  read.set(plan, known);
  return known;
}

function readFactsIn({ spec }: ShardPlan): Result<ReadFacts> {
  const config = parseModelConfig(spec.model.config);
  if (!config.ok) return config;
  const { root, config: configText, quantization, held } = spec.model;
  const known = HELD_IN_BLOCKS.find((each) => each === quantization);
  const counted = held === undefined || known === undefined ? {} : { held: [{ quantization: known, ...held }] };
  return ok({ root, config: config.value, configText, ...counted });
}

function unreadable({ source, manifestUrl }: FactsRequest): Refusal | undefined {
  if (!("persistentVolumeClaim" in source) || manifestUrl !== undefined) return undefined;
  return refuse(
    "MissingManifest",
    "the operator cannot look into a PersistentVolumeClaim: put tessellate-manifest.json on a web server and name it in spec.model.manifestUrl",
  );
}

const asRefusal = (error: unknown): Refusal =>
  refuse("Unreachable", error instanceof Error ? error.message : String(error));
