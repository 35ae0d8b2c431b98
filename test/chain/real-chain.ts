/** A chain as it runs: a process for every rank, told by files, its receipts signed over unix sockets, driven over gRPC. */
import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { present } from "../../core/assert.ts";
import { GATEWAY } from "../../core/identity.ts";
import { type SigningKey, signingKeyOf } from "../../core/keys.ts";
import { type LayerRange, splitByWeights } from "../../core/ranges.ts";
import type { Quantization, RankConfig } from "../../core/rank-config.ts";
import { valueOrThrow } from "../../core/result.ts";
import { type Authority, createAuthority, writeCertificate } from "../../core/wire/authority.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { type Tls, openTls, tlsFilesIn } from "../../core/wire/tls.ts";
import type { ChainSegment, RankAddress, SessionRequest, Wire } from "../../gateway/session/types.ts";
import { createWire } from "../../gateway/session/wire.ts";
import { type Signer, startSigner } from "../../shard-runtime/attest/signer-server.ts";
import { makeManifest, writeManifest } from "../../shard-runtime/weights/pack.ts";
import { until } from "../until.ts";
import type { Shape } from "./fake-chain.ts";

export type RealChainOptions = {
  readonly checkpoint: string; // a folder
  readonly shape: Shape;
  readonly quantization?: Quantization;
  readonly contextLength?: number;
  readonly slotCount?: number;
  readonly threadCount?: number;
  readonly cacheDirectory?: string;
  /** Changes what a rank is told. */
  readonly tell?: (config: RankConfig) => RankConfig;
};

export type RankProcess = {
  readonly name: string;
  readonly child: ChildProcess;
  readonly key: SigningKey;
  readonly address: RankAddress;
  readonly metricsAddress: string;
  readonly log: string[]; // lines of stderr
};

export class RealChain {
  readonly directory: string;
  readonly root: string;
  readonly layerCount: number;
  readonly wire: Wire;
  readonly ranks: RankProcess[] = [];
  readonly segments: ChainSegment[] = [];
  readonly authority: Authority;
  readonly #tls: Tls;
  readonly #signers: Signer[] = [];
  #count = 0;

  private constructor(directory: string, root: string, layerCount: number, authority: Authority, tls: Tls) {
    this.directory = directory;
    this.root = root;
    this.layerCount = layerCount;
    this.authority = authority;
    this.#tls = tls;
    this.wire = createWire(tls);
  }

  /** Starts every rank; `serving` waits until all of them are ready. */
  static async start(options: RealChainOptions): Promise<RealChain> {
    const directory = await mkdtemp(join(tmpdir(), "tessellate-ranks-"));
    const manifest = valueOrThrow(
      await makeManifest(options.checkpoint, { clock: systemClock, tokenizer: "optional" }),
    );
    await writeManifest(directory, manifest);
    const layerCount = (JSON.parse(manifest.configText) as { readonly num_hidden_layers: number }).num_hidden_layers;
    const authority = await createAuthority();
    await writeCertificate(join(directory, "gateway"), await authority.issue(GATEWAY));
    const tls = valueOrThrow(openTls(join(directory, "gateway")));
    const chain = new RealChain(directory, manifest.root, layerCount, authority, tls);
    try {
      await chain.#startRanks(options);
    } catch (error) {
      await chain.stop();
      throw error;
    }
    return chain;
  }

  async serving(): Promise<void> {
    await Promise.all(
      this.ranks.map(async ({ name, metricsAddress }) => {
        let said = "";
        await until(`${name} to serve or fail`, async () => {
          const ready = await readyz(metricsAddress);
          said = ready.text;
          return ready.ok || said.startsWith("Failed");
        });
        if (said !== "ok") throw new Error(`${name}: ${said}`);
      }),
    );
  }

  request(prompt: readonly number[], more: Partial<SessionRequest> = {}): SessionRequest {
    this.#count += 1;
    return {
      id: `real-${this.#count}`,
      nonce: new Uint8Array(32).fill(this.#count),
      modelRoot: this.root,
      chain: this.segments,
      prompt,
      sampler: { temperature: 0, topP: 1, seed: new Uint8Array(8) },
      maxPositions: prompt.length + 64,
      handOffDtype: "f32",
      epoch: 1,
      ...more,
    };
  }

  async stop(): Promise<void> {
    await this.wire.close();
    await Promise.all(this.ranks.map(({ child }) => ended(child)));
    await Promise.all(this.#signers.map((signer) => signer.close()));
    this.#tls.close();
    await rm(this.directory, { recursive: true, force: true });
  }

  async #startRanks({ shape, ...options }: RealChainOptions): Promise<void> {
    const layers = splitByWeights(
      this.layerCount,
      shape.map(() => 1),
    );
    const names = shape.flatMap((weights, segment) => weights.map((_, rank) => rankName(segment, rank)));
    const started = shape.map((sliceWeights, segment) =>
      Promise.all(
        sliceWeights.map((_, rankIndex) =>
          this.#startRank(
            { ...options, shape },
            { segment, rankIndex, sliceWeights, layers: present(layers[segment], "a segment has layers"), names },
          ),
        ),
      ),
    );
    for (const [segment, ranks] of (await Promise.all(started)).entries()) {
      this.ranks.push(...ranks);
      this.segments.push({
        layers: present(layers[segment], "a segment has layers"),
        ranks: ranks.map(({ address }) => address),
      });
    }
  }

  async #startRank(options: RealChainOptions, place: Place): Promise<RankProcess> {
    const { tell = (config: RankConfig) => config } = options;
    const name = rankName(place.segment, place.rankIndex);
    const short = `${place.segment}-${place.rankIndex}`;
    const home = join(this.directory, short);
    await writeCertificate(home, await this.authority.issue({ kind: "rank", name }));
    const key = valueOrThrow(signingKeyOf(generateKeyPairSync("ed25519").privateKey, name));
    const owner = { provider: `provider-${short}`, node: `node-${short}` };
    const signer = await startSigner({ ...owner, key, target: `unix:${join(home, "signer.sock")}` });
    this.#signers.push(signer);
    const config = tell({
      name,
      model: {
        name: "model",
        source: { path: options.checkpoint },
        root: this.root,
        manifestUrl: join(this.directory, "tessellate-manifest.json"),
      },
      layers: place.layers,
      rankIndex: place.rankIndex,
      sliceWeights: place.sliceWeights,
      quantization: options.quantization ?? "f32",
      kvDtype: "f32",
      device: "cpu",
      contextLength: options.contextLength ?? 160,
      slotCount: options.slotCount ?? 8,
      threadCount: options.threadCount ?? 1,
      spin: false,
      ...owner,
      neighbours: place.names.filter((other) => other !== name),
      signer: `unix:${join(home, "signer.sock")}`,
      listen: { host: "127.0.0.1", port: 0, metricsPort: 0 },
      tls: tlsFilesIn(home),
      cacheDirectory: options.cacheDirectory ?? join(this.directory, "cache"),
    });
    const file = join(home, "rank.json");
    await writeFile(file, JSON.stringify(config));
    const { child, listening, log } = await startProcess(file);
    const address = { name, address: listening.address, ...owner };
    return { name, child, key, address, metricsAddress: listening.metricsAddress, log };
  }
}

type Place = {
  readonly segment: number;
  readonly rankIndex: number;
  readonly sliceWeights: readonly number[];
  readonly layers: LayerRange;
  readonly names: readonly string[];
};

export const rankName = (segment: number, rank: number): string => `default/model-0-${segment}-${rank}`;

export type Listening = { readonly address: string; readonly metricsAddress: string };

/** Starts a rank with a configuration; rejects with what it said on stderr if it ends before its doors are open. */
export async function startProcess(
  configFile: string,
): Promise<{ readonly child: ChildProcess; readonly listening: Listening; readonly log: string[] }> {
  const child = spawn(process.execPath, ["shard-runtime/main.ts", "--config", configFile], {
    stdio: ["pipe", "pipe", "pipe"],
    env: { ...process.env, TESSELLATE_EXIT_WITH_STDIN: "1" },
  });
  const log: string[] = [];
  createInterface({ input: present(child.stderr, "piped") }).on("line", (line) => log.push(line));
  const lines = createInterface({ input: present(child.stdout, "piped") });
  const gone = once(child, "close").then(() => {
    throw new Error(`the rank ended with ${child.exitCode} before it listened: ${log.join("\n")}`);
  });
  const [line] = (await Promise.race([once(lines, "line"), gone])) as [string];
  gone.catch(() => {});
  return { child, listening: JSON.parse(line) as Listening, log };
}

/** SIGTERM, and the exit code that follows. */
export async function ended(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const exit = once(child, "exit");
  child.kill("SIGTERM");
  await exit;
  return child.exitCode;
}

export async function readyz(metricsAddress: string): Promise<{ readonly ok: boolean; readonly text: string }> {
  const response = await fetch(`http://${metricsAddress}/readyz`);
  return { ok: response.ok, text: (await response.text()).trim() };
}
