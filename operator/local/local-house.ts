/**
 * Local mode's loop: observe → plan → perform, as the operator's, over processes of this machine. Gateway and ledger are
 * told the same picture that the operator tells them in a cluster.
 */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { closeClient } from "@grpc/grpc-js";
import type { PutReply__Output } from "../../core/gen/proto/tessellate/control/v1/PutReply.ts";
import type { ProbeReply__Output } from "../../core/gen/proto/tessellate/control/v1/ProbeReply.ts";
import type { State } from "../../core/gen/proto/tessellate/control/v1/State.ts";
import { GATEWAY, LEDGER } from "../../core/identity.ts";
import { RefusalError, valueOrThrow } from "../../core/result.ts";
import { ask, dial } from "../../core/wire/door.ts";
import type { Client } from "../../core/wire/proto.ts";
import { type Tls, openTls } from "../../core/wire/tls.ts";
import { plannedModel } from "../plan/model-spec.ts";
import { pictureOf } from "../plan/picture.ts";
import { plan } from "../plan/plan.ts";
import { standingPlanOf } from "../plan/revision.ts";
import { chainsThrough } from "../plan/routes.ts";
import type { Action, Condition, ModelFacts, ModelSpec, Placement, Plan, World } from "../plan/types.ts";
import type { Documents } from "./documents.ts";
import { LocalCluster } from "./local-cluster.ts";
import type { RunningProcess } from "./processes.ts";
import { resolveLocal } from "./resolve.ts";

export type LocalOptions = {
  readonly documents: Documents;
  readonly stateDirectory: string;
  readonly listen: string; // host:port of the OpenAI endpoint; port 0: any free one
  readonly store?: string; // of the ledger: postgres://… ; left out, PGlite in the state directory
  readonly tell: (event: LocalEvent) => void;
};

export type LocalEvent =
  | { readonly event: "planned"; readonly world: World & { readonly facts: ModelFacts }; readonly placement: Placement }
  | { readonly event: "condition"; readonly condition: Condition }
  | { readonly event: "action"; readonly action: Action };

export type LocalHouse = {
  readonly url: string; // http://host:port
  readonly ledgerAddress: string;
  readonly metricsAddresses: Readonly<Record<string, string>>; // gateway, ledger
  readonly operatorTls: string; // directory of the certificate that the ledger answers to
  readonly model: ModelSpec;
  readonly facts: ModelFacts;
  readonly cluster: LocalCluster;
  placement(): Placement;
  /** Resolves when the model is Ready; rejects with the refusal where it can never be. */
  readonly ready: Promise<void>;
  /** Ends every process; resolves when they are gone. Idempotent. */
  stop(): Promise<void>;
};

const POLL_MS = 250;
const PUT_EVERY_MS = 15_000;
const RESTART_MS_MAX = 30_000;

/** Starts everything and goes on until it is stopped. Throws a RefusalError for what can never serve. */
export async function startLocal(options: LocalOptions): Promise<LocalHouse> {
  const { model, facts } = await resolveLocal(options.documents);
  const sockets = mkdtempSync(join(tmpdir(), "tessellate-"));
  const loop = new Loop(options, model, facts);
  const cluster = await LocalCluster.open(
    { state: options.stateDirectory, sockets },
    options.documents.providers,
    options.documents.nodes,
    () => loop.wake(),
  );
  try {
    return await loop.start(cluster);
  } catch (error) {
    await loop.stop();
    throw error;
  }
}

class Loop {
  readonly #options: LocalOptions;
  readonly #model: ModelSpec;
  readonly #facts: ModelFacts;
  #cluster: LocalCluster | undefined;
  #control: Controls | undefined;
  #previous: World["previous"];
  #probes: World["probes"] = [];
  #placement: Placement | undefined;
  #told = "";
  #toldAt = 0;
  readonly #conditions = new Map<string, string>();
  #failures = new Map<string, { count: number; notBefore: number }>();
  #wake: () => void = () => {};
  #woken = Promise.resolve();
  #stopping: Promise<void> | undefined;
  #running: Promise<void> = Promise.resolve();
  readonly #ready = Promise.withResolvers<void>();

  constructor(options: LocalOptions, model: ModelSpec, facts: ModelFacts) {
    this.#options = options;
    this.#model = model;
    this.#facts = facts;
    this.#ready.promise.catch(() => {});
    this.#arm();
  }

  wake(): void {
    this.#wake();
  }

  async start(cluster: LocalCluster): Promise<LocalHouse> {
    this.#cluster = cluster;
    const decided = plan(this.#world(cluster));
    const { placement } = decided;
    if (placement === undefined) {
      const planned = decided.conditions.find(({ type }) => type === "Planned");
      throw new RefusalError({
        ok: false,
        code: planned?.reason ?? "NotPlanned",
        detail: planned?.message ?? "nothing fits",
      });
    }
    this.#options.tell({ event: "planned", world: { ...this.#world(cluster), facts: this.#facts }, placement });
    const signers = cluster.nodes
      .filter(({ name }) => placement.assignments.some(({ node }) => node === name))
      .map((node) => cluster.startSigner(node));
    const gateway = cluster.startGateway(this.#options.listen);
    const ledger = cluster.startLedger(this.#options.store);
    // Ranks take longest to start, so they start beside the others; they ask their signer only at a session's end.
    await this.#perform(cluster, decided);
    const [gatewayDoors, ledgerDoors] = await Promise.all([
      gateway.listening,
      ledger.listening,
      ...signers.map(({ listening }) => listening),
    ]);
    const tls = valueOrThrow(openTls(cluster.operatorTls));
    this.#control = new Controls(tls, gatewayDoors["control"] ?? "", ledgerDoors["address"] ?? "");
    for (const process of [gateway, ledger, ...signers]) this.#watch(process);
    this.#running = this.#run(cluster);
    return {
      url: `http://${gatewayDoors["address"] ?? gatewayDoors["listen"] ?? ""}`,
      ledgerAddress: ledgerDoors["address"] ?? "",
      metricsAddresses: { gateway: gatewayDoors["metrics"] ?? "", ledger: ledgerDoors["metrics"] ?? "" },
      operatorTls: cluster.operatorTls,
      model: this.#model,
      facts: this.#facts,
      cluster,
      placement: () => this.#placement ?? placement,
      ready: this.#ready.promise,
      stop: () => this.stop(),
    };
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#end();
    this.#wake();
    return this.#stopping;
  }

  async #end(): Promise<void> {
    this.#ready.reject(new Error("stopped"));
    await Promise.resolve();
    await this.#running;
    this.#control?.close();
    await this.#cluster?.stop();
  }

  /** Gateway, ledger and signers are this house's own walls: without one of them it cannot go on. */
  #watch(process: RunningProcess): void {
    void process.ended.then((how) => {
      if (this.#stopping !== undefined) return;
      this.#ready.reject(new Error(`${process.name} ended (${how}); its log is ${process.logFile}`));
      const message = `${process.name} ended (${how}); its log is ${process.logFile}`;
      this.#options.tell({
        event: "condition",
        condition: { type: "Ready", status: "False", reason: "ProcessEnded", message },
      });
    });
  }

  async #run(cluster: LocalCluster): Promise<void> {
    while (this.#stopping === undefined) {
      await cluster.observe();
      const decided = plan(this.#world(cluster));
      this.#say(decided);
      await this.#perform(cluster, decided);
      await this.#put(cluster, decided);
      await this.#probeIfAsked(decided);
      const timer = setTimeout(() => this.#wake(), POLL_MS);
      await this.#woken;
      clearTimeout(timer);
      this.#arm();
    }
  }

  #arm(): void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#woken = promise;
    this.#wake = resolve;
  }

  #world(cluster: LocalCluster): World {
    const ranks = cluster.ranks();
    return {
      // Whoever starts a model on his own machine has approved of its plan.
      model: { ...this.#model, planPolicy: "Automatic" },
      facts: this.#facts,
      nodes: cluster.nodes,
      ranks,
      previous: this.#previous,
      probes: this.#probes,
    };
  }

  #say(decided: Plan): void {
    for (const condition of decided.conditions) {
      const shown = JSON.stringify(condition);
      if (this.#conditions.get(condition.type) === shown) continue;
      this.#conditions.set(condition.type, shown);
      this.#options.tell({ event: "condition", condition });
    }
    if (decided.conditions.some(({ type, status }) => type === "Ready" && status === "True")) this.#ready.resolve();
  }

  async #perform(cluster: LocalCluster, decided: Plan): Promise<void> {
    const { placement, revision } = decided;
    if (placement !== undefined) {
      this.#placement = placement;
      this.#previous = standingPlanOf(revision, placement, this.#model);
    }
    for (const action of decided.actions) {
      if (action.do === "probe" || this.#stopping !== undefined) continue;
      if (action.do === "delete-rank" && this.#mustWait(action.name)) continue;
      // What was learned of other chains still holds: none of their ranks changes.
      const through = placement === undefined ? [] : chainsThrough(this.#model, placement, action.name);
      this.#probes = this.#probes.filter(({ chain }) => !through.includes(chain));
      this.#options.tell({ event: "action", action });
      if (action.do === "delete-rank") await cluster.deleteRank(action.name);
      else if (placement !== undefined) {
        const model = plannedModel(this.#model, placement);
        await cluster.createRank(model, this.#facts, revision, action.assignment, placement);
      }
    }
  }

  /** A rank that keeps ending is started again after 0, 1, 2, 4 … 30 s. */
  #mustWait(name: string): boolean {
    const now = performance.now();
    const failure = this.#failures.get(name);
    if (failure !== undefined && now < failure.notBefore) return true;
    const count = (failure?.count ?? 0) + 1;
    this.#failures.set(name, { count, notBefore: now + Math.min(RESTART_MS_MAX, 1000 * 2 ** (count - 1)) });
    return false;
  }

  async #put(cluster: LocalCluster, decided: Plan): Promise<void> {
    if (decided.placement === undefined || this.#control === undefined) return;
    const picture = pictureOf(this.#model, this.#facts, decided.placement, cluster.ranks());
    const providers = cluster.providers.map(({ name, publicKey }) => ({ name, publicKey, admitted: true }));
    const text = JSON.stringify(picture);
    if (text === this.#told && performance.now() - this.#toldAt < PUT_EVERY_MS) return;
    if (await this.#control.put({ fence: 0, models: [picture], providers })) {
      this.#told = text;
      this.#toldAt = performance.now();
    }
  }

  async #probeIfAsked(decided: Plan): Promise<void> {
    const probe = decided.actions.find((action) => action.do === "probe");
    if (probe?.do !== "probe" || this.#control === undefined || this.#stopping !== undefined) return;
    const { passed, detail } = await this.#control.probe(this.#model, probe.chain);
    this.#probes = [
      ...this.#probes.filter(({ chain }) => chain !== probe.chain),
      { chain: probe.chain, passed, detail },
    ];
    if (passed) this.#wake();
  }
}

/** The Control doors of gateway and ledger. */
class Controls {
  readonly #gateway: Client<"Control">;
  readonly #ledger: Client<"Control">;
  readonly #ledgerAddress: string;
  #gatewayKeys: { readonly name: string; readonly publicKey: string }[] = [];

  constructor(tls: Tls, gatewayAddress: string, ledgerAddress: string) {
    this.#gateway = dial("Control", gatewayAddress, tls, GATEWAY);
    this.#ledger = dial("Control", ledgerAddress, tls, LEDGER);
    this.#ledgerAddress = ledgerAddress;
  }

  /**
   * The ledger first, so that it knows every rank before a receipt of it can arrive; then the gateway; and the ledger
   * again where the gateway's key is new to it. False where one of them did not take it.
   */
  async put(state: Pick<State, "fence" | "models" | "providers">): Promise<boolean> {
    const whole: State = { ...state, gateways: this.#gatewayKeys, ledgerAddress: this.#ledgerAddress };
    if (this.#gatewayKeys.length > 0 && !(await this.#tell("the ledger", this.#ledger, whole))) return false;
    const taken = await this.#tell("the gateway", this.#gateway, { ...whole, gateways: [] });
    if (taken === undefined) return false;
    const { name, publicKey } = taken;
    if (this.#gatewayKeys.some((key) => key.publicKey === publicKey)) return true;
    this.#gatewayKeys = [{ name, publicKey }];
    return (await this.#tell("the ledger", this.#ledger, { ...whole, gateways: this.#gatewayKeys })) !== undefined;
  }

  async #tell(who: string, client: Client<"Control">, state: State): Promise<PutReply__Output | undefined> {
    const reply = await ask<PutReply__Output>(who, 10_000, (options, callback) => client.Put(state, options, callback));
    return reply.ok ? reply.value : undefined;
  }

  async probe(model: ModelSpec, chain: number): Promise<{ readonly passed: boolean; readonly detail: string }> {
    const request = { model: model.name, namespace: model.namespace, chain };
    const reply = await ask<ProbeReply__Output>("the gateway", 60_000, (options, callback) =>
      this.#gateway.Probe(request, options, callback),
    );
    if (!reply.ok) return { passed: false, detail: reply.detail };
    const { passed, code, detail } = reply.value;
    return { passed, detail: passed ? "" : `${code}: ${detail}` };
  }

  close(): void {
    closeClient(this.#gateway);
    closeClient(this.#ledger);
  }
}
