/**
 * The cluster that is this machine: ranks are local processes, certificates and keys lie in a state directory, and the
 * same plan decides. Nothing in here decides anything.
 */
import { generateKeyPairSync } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { present } from "../../core/assert.ts";
import type { Provider } from "../../core/gen/crds/provider.ts";
import type { ShardNode } from "../../core/gen/crds/shardnode.ts";
import { GATEWAY, LEDGER, OPERATOR } from "../../core/identity.ts";
import { parseSigningKey } from "../../core/keys.ts";
import type { Rehearsal } from "../../core/rank-config.ts";
import { valueOrThrow } from "../../core/result.ts";
import { type Authority, createAuthority, loadAuthority, writeCertificate } from "../../core/wire/authority.ts";
import { tlsFilesIn } from "../../core/wire/tls.ts";
import { measuredDaysAgo } from "./measured-age.ts";
import { nodeFactsOf } from "../plan/model-spec.ts";
import { rankName } from "../plan/names.ts";
import { fullRankName } from "../plan/names.ts";
import type { Routed } from "../plan/routes.ts";
import { rankConfigOf } from "../plan/told.ts";
import type { Assignment, ModelFacts, ModelSpec, NodeFacts, RankState } from "../plan/types.ts";
import { rehearsalOf } from "./rehearsal.ts";
import { type Listening, type RunningProcess, startProcess } from "./processes.ts";

/** Where local mode keeps what outlives a run: authority, keys, caches, the ledger's store, logs. */
export type LocalDirectories = { readonly state: string; readonly sockets: string };

type LocalRank = {
  readonly name: string;
  readonly assignment: Assignment;
  readonly revision: string;
  readonly process: RunningProcess;
  phase: RankState["phase"];
  address: string | undefined;
  metricsAddress: string | undefined;
  detail: string;
};

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const HOST = "127.0.0.1";

export class LocalCluster {
  readonly nodes: readonly NodeFacts[];
  readonly providers: readonly { readonly name: string; readonly publicKey: string }[];
  readonly operatorTls: string;
  readonly #directories: LocalDirectories;
  readonly #rehearsals: ReadonlyMap<string, Rehearsal>; // by node
  readonly #authority: Authority;
  readonly #ranks = new Map<string, LocalRank>();
  readonly #processes: RunningProcess[] = [];
  readonly #changed: () => void;

  private constructor(
    directories: LocalDirectories,
    authority: Authority,
    providers: LocalCluster["providers"],
    nodes: readonly NodeFacts[],
    rehearsals: ReadonlyMap<string, Rehearsal>,
    changed: () => void,
  ) {
    this.#rehearsals = rehearsals;
    this.#directories = directories;
    this.#authority = authority;
    this.providers = providers;
    this.nodes = nodes;
    this.operatorTls = join(directories.state, "tls", "operator");
    this.#changed = changed;
  }

  /** Makes what is missing in the state directory: authority, component certificates, a key for every provider. */
  static async open(
    directories: LocalDirectories,
    providers: readonly Provider[],
    nodes: readonly ShardNode[],
    changed: () => void,
  ): Promise<LocalCluster> {
    for (const folder of ["tls", "keys", "logs", "ranks", "cache"]) {
      mkdirSync(join(directories.state, folder), { recursive: true, mode: 0o700 });
    }
    const authority = await openAuthority(join(directories.state, "tls"));
    const keyed = providers.map((provider) => {
      const name = provider.metadata.name;
      return {
        ...provider,
        spec: { ...provider.spec, publicKey: providerKey(join(directories.state, "keys", `${name}.pem`)) },
      };
    });
    const facts = nodes.map((node) => ({
      ...nodeFactsOf(node, keyed, true, measuredDaysAgo(node, Date.now())),
      signer: `unix:${join(directories.sockets, `${node.metadata.name}.sock`)}`,
    }));
    const rehearsals = new Map(
      nodes.flatMap((node) => {
        const rehearsal = rehearsalOf(node);
        return rehearsal === undefined ? [] : [[node.metadata.name, rehearsal] as const];
      }),
    );
    const known = keyed.map(({ metadata, spec }) => ({ name: metadata.name, publicKey: spec.publicKey }));
    const cluster = new LocalCluster(directories, authority, known, facts, rehearsals, changed);
    for (const identity of [OPERATOR, GATEWAY, LEDGER]) {
      const issued = await authority.issue(identity, { ips: [HOST], days: 30 });
      await writeCertificate(join(directories.state, "tls", identity.kind), issued);
    }
    return cluster;
  }

  /** A node agent for every node that has a rank to sign for: it holds the provider's key, the rank does not. */
  startSigner(node: NodeFacts): RunningProcess {
    const key = join(this.#directories.state, "keys", `${node.provider}.pem`);
    const socket = node.signer.replace(/^unix:/, "");
    const args = [
      "cli/main.ts",
      "node",
      "--provider",
      node.provider,
      "--node",
      node.name,
      "--key",
      key,
      "--socket",
      socket,
    ];
    return this.#start(`signer-${node.name}`, args);
  }

  startGateway(listen: string): RunningProcess {
    const { state } = this.#directories;
    const doors = ["--listen", listen, "--control", `${HOST}:0`, "--metrics", `${HOST}:0`, "--name", "gateway"];
    const files = [
      "--tls",
      join(state, "tls", "gateway"),
      "--key",
      join(state, "keys", "gateway.pem"),
      "--state",
      join(state, "gateway"),
    ];
    return this.#start("gateway", ["gateway/main.ts", ...doors, ...files]);
  }

  startLedger(store: string | undefined): RunningProcess {
    const { state } = this.#directories;
    const doors = ["--listen", `${HOST}:0`, "--metrics", `${HOST}:0`];
    const files = ["--tls", join(state, "tls", "ledger"), "--key", join(state, "keys", "ledger.pem")];
    return this.#start("ledger", [
      "ledger/main.ts",
      ...doors,
      ...files,
      "--store",
      store ?? `pglite:${join(state, "ledger")}`,
    ]);
  }

  /** Starts a rank with its certificate and what it is told. Its state is told through `ranks()`. */
  async createRank(
    model: ModelSpec,
    facts: ModelFacts,
    revision: string,
    assignment: Assignment,
    routed: Routed,
  ): Promise<void> {
    const name = rankName(model, assignment);
    const directory = join(this.#directories.state, "ranks", name);
    const issued = await this.#authority.issue(
      { kind: "rank", name: fullRankName(model, assignment) },
      { ips: [HOST], days: 30 },
    );
    await writeCertificate(directory, issued);
    const node = present(
      this.nodes.find((each) => each.name === assignment.node),
      "the plan places ranks on nodes that exist",
    );
    const config = rankConfigOf(model, facts, assignment, routed, node, {
      listen: { host: HOST, port: 0, metricsPort: 0 },
      tls: tlsFilesIn(directory),
      cacheDirectory: join(this.#directories.state, "cache", node.name),
      addressOf: (other) => `file:${this.#addressFile(other)}`,
      signer: node.signer,
    });
    const rehearsal = this.#rehearsals.get(node.name);
    const told = rehearsal === undefined ? config : { ...config, rehearsal };
    const configFile = join(directory, "rank.json");
    writeFileSync(configFile, `${JSON.stringify(told, undefined, 2)}\n`, { mode: 0o600 });
    const process = this.#start(`rank-${name}`, ["shard-runtime/main.ts", "--config", configFile]);
    const rank: LocalRank = {
      name,
      assignment,
      revision,
      process,
      phase: "Starting",
      address: undefined,
      metricsAddress: undefined,
      detail: "starting",
    };
    this.#ranks.set(name, rank);
    process.listening.then(
      (doors) => this.#listens(rank, doors),
      () => {},
    );
    void process.ended.then((how) => {
      if (rank.phase !== "Leaving") rank.phase = "Failed";
      rank.detail = `process ended (${how}); see ${process.logFile}`;
      this.#changed();
    });
  }

  async deleteRank(name: string): Promise<void> {
    const rank = this.#ranks.get(name);
    if (rank === undefined) return;
    rank.phase = "Leaving";
    await rank.process.stop();
    this.#ranks.delete(name);
    this.#changed();
  }

  ranks(): readonly RankState[] {
    return [...this.#ranks.values()].map(({ name, assignment, revision, phase, address, detail }) => ({
      name,
      assignment,
      revision,
      phase,
      detail,
      ...(address === undefined ? {} : { address }),
    }));
  }

  /** Asks every rank that has doors how it is: `/readyz` says 200, or why not. */
  async observe(): Promise<void> {
    await Promise.all(
      [...this.#ranks.values()].map(async (rank) => {
        if (rank.metricsAddress === undefined || rank.phase === "Failed" || rank.phase === "Leaving") return;
        const answer = await readiness(rank.metricsAddress);
        if (rank.phase !== "Starting" && rank.phase !== "Ready") return;
        const phase = answer.ready ? "Ready" : "Starting";
        const turned = phase !== rank.phase || (phase === "Starting" && answer.detail !== rank.detail);
        rank.phase = phase;
        rank.detail = answer.detail;
        if (turned) this.#changed();
      }),
    );
  }

  /** The process behind a rank, for whoever wants to see it die. */
  rankProcess(name: string): RunningProcess | undefined {
    return this.#ranks.get(name)?.process;
  }

  /** Every process that was started, ended or not. */
  pids(): readonly number[] {
    return this.#processes.map(({ pid }) => pid);
  }

  /** Where the ranks show their metrics: host:port of every rank that has doors. */
  metricsAddresses(): readonly string[] {
    return [...this.#ranks.values()].flatMap(({ metricsAddress }) =>
      metricsAddress === undefined ? [] : [metricsAddress],
    );
  }

  /** Ends everything that was started, ranks first, so that nobody complains about neighbours that went. */
  async stop(): Promise<void> {
    for (const rank of this.#ranks.values()) rank.phase = "Leaving";
    const ranks = [...this.#ranks.values()].map(({ process }) => process);
    const others = this.#processes.filter((process) => !ranks.includes(process));
    const gateways = others.filter(({ name }) => name === "gateway");
    await Promise.all(gateways.map((process) => process.stop(8_000)));
    await Promise.all(ranks.map((process) => process.stop(5_000)));
    await Promise.all(others.map((process) => process.stop(8_000)));
    rmSync(this.#directories.sockets, { recursive: true, force: true });
  }

  /** Ports are chosen by who listens, so ranks that look for each other find the address in a file. */
  #addressFile(rank: string): string {
    return join(this.#directories.state, "ranks", rank, "address");
  }

  #listens(rank: LocalRank, doors: Listening): void {
    if (doors["address"] !== undefined) writeFileSync(this.#addressFile(rank.name), doors["address"]);
    rank.address = doors["address"];
    rank.metricsAddress = doors["metricsAddress"];
    rank.detail = "loading";
    this.#changed();
  }

  #start(name: string, args: readonly string[]): RunningProcess {
    const logFile = join(this.#directories.state, "logs", `${name}.log`);
    const [entry = "", ...rest] = args;
    const process = startProcess({ name, arguments: [join(ROOT, entry), ...rest], logFile });
    this.#processes.push(process);
    return process;
  }
}

async function readiness(address: string): Promise<{ readonly ready: boolean; readonly detail: string }> {
  try {
    const response = await fetch(`http://${address}/readyz`, { signal: AbortSignal.timeout(5_000) });
    return { ready: response.status === 200, detail: (await response.text()).trim() };
  } catch (error) {
    return { ready: false, detail: `does not answer: ${error instanceof Error ? error.message : String(error)}` };
  }
}

async function openAuthority(directory: string): Promise<Authority> {
  const [certificateFile, keyFile] = [join(directory, "authority.crt"), join(directory, "authority.key")];
  if (existsSync(certificateFile) && existsSync(keyFile)) {
    return loadAuthority({
      certificatePem: readFileSync(certificateFile, "utf8"),
      keyPem: readFileSync(keyFile, "utf8"),
    });
  }
  const authority = await createAuthority();
  writeFileSync(keyFile, authority.keyPem, { mode: 0o600 });
  writeFileSync(certificateFile, authority.certificatePem);
  return authority;
}

/** The public half (SPKI, base64) of the provider's key, which is made where there is none yet. */
function providerKey(file: string): string {
  if (!existsSync(file)) {
    const { privateKey } = generateKeyPairSync("ed25519");
    writeFileSync(file, privateKey.export({ format: "pem", type: "pkcs8" }), { mode: 0o600 });
  }
  return valueOrThrow(parseSigningKey(readFileSync(file, "utf8"), file)).publicKey.spki;
}
