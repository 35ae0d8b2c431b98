/**
 * The operator's loop. Every replica keeps its copies warm; the one that holds the lease acts. When it loses the lease
 * it ends, since somebody else may act by then.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Bug } from "../core/assert.ts";
import { shardNodeResource } from "../core/gen/crds/shardnode.ts";
import { OPERATOR } from "../core/identity.ts";
import { valueOrThrow } from "../core/result.ts";
import { type Authority, writeCertificate } from "../core/wire/authority.ts";
import { type Tls, installationOf, openTls } from "../core/wire/tls.ts";
import { keepComponentCertificates, openAuthority } from "./apply/authority.ts";
import { BrakeBook } from "./apply/brake-book.ts";
import { KubeCluster, type Prober } from "./apply/kube-cluster.ts";
import { askRank } from "./apply/ask-rank.ts";
import { asModel, asNode } from "./apply/observe.ts";
import { Offers } from "./apply/offers.ts";
import { reportNode, reportProvider } from "./apply/offer-status.ts";
import type { Planner } from "./apply/planner.ts";
import { reconcile } from "./apply/reconcile.ts";
import { SettledLooks } from "./apply/settled-looks.ts";
import { Stores } from "./apply/stores.ts";
import type { WallClock } from "./clock.ts";
import { Agents } from "./control/agents.ts";
import { agentsIn, componentsIn, providersIn } from "./control/components.ts";
import { House } from "./control/house.ts";
import { reconcileSettlement } from "./control/settlement.ts";
import { ApiError, type KubeClient } from "./kube/client.ts";
import { EventRecorder } from "./kube/events.ts";
import { raiseFence } from "./kube/fence.ts";
import { type LeaseTimes, acquireLease } from "./kube/lease.ts";
import { type Urgency, WorkQueue } from "./kube/queue.ts";
import { Metrics } from "./metrics.ts";
import { oneByOne } from "./turns.ts";
import { STARTING_MS, nextLookMs } from "./next-look.ts";
import { BRAKE_RULE } from "./plan/brake.ts";

export type ControllerOptions = {
  readonly client: KubeClient;
  readonly clock: WallClock;
  readonly planner: Planner;
  readonly namespace: string; // our own
  readonly watchNamespace?: string | undefined;
  readonly identity: string; // of this process
  readonly image: string; // of ranks
  readonly imagePullPolicy?: string | undefined;
  /** As whom we write, where the API server is to deny the writes of deposed leaders: see kube/fence.ts. */
  readonly fenceAs?: string | undefined;
  readonly leaseName?: string;
  readonly leaseTimes?: LeaseTimes;
  /** Of all nodes, how many may be given up within ten minutes because they went away; left out: see plan/brake.ts. */
  readonly brakeSharePercent?: number | undefined;
  /** Between two looks at what is settled. */
  readonly settledMs?: number;
  /** A ShardNode counts only when its Provider has signed for it. */
  readonly requireOffers?: boolean | undefined;
  /** Where ranks on nodes that name no signer have theirs: `mtls:HOST:PORT` of the chart's node agents. */
  readonly agentSigner?: string | undefined;
  readonly log: (event: string, fields?: Readonly<Record<string, unknown>>) => void;
};

/** They mostly wait for the API server: so many that what is urgent finds one free though others wait for it long. */
const WORKER_COUNT = 16;
/** A rush ends with its last models' ranks, which come up when nothing else waits any more. */
const RUSH_REST_MS = 3_000;
/** What comes in a row is looked at together: the longer, the more else there is to do. */
const GATHER_MS = 40;
const GATHER_MS_EACH = 2;
const GATHER_MS_MAX = 400;
const IDLE_GATHER_MS = 5_000;
const SETTLED_MS = 300_000; // a look now and then, in case something was missed
const SETTLEMENT_MS = 15_000;
const CERTIFICATES_MS = 3_600_000;
const LEASE_NAME = "tessellate-operator";

/** What looks are made with, for as long as we lead. */
type Doors = { readonly cluster: KubeCluster; readonly house: House; readonly settled: SettledLooks };

export class Controller {
  readonly #options: ControllerOptions;
  readonly #stores: Stores;
  readonly #queue: WorkQueue;
  readonly #brake: BrakeBook;
  readonly metrics: Metrics;
  #house: House | undefined;
  #leads = false;
  readonly #turn = oneByOne(); // of looks
  #rushUntilMs = Number.NEGATIVE_INFINITY;

  constructor(options: ControllerOptions) {
    this.#options = options;
    const { client, clock, namespace, watchNamespace, log } = options;
    this.#queue = new WorkQueue(clock, (key, waitedMs) => {
      this.metrics.queueWaitSeconds.observe({ kind: kindOf(key) }, waitedMs / 1000);
    });
    this.#stores = new Stores({
      client,
      clock,
      offers: new Offers({ clock, required: options.requireOffers, signer: options.agentSigner }),
      namespace,
      watchNamespace,
      onWork: (key, urgency) => this.#changed(key, urgency),
      onPicture: () => this.#house?.changed(),
      onComponents: () => this.#house?.componentsChanged(),
      onTrouble: (detail) => log("watch-trouble", { detail }),
    });
    const sharePercent = options.brakeSharePercent ?? BRAKE_RULE.sharePercent;
    this.#brake = new BrakeBook({ stores: this.#stores, clock }, { ...BRAKE_RULE, sharePercent });
    this.metrics = new Metrics({
      heldNodes: () => this.#brake.heldCount,
      stores: this.#stores,
      queueDepth: () => this.#queue.depth,
      leads: () => this.#leads,
    });
  }

  /** Of many plans that were made meanwhile each is carried out in its turn. */
  readonly #planner: Planner = {
    plan: async (world) => {
      const plan = await this.#options.planner.plan(world);
      await this.#turn();
      return plan;
    },
  };

  #isRush(): boolean {
    const nowMs = this.#options.clock.monotonicMs();
    if (this.#queue.urgentDepth >= WORKER_COUNT) this.#rushUntilMs = nowMs + RUSH_REST_MS;
    return nowMs < this.#rushUntilMs;
  }

  #changed(key: string, urgency: Urgency | "soon" | "starting" = "now"): void {
    if (urgency === "idle") return this.#queue.addAfter(key, IDLE_GATHER_MS, urgency);
    if (urgency === "starting") return this.#queue.addAfter(key, STARTING_MS, "later"); // unless it is looked at before
    if (urgency !== "soon") return this.#queue.add(key, urgency);
    const { urgentDepth } = this.#queue;
    this.#queue.addAfter(key, Math.min(GATHER_MS_MAX, GATHER_MS + urgentDepth * GATHER_MS_EACH), "first");
  }

  /** Why this replica could not take over right now, or undefined where it could. */
  unready(): string | undefined {
    return this.#stores.synced ? undefined : "the first lists are not complete";
  }

  /** Runs until `signal` aborts, then hands the lease over. Rejects where the lease was lost, and for bugs of ours. */
  async run(signal: AbortSignal): Promise<void> {
    const stop = new AbortController();
    const either = AbortSignal.any([signal, stop.signal]);
    const watching = this.#stores.run(either).finally(() => stop.abort());
    try {
      await Promise.race([watching, this.#leadWhenTime(either)]);
    } finally {
      stop.abort();
      this.#queue.close();
    }
    await watching;
  }

  async #leadWhenTime(signal: AbortSignal): Promise<void> {
    const { client, clock, namespace, identity, leaseName = LEASE_NAME, leaseTimes, log } = this.#options;
    try {
      await untilAborted(this.#stores.firstLists(), signal);
      log("synced");
      const named = { client, clock, namespace, name: leaseName, identity };
      const lease = await acquireLease({ ...named, ...leaseTimes }, signal);
      const either = AbortSignal.any([signal, lease.lost]);
      if (await this.#fenceRaised(lease.fence, either)) {
        log("leads", { fence: lease.fence });
        this.#leads = true;
        await this.#lead(lease.fence, either);
      }
      if (lease.lost.aborted) throw new Error(`lost the lease: ${lease.lost.reason.message}`);
      await lease.release();
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      this.#leads = false;
    }
  }

  /**
   * Before this resolves nothing is written; once it has, nobody of an epoch before writes either. False where `signal`
   * aborted first.
   */
  async #fenceRaised(epoch: number, signal: AbortSignal): Promise<boolean> {
    const { client, clock, namespace, fenceAs: user, log } = this.#options;
    if (user === undefined) {
      log("unfenced", { detail: "--fence-as is not given: a deposed leader's writes are not denied" });
      return true;
    }
    const onTrouble = (detail: string) => log("fence-trouble", { detail });
    try {
      await raiseFence({ client, clock, namespace, onTrouble }, { user, epoch }, signal);
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      throw error;
    }
  }

  async #lead(fence: number, signal: AbortSignal): Promise<void> {
    const { client, namespace } = this.#options;
    const authority = await openAuthority(client, namespace);
    const directory = await mkdtemp(join(tmpdir(), "tessellate-operator-"));
    let tls: Tls | undefined;
    try {
      await writeCertificate(directory, await authority.issue(OPERATOR));
      tls = valueOrThrow(openTls(directory));
      await this.#leadWith(authority, tls, directory, fence, signal);
    } finally {
      tls?.close();
      await rm(directory, { recursive: true, force: true });
    }
  }

  async #leadWith(
    authority: Authority,
    tls: Tls,
    directory: string,
    fence: number,
    signal: AbortSignal,
  ): Promise<void> {
    const { client, clock, identity, image, imagePullPolicy, log } = this.#options;
    const stores = this.#stores;
    const events = new EventRecorder({
      client,
      clock,
      instance: identity,
      onTrouble: (detail) => log("event-trouble", { detail }),
      isBusy: () => !this.#queue.isQuiet,
    });
    const house: House = new House({
      clock,
      tls,
      fence,
      components: () => componentsIn(stores),
      picture: async (turn) => ({ models: await cluster.picture(turn), providers: providersIn(stores) }),
      onTrouble: (detail) => log("house-trouble", { detail }),
      idleOf: (key) => {
        const stored = stores.models.get(key);
        return stored === undefined ? undefined : asModel(stored).spec.idle;
      },
      onDemand: (key) => stores.models.get(key) !== undefined && this.#queue.add(`model/${key}`),
    });
    const probe: Prober = async (model, chain, tokenCount) => {
      const outcome = await untilAborted(house.probe(model, chain, tokenCount), signal); // it may take a minute: who leads next must not wait
      log("probe", { model: `${model.namespace}/${model.name}`, chain, ...outcome });
      return outcome;
    };
    const cluster = new KubeCluster({
      client,
      clock,
      stores,
      authority,
      events,
      image,
      imagePullPolicy,
      probe,
      // What failed is tried again at the next look, so that one must not come at once.
      onProbed: (key, passed) => this.#queue.addAfter(`model/${key}`, passed ? 0 : STARTING_MS, "first"),
      isRush: () => this.#isRush(),
      onWaits: (key) => this.#changed(`model/${key}`, "idle"),
      askRank,
      brake: this.#brake,
      isQuiet: (model, chain) => house.isQuiet(model, chain),
      demandOf: (key) => house.demandOf(key),
      onRepaired: ({ cause, seconds }) => this.metrics.repairSeconds.observe({ cause }, seconds),
      onRolled: (end) => this.metrics.rolled(end),
    });
    this.#house = house;
    const doors = { cluster, house, settled: new SettledLooks(clock) };
    stores.offers.installation = installationOf(authority.certificatePem);
    signal.addEventListener("abort", () => this.#queue.close(), { once: true });
    try {
      await Promise.all([
        house.run(signal),
        this.#agents(tls).run(signal),
        this.#keepCertificates(authority, directory, signal),
        ...Array.from({ length: WORKER_COUNT }, () => this.#work(doors)),
      ]);
    } finally {
      await events.close();
    }
  }

  #agents(tls: Tls): Agents {
    const { client, clock, log } = this.#options;
    const stores = this.#stores;
    return new Agents({
      clock,
      tls,
      offers: stores.offers,
      pods: () => agentsIn(stores),
      nodes: () => stores.shardNodes.all().map(asNode),
      write: async (name, found) => {
        await client.patch(shardNodeResource, { name, subresource: "status" }, { status: found });
      },
      onTurned: (nodes) => stores.nodesTurned(nodes),
      log,
    });
  }

  async #keepCertificates(authority: Authority, directory: string, signal: AbortSignal): Promise<void> {
    const { client, clock, namespace, log } = this.#options;
    while (!signal.aborted) {
      let pauseMs = CERTIFICATES_MS;
      try {
        await keepComponentCertificates(client, namespace, authority, clock.wallMs());
        await writeCertificate(directory, await authority.issue(OPERATOR)); // our own is cheap to make anew
      } catch (error) {
        log("certificate-trouble", { detail: messageOf(error) });
        pauseMs = STARTING_MS;
      }
      await clock.sleep(pauseMs, signal).catch(() => undefined);
    }
  }

  async #work(doors: Doors): Promise<void> {
    for (let key = await this.#queue.take(); key !== undefined; key = await this.#queue.take()) {
      const kind = kindOf(key);
      const observe = this.metrics.reconcileSeconds.startTimer({ kind });
      await this.#turn();
      try {
        const againMs = await this.#handle(doors, kind, key.slice(kind.length + 1));
        this.#queue.forget(key);
        if (againMs !== undefined) this.#queue.addAfter(key, againMs * (0.8 + 0.4 * Math.random()), "later");
        observe({ result: "ok" });
      } catch (error) {
        observe({ result: "failed" });
        if (error instanceof Bug) throw error;
        const { retryAfterMs } = error instanceof ApiError ? error : {};
        const pauseMs = Math.round(this.#queue.addAfterFailure(key, retryAfterMs));
        this.#options.log("reconcile-trouble", { key, pauseMs, detail: messageOf(error) });
      } finally {
        this.#queue.done(key);
      }
    }
  }

  /** Milliseconds until the same object is looked at again, or undefined where only a change is reason to. */
  async #handle(doors: Doors, kind: string, name: string): Promise<number | undefined> {
    const { cluster, house, settled } = doors;
    const { client, clock } = this.#options;
    const stores = this.#stores;
    const isNamespaced = this.#options.watchNamespace !== undefined;
    switch (kind) {
      case "model": {
        const look = await reconcile(cluster, this.#planner, settled, name);
        if (look?.isAsBefore !== true) house.changed();
        return look === undefined ? undefined : nextLookMs(look.plan, this.#options.settledMs ?? SETTLED_MS);
      }
      case "provider":
        await reportProvider({ client, clock, stores, isNamespaced }, name);
        return undefined;
      case "node":
        await reportNode({ client, clock, stores, isNamespaced }, name);
        return undefined;
      case "settlement": {
        const object = stores.settlements.get(name);
        if (object === undefined) return undefined;
        const settle = (epoch: number | "latest") => house.settle(epoch);
        return (await reconcileSettlement({ client, clock, settle }, object)) ? undefined : SETTLEMENT_MS;
      }
      default:
        throw new Bug(`work is of a known kind, not ${kind}`);
    }
  }
}

const kindOf = (key: string): string => key.slice(0, key.indexOf("/"));

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
