/** A chain of ranks with fake engines in this process, each with its own door, certificate and key, joined by real gRPC. */
import { generateKeyPairSync } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { present } from "../../core/assert.ts";
import { GATEWAY, type Identity } from "../../core/identity.ts";
import { type SigningKey, signingKeyOf } from "../../core/keys.ts";
import { splitByWeights } from "../../core/ranges.ts";
import { type Result, ok, refuse, valueOrThrow } from "../../core/result.ts";
import { type Authority, createAuthority, writeCertificate } from "../../core/wire/authority.ts";
import { type Door, dial, openDoor } from "../../core/wire/door.ts";
import { loadService } from "../../core/wire/proto.ts";
import { type Tls, openTls, serverCredentials } from "../../core/wire/tls.ts";
import type { ChainSegment, RankAddress, SessionRequest, Wire } from "../../gateway/session/types.ts";
import { createWire } from "../../gateway/session/wire.ts";
import { heldKeys } from "../../shard-runtime/attest/keys.ts";
import { Follower } from "../../shard-runtime/transport/follower.ts";
import { Leader } from "../../shard-runtime/transport/leader.ts";
import { NO_METERS } from "../../shard-runtime/transport/meters.ts";
import type { Address } from "../../shard-runtime/transport/open-request.ts";
import type { RankFacts } from "../../shard-runtime/transport/rank-facts.ts";
import { type RankState, rankHandlers } from "../../shard-runtime/transport/rank-service.ts";
import type { Role } from "../../shard-runtime/transport/role.ts";
import { FakeEngine, LAYER_COUNT, vocabulariesOf } from "./fake-engine.ts";

export const MODEL_ROOT = `sha256:${"5a".repeat(32)}`;
const MODEL_FILE = Buffer.from("a verified file");

export type FakeRank = {
  readonly name: string;
  readonly address: RankAddress;
  readonly engine: FakeEngine;
  readonly role: Role;
  readonly key: SigningKey;
  readonly door: Door;
  stop(): Promise<void>;
};

/** Tensor-parallel slices of every segment: `[[1], [3, 5]]` is one rank, then two uneven ones. */
export type Shape = readonly (readonly number[])[];

export class FakeChain {
  readonly directory: string;
  readonly authority: Authority;
  readonly ranks: FakeRank[] = [];
  readonly segments: ChainSegment[] = [];
  readonly wire: Wire;
  readonly troubles: unknown[] = [];
  nowMs = () => performance.now();
  readonly #tls: Tls[] = [];
  #count = 0;

  private constructor(directory: string, authority: Authority, gateway: Tls) {
    this.directory = directory;
    this.authority = authority;
    this.#tls.push(gateway);
    this.wire = createWire(gateway);
  }

  static async start(
    shape: Shape,
    options: { readonly slotCount?: number; readonly maxBatchRows?: number } = {},
  ): Promise<FakeChain> {
    const directory = await mkdtemp(join(tmpdir(), "tessellate-chain-"));
    const authority = await createAuthority();
    await writeCertificate(join(directory, "gateway"), await authority.issue(GATEWAY));
    const chain = new FakeChain(directory, authority, valueOrThrow(openTls(join(directory, "gateway"))));
    const layers = splitByWeights(
      LAYER_COUNT,
      shape.map(() => 1),
    );
    const names = shape.flatMap((weights, segment) => weights.map((_, rank) => nameOf(segment, rank)));
    for (const [segment, sliceWeights] of shape.entries()) {
      const ranks: RankAddress[] = [];
      for (const rankIndex of sliceWeights.keys()) {
        const shard = { layers: present(layers[segment], "a segment has layers"), rankIndex, sliceWeights, ...options };
        const rank = await chain.#startRank(nameOf(segment, rankIndex), shard, names);
        ranks.push(rank.address);
      }
      chain.segments.push({ layers: present(layers[segment], "a segment has layers"), ranks });
    }
    return chain;
  }

  /** A certificate of this installation, read from disk as a process would. */
  async tls(identity: Identity, authority = this.authority, days = 30): Promise<Tls> {
    const directory = join(this.directory, `tls-${this.#count++}`);
    await writeCertificate(directory, await authority.issue(identity, { days }));
    const tls = valueOrThrow(openTls(directory));
    this.#tls.push(tls);
    return tls;
  }

  rank(segment: number, rank = 0): FakeRank {
    return present(
      this.ranks.find(({ name }) => name === nameOf(segment, rank)),
      "the chain has this rank",
    );
  }

  /** A session with everything filled in. */
  request(prompt: readonly number[], more: Partial<SessionRequest> = {}): SessionRequest {
    this.#count += 1;
    return {
      id: `session-${this.#count}`,
      nonce: new Uint8Array(32).fill(this.#count),
      modelRoot: MODEL_ROOT,
      chain: this.segments,
      prompt,
      sampler: { temperature: 0, topP: 1, seed: new Uint8Array(8) },
      maxPositions: 400,
      handOffDtype: "f32",
      epoch: 3,
      ...more,
    };
  }

  async stop(): Promise<void> {
    await this.wire.close();
    for (const rank of this.ranks) await rank.stop();
    for (const tls of this.#tls) tls.close();
    await rm(this.directory, { recursive: true, force: true });
  }

  async #startRank(
    name: string,
    shard: ConstructorParameters<typeof FakeEngine>[0],
    names: readonly string[],
  ): Promise<FakeRank> {
    const engine = new FakeEngine(shard);
    const tls = await this.tls({ kind: "rank", name });
    const key = valueOrThrow(signingKeyOf(generateKeyPairSync("ed25519").privateKey, name));
    const provider = `provider-${name.slice(-3)}`;
    const facts: RankFacts = {
      name,
      provider,
      node: `node-${name.slice(-3)}`,
      model: { name: "default/numbers", root: MODEL_ROOT, layerCount: LAYER_COUNT },
      layers: shard.layers,
      rankIndex: shard.rankIndex,
      rankCount: shard.sliceWeights.length,
      shareMillionths:
        shard.sliceWeights.length === 1
          ? 1_000_000n
          : BigInt(shard.rankIndex === 0 ? 1_000_000 - 1_000 * (shard.sliceWeights.length - 1) : 1_000),
      vocabularies: vocabulariesOf(shard.sliceWeights),
      neighbours: new Set(names.filter((other) => other !== name)),
      engine: engine.facts,
    };
    const shared = {
      facts,
      engine,
      meters: NO_METERS,
      nowMs: () => this.nowMs(),
      dial: (to: Address, bulk: "one-way" | "both-ways") =>
        dial("ShardRuntime", to.address, tls, { kind: "rank", name: to.name }, bulk),
      onTrouble: (error: unknown) => void this.troubles.push(error),
      sweepMs: 100,
    };
    const rowsMax = engine.facts.maxBatchRows;
    const role =
      shard.rankIndex === 0
        ? new Leader({ ...shared, budget: { rowsMax, prefillRowsBesideDecode: rowsMax / 4 } })
        : new Follower(shared);
    const state: RankState = {
      name,
      give: () => refuse("NotServing", "a fake rank has no pieces"),
      neighbours: facts.neighbours,
      describe: () => ({ rank: name, state: "Serving" }),
      serving: () => ok({ facts, role, keys: heldKeys(key), keyId: key.publicKey.keyId }),
      admits: () => ok(undefined),
      readFile: async (path): Promise<Result<Uint8Array>> =>
        path === "file" ? ok(MODEL_FILE) : refuse("UnknownFile", `no ${path}`),
    };
    const door = await openDoor({
      host: "127.0.0.1",
      port: 0,
      credentials: serverCredentials(tls),
      services: ["ShardRuntime"],
      add: (server) => server.addService(loadService("ShardRuntime").service, rankHandlers(state)),
    });
    const rank: FakeRank = {
      name,
      address: { name, address: door.address, provider, node: facts.node },
      engine,
      role,
      key,
      door,
      stop: async () => {
        role.shutdown();
        await door.close(0);
      },
    };
    this.ranks.push(rank);
    return rank;
  }
}

export const nameOf = (segment: number, rank: number): string => `default/numbers-0-${segment}-${rank}`;
