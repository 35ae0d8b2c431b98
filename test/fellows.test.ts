/** Ranks of two chains as processes, and an origin that counts: the model is read from it once, and not once for each chain. */
import { generateKeyPairSync } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { type Server, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { signingKeyOf } from "../core/keys.ts";
import type { RankConfig } from "../core/rank-config.ts";
import { valueOrThrow } from "../core/result.ts";
import { type Authority, createAuthority, writeCertificate } from "../core/wire/authority.ts";
import { systemClock } from "../core/wire/clock.ts";
import { dial } from "../core/wire/door.ts";
import { refusalOf } from "../core/wire/status.ts";
import { openTls, tlsFilesIn } from "../core/wire/tls.ts";
import { type Signer, startSigner } from "../shard-runtime/attest/signer-server.ts";
import { aCheckpoint, removed } from "../shard-runtime/weights/checkpoint-builder.ts";
import { packModel } from "../shard-runtime/weights/pack.ts";
import { ended, readyz, startProcess } from "./chain/real-chain.ts";
import { until } from "./until.ts";

/** 46 MiB in f16: enough stretches of 8 MiB for both ranks to have some. */
const config = {
  hidden_size: 512,
  intermediate_size: 2048,
  num_hidden_layers: 4,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  vocab_size: 6000,
};

type Started = Awaited<ReturnType<typeof startProcess>>;

describe("ranks of two chains", function () {
  this.timeout(180_000);
  let checkpoint: string;
  let home: string;
  let root: string;
  let weightBytes: number;
  let authority: Authority;
  let origin: Server;
  let originBytes = 0;
  const signers: Signer[] = [];
  const ranks = new Map<number, Started>(); // by chain

  before(async () => {
    home = await mkdtemp(join(tmpdir(), "tessellate-fellows-"));
    checkpoint = await aCheckpoint({ config, dtype: "F16" });
    const packed = valueOrThrow(await packModel(checkpoint, { clock: systemClock }));
    root = packed.manifest.root;
    weightBytes = packed.manifest.files.find(({ path }) => path === "model.safetensors")?.sizeBytes ?? 0;
    authority = await createAuthority();
    origin = createServer((request, response) => {
      const name = new URL(request.url ?? "", "http://origin").pathname.slice(1);
      void readFile(join(checkpoint, name)).then(
        (body) => {
          const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? [];
          const start = Number(first ?? 0);
          const end = last === undefined ? body.length : Number(last) + 1;
          if (name.endsWith(".safetensors")) originBytes += end - start;
          const headers = {
            "content-length": end - start,
            "content-range": `bytes ${start}-${end - 1}/${body.length}`,
          };
          response.writeHead(first === undefined ? 200 : 206, headers).end(body.subarray(start, end));
        },
        () => response.writeHead(404).end(),
      );
    });
    await new Promise<void>((resolve) => origin.listen(0, "127.0.0.1", resolve));
  });
  after(async () => {
    await Promise.all([...ranks.values()].map(({ child }) => ended(child)));
    await Promise.all(signers.map((signer) => signer.close()));
    origin.closeAllConnections();
    await new Promise((resolve) => origin.close(resolve));
    await Promise.all([removed(checkpoint), rm(home, { recursive: true, force: true })]);
  });

  const nameOf = (chain: number) => `default/model-${chain}-0-0`;
  const homeOf = (chain: number) => join(home, String(chain));

  async function startRank(chain: number, fellows: readonly number[]): Promise<Started> {
    const directory = homeOf(chain);
    await writeCertificate(directory, await authority.issue({ kind: "rank", name: nameOf(chain) }));
    const owner = { provider: `provider-${chain}`, node: `node-${chain}` };
    const key = valueOrThrow(signingKeyOf(generateKeyPairSync("ed25519").privateKey, nameOf(chain)));
    signers.push(await startSigner({ ...owner, key, target: `unix:${join(directory, "signer.sock")}` }));
    const told: RankConfig = {
      name: nameOf(chain),
      model: { name: "model", source: { url: `http://127.0.0.1:${(origin.address() as AddressInfo).port}` }, root },
      layers: { start: 0, end: 4 },
      rankIndex: 0,
      sliceWeights: [1],
      quantization: "f32",
      kvDtype: "f32",
      device: "cpu",
      contextLength: 32,
      slotCount: 1,
      threadCount: 1,
      spin: false,
      ...owner,
      neighbours: [],
      fellows: fellows.map((other) => ({ name: nameOf(other), address: `file:${join(homeOf(other), "address")}` })),
      signer: `unix:${join(directory, "signer.sock")}`,
      listen: { host: "127.0.0.1", port: 0, metricsPort: 0 },
      tls: tlsFilesIn(directory),
      cacheDirectory: join(directory, "cache"),
      cacheBytes: 1 << 30,
    };
    await writeFile(join(directory, "rank.json"), JSON.stringify(told));
    const started = await startProcess(join(directory, "rank.json"));
    await writeFile(join(directory, "address"), started.listening.address);
    ranks.set(chain, started);
    return started;
  }

  async function serving({ listening, log }: Started): Promise<void> {
    let said = "";
    const holds = async () => {
      const ready = await readyz(listening.metricsAddress);
      said = ready.text;
      return ready.ok;
    };
    await until("a rank to serve", holds, { timeoutMs: 120_000 }).catch((cause: unknown) => {
      throw new Error(`${said}\n${log.join("\n")}`, { cause });
    });
  }

  const counterOf = async ({ listening }: Started, name: string): Promise<number> => {
    const text = await (await fetch(`http://${listening.metricsAddress}/metrics`)).text();
    return Number(new RegExp(`^${name} (.*)$`, "m").exec(text)?.[1] ?? Number.NaN);
  };

  it("that start together read the model from its origin once", async () => {
    const both = await Promise.all([startRank(0, [1, 2]), startRank(1, [0, 2])]);
    await Promise.all(both.map(serving));
    expect(originBytes / weightBytes).to.be.within(0.99, 1.05);
    const fromFellows = await Promise.all(both.map((rank) => counterOf(rank, "tessellate_bytes_from_fellows_total")));
    expect((fromFellows[0] ?? 0) + (fromFellows[1] ?? 0)).to.be.within(0.9 * weightBytes, 1.05 * weightBytes);
  });

  it("give nothing to a rank of another model, and nothing of another model", async () => {
    const { listening } = ranks.get(0) ?? expect.fail("the first rank runs");
    const ask = async (name: string, modelRoot: string): Promise<string> => {
      const directory = join(home, `asker-${name.replace("/", "-")}`);
      await writeCertificate(directory, await authority.issue({ kind: "rank", name }));
      const tls = valueOrThrow(openTls(directory));
      const client = dial("ShardRuntime", listening.address, tls, { kind: "rank", name: nameOf(0) });
      try {
        const call = client.Pieces({
          modelRoot,
          path: "model.safetensors",
          pieces: [{ start: 0, end: 64 }],
          fetch: false,
        });
        let byteCount = 0;
        for await (const message of call) byteCount += (message as { readonly data: Buffer }).data.length;
        return `${byteCount} bytes`;
      } catch (error) {
        return refusalOf(error as Error, "the rank").code;
      } finally {
        client.close();
        tls.close();
      }
    };
    expect(await ask("default/model-7-0-0", root)).to.equal(`${1 << 20} bytes`);
    expect(await ask("default/other-1-0-0", root)).to.equal("NotMyNeighbour");
    expect(await ask("other/model-1-0-0", root)).to.equal("NotMyNeighbour");
    expect(await ask("default/model-7-0-1", `sha256:${"0".repeat(64)}`)).to.equal("UnknownModel");
  });

  it("give a later one everything", async () => {
    const before = originBytes;
    const third = await startRank(2, [0, 1]);
    await serving(third);
    expect((originBytes - before) / weightBytes).to.be.below(0.01);
    expect(await counterOf(third, "tessellate_fellow_garbage_total")).to.equal(0);
  });
});
