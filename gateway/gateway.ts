/** The gateway put together from its doors; `main.ts` gives it real ones, tests stopped ones. */
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import type { FastifyInstance } from "fastify";
import { DemandFeed } from "./control/demand.ts";
import { PictureKeeper } from "./control/keeper.ts";
import type { Prober } from "./control/probe.ts";
import type { Doors } from "./doors.ts";
import { Admission, type DrainingChain } from "./generate/admission.ts";
import { LIMITS, type Limits } from "./generate/generation.ts";
import type { ApiKeys } from "./http/api-keys.ts";
import { createApp } from "./http/app.ts";
import { Metrics } from "./metrics.ts";
import { modelKey } from "./route/picture.ts";
import { ModelCatalog } from "./tokenizer/catalog.ts";
import { Books } from "./usage/books.ts";
import type { Signer } from "./usage/seal.ts";
import { Spool, type Submit } from "./usage/spool.ts";

export type GatewayOptions = {
  readonly doors: Doors;
  readonly signer: Signer;
  readonly submit: Submit; // the way to the ledger
  readonly stateDirectory: string; // the picture and the usage that waits
  readonly answersDirectory?: string | undefined; // where every saved answer is written, if anywhere
  readonly apiKeys?: ApiKeys | undefined;
  readonly limits?: Limits;
};

/** How long answers under way may go on once the gateway was told to end. */
export const DRAIN_MS = 30_000;
/** How long an answer that is cut off has to tell its client so. */
const LAST_WORDS_MS = 3_000;
/** How long usage may take to the ledger at the end; what does not make it stays on disk. */
const LAST_SUBMIT_MS = 3_000;

export class Gateway {
  readonly app: FastifyInstance;
  readonly keeper: PictureKeeper;
  readonly prober: Prober;
  readonly metrics: Metrics;
  readonly demand: DemandFeed;
  readonly #doors: Doors;
  readonly #admission: Admission;
  readonly #catalog: ModelCatalog;
  readonly #books: Books;
  readonly #spool: Spool;
  readonly #apiKeys: ApiKeys | undefined;
  readonly #ending = new AbortController();
  readonly #unanswered = new Set<ServerResponse>();
  /** What still runs on the chains that the operator has said drain. */
  readonly draining = (): readonly DrainingChain[] => this.#admission.draining();
  #draining = false;
  #closing = false;

  constructor(options: GatewayOptions) {
    const { doors, signer, apiKeys } = options;
    this.#doors = doors;
    this.#apiKeys = apiKeys;
    this.keeper = new PictureKeeper(options.stateDirectory, doors.log);
    this.#admission = new Admission(doors.clock, (key) => this.demand.changed(key));
    this.demand = new DemandFeed(doors.clock, this.#admission);
    this.#catalog = new ModelCatalog(doors);
    this.#spool = new Spool(join(options.stateDirectory, "usage"), doors, options.submit);
    this.#books = new Books({
      signer,
      log: doors.log,
      picture: () => this.keeper.picture,
      spool: this.#spool,
      answersDirectory: options.answersDirectory,
    });
    this.metrics = new Metrics({
      queueDepth: () => this.#queueDepth(),
      chainsInDemand: () => this.#chainsInDemand(),
      usageWaiting: () => this.#spool.waitingCount,
    });
    this.prober = { doors, catalog: this.#catalog, signer };
    this.keeper.onChange((picture) => {
      this.#admission.update(picture);
      this.demand.update(picture);
      this.#catalog.update(picture);
    });
    const house = {
      doors,
      admission: this.#admission,
      limits: options.limits ?? LIMITS,
      onRecovery: (model: string) => this.metrics.recoveries.inc({ model }),
    };
    this.app = createApp({
      desk: { house, books: this.#books, metrics: this.metrics },
      catalog: this.#catalog,
      picture: () => this.keeper.picture,
      apiKeys,
      ending: this.#ending.signal,
      leaving: {
        draining: () => this.#draining,
        closing: () => this.#closing,
        unanswered: this.#unanswered,
      },
    });
  }

  /** Takes up what an earlier run left on disk. */
  async start(): Promise<void> {
    await this.#spool.start();
    await this.keeper.restore();
  }

  /** Why this gateway should get no requests now; undefined when it should. */
  get unready(): string | undefined {
    if (this.#draining) return "draining";
    return this.keeper.picture === undefined ? "has not heard from the operator yet" : undefined;
  }

  /**
   * For `lingerMs` it goes on as before, but is not ready and says with each answer that the connection ends: whoever
   * sends requests here learns of that only after a while, and nobody may find a door shut meanwhile. Then no new
   * connections; answers under way finish for up to `graceMs`, then end with an error; usage is on disk after.
   */
  async end(graceMs: number = DRAIN_MS, lingerMs = 0): Promise<void> {
    this.#draining = true;
    for (const response of this.#unanswered) response.shouldKeepAlive = false;
    if (lingerMs > 0) await this.#doors.clock.sleep(lingerMs);
    this.#closing = true;
    const late = new AbortController();
    const cut = this.#doors.clock
      .sleep(graceMs, late.signal)
      .then(() => this.#cut())
      .then(() => this.#doors.clock.sleep(LAST_WORDS_MS, late.signal))
      .then(() => this.app.server.closeAllConnections())
      .catch(() => {}); // all were done in time
    await this.app.close();
    late.abort();
    await cut;
    this.demand.close(); // not before: while answers are under way the operator must know
    await this.#books.settled();
    await this.#spool.drain(LAST_SUBMIT_MS);
    await this.#spool.close();
    await this.keeper.flush();
    this.#admission.close();
    this.#catalog.close();
    this.#apiKeys?.close();
    await this.#doors.wire.close();
  }

  #cut(): void {
    this.#admission.close();
    this.#ending.abort();
  }

  #queueDepth(): ReadonlyMap<string, number> {
    const keys = this.keeper.picture?.models.map(modelKey) ?? [];
    return new Map(keys.map((key) => [key, this.#admission.waitingCount(key)]));
  }

  #chainsInDemand(): ReturnType<ConstructorParameters<typeof Metrics>[0]["chainsInDemand"]> {
    return (this.keeper.picture?.models ?? []).flatMap((model) => {
      const { namespace, name, slotCount } = model;
      const { waitingCount, sessionCount } = this.#admission.demandOf(modelKey(model));
      return slotCount === 0 ? [] : [{ namespace, name, chainCount: (waitingCount + sessionCount) / slotCount }];
    });
  }
}
