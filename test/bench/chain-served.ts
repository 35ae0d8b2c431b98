/**
 * One arrangement of a bench as it is really served: rank processes with mTLS, signers and receipts, driven through the
 * gateway's own wire. Also how several sessions at once are measured.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { present } from "../../core/assert.ts";
import type { Provider } from "../../core/gen/crds/provider.ts";
import type { ShardNode } from "../../core/gen/crds/shardnode.ts";
import { splitByWeights } from "../../core/ranges.ts";
import { valueOrThrow } from "../../core/result.ts";
import { openTls } from "../../core/wire/tls.ts";
import { createWire } from "../../gateway/session/wire.ts";
import type { ChainSegment, SessionRequest, Wire } from "../../gateway/session/types.ts";
import { LocalCluster } from "../../operator/local/local-cluster.ts";
import { readFacts } from "../../operator/manifest/read-facts.ts";
import { aModel } from "../../operator/plan/builders.ts";
import { fullRankName } from "../../operator/plan/names.ts";
import { revisionOf } from "../../operator/plan/revision.ts";
import type { Assignment, ModelFacts, ModelSpec, RankState } from "../../operator/plan/types.ts";
import { until } from "../until.ts";
import { benchCache } from "./bench-cache.ts";

export type Arrangement = { readonly segments: number; readonly tensorParallel: number };

export type ServedChain = {
  readonly facts: ModelFacts;
  /** Opens a session, samples `tokenCount` tokens greedily, closes it; milliseconds of each token after the first. */
  generate(
    prompt: readonly number[],
    tokenCount: number,
  ): Promise<{ readonly firstMs: number; readonly tokenMs: readonly number[] }>;
  stop(): Promise<void>;
};

const READY_TIMEOUT_MS = 900_000;

/** Starts the ranks of one chain over `directory`, packed shards kept in the bench's cache; resolves when all serve. */
export async function startServedChain(
  directory: string,
  { segments, tensorParallel }: Arrangement,
  spec: Pick<ModelSpec, "quantization" | "contextLength" | "slotCount">,
): Promise<ServedChain> {
  const state = mkdtempSync(join(tmpdir(), "tessellate-bench-"));
  const sockets = mkdtempSync(join(tmpdir(), "tessellate-bench-"));
  const facts = valueOrThrow(await readFacts({ source: { path: directory } }));
  const model = aModel({ ...spec, name: "bench", source: { path: directory } });
  const assignments = assignmentsOf(facts, segments, tensorParallel);
  // Ranks of a segment run at once and share the cores; segments take turns with one session, and each has them all.
  const threads = Math.max(1, Math.floor(availableParallelism() / tensorParallel));
  const cluster = await LocalCluster.open({ state, sockets }, [PROVIDER], nodesOf(assignments, threads), () => {});
  for (const { node } of assignments) shareCache(state, node);
  const wire = createWire(valueOrThrow(openTls(join(state, "tls", "gateway"))));
  const stop = async () => {
    await wire.close();
    await cluster.stop();
    rmSync(state, { recursive: true, force: true });
  };
  try {
    for (const node of cluster.nodes) cluster.startSigner(node);
    for (const assignment of assignments)
      await cluster.createRank(model, facts, revisionOf(model, facts), assignment, { assignments });
    await until("all ranks to serve", () => allServe(cluster), { timeoutMs: READY_TIMEOUT_MS, everyMs: 200 });
  } catch (error) {
    await stop();
    throw error;
  }
  const chain = chainOf(model, assignments, cluster.ranks());
  return { facts, stop, generate: (prompt, tokenCount) => generate(wire, facts, chain, prompt, tokenCount) };
}

async function allServe(cluster: LocalCluster): Promise<boolean> {
  await cluster.observe();
  const failed = cluster.ranks().find(({ phase }) => phase === "Failed");
  if (failed !== undefined) throw new Error(failed.detail);
  return cluster.ranks().every(({ phase }) => phase === "Ready");
}

async function generate(
  wire: Wire,
  facts: ModelFacts,
  chain: readonly ChainSegment[],
  prompt: readonly number[],
  tokenCount: number,
) {
  const id = randomBytes(12).toString("base64url");
  const request: SessionRequest = {
    id,
    nonce: new Uint8Array(createHash("sha256").update(id).digest()),
    modelRoot: facts.root,
    chain,
    prompt,
    sampler: { temperature: 0, topP: 1, seed: new Uint8Array(8) },
    maxPositions: prompt.length + tokenCount,
    handOffDtype: "f32",
    epoch: 1,
  };
  const session = valueOrThrow(await wire.open(request));
  let at = performance.now();
  valueOrThrow(await session.next());
  const firstMs = performance.now() - at;
  const tokenMs: number[] = [];
  for (let count = 1; count < tokenCount; count++) {
    at = performance.now();
    valueOrThrow(await session.next());
    tokenMs.push(performance.now() - at);
  }
  await session.close("done");
  return { firstMs, tokenMs };
}

function assignmentsOf(facts: ModelFacts, segments: number, tensorParallel: number): readonly Assignment[] {
  const ranges = splitByWeights(facts.config.layerCount, new Array<number>(segments).fill(1));
  return ranges.flatMap((layers, segment) =>
    Array.from({ length: tensorParallel }, (_, rank) => ({
      chain: 0,
      segment,
      rank,
      node: `n${segment}-${rank}`,
      provider: "bench",
      layers,
      sliceWeights: new Array<number>(tensorParallel).fill(1),
      weightBytes: 0,
      kvBytes: 0,
    })),
  );
}

const PROVIDER: Provider = {
  apiVersion: "tessellate.dev/v1alpha1",
  kind: "Provider",
  metadata: { name: "bench" },
  spec: {},
};

const nodesOf = (assignments: readonly Assignment[], threads: number): readonly ShardNode[] =>
  assignments.map(({ node }) => ({
    apiVersion: "tessellate.dev/v1alpha1",
    kind: "ShardNode",
    metadata: { name: node },
    spec: {
      provider: "bench",
      device: "cpu",
      memory: { freeBytes: "64Gi" },
      memoryBytesPerSecond: 0,
      threads,
      signer: { target: "unix:/unused/signer.sock" },
      cache: { sizeBytes: 0 },
    },
  }));

/** Every rank of the bench packs into one cache that outlives it: what is measured is serving, not packing. */
function shareCache(state: string, node: string): void {
  symlinkSync(join(benchCache(), "packed"), join(state, "cache", node));
}

function chainOf(
  model: ModelSpec,
  assignments: readonly Assignment[],
  ranks: readonly RankState[],
): readonly ChainSegment[] {
  const segmentCount = new Set(assignments.map(({ segment }) => segment)).size;
  return Array.from({ length: segmentCount }, (_, segment) => {
    const own = assignments.filter((assignment) => assignment.segment === segment);
    return {
      layers: present(own[0], "a segment has ranks").layers,
      ranks: own.map((assignment) => {
        const name = fullRankName(model, assignment);
        const state = ranks.find((rank) => name.endsWith(`/${rank.name}`));
        return {
          name,
          address: present(state?.address, "a rank that serves has an address"),
          provider: assignment.provider,
          node: assignment.node,
        };
      }),
    };
  });
}
