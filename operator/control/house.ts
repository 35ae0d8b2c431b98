/**
 * The other half of the operator's work: telling gateways and the ledger what there is. They hold no rights in the
 * cluster and look nothing up; they are told the whole picture on every change and now and then without, and go on with
 * what they heard last while nobody tells them anything.
 */
import { closeClient } from "@grpc/grpc-js";
import type { Model } from "../../core/gen/proto/tessellate/control/v1/Model.ts";
import type { ProbeReply__Output } from "../../core/gen/proto/tessellate/control/v1/ProbeReply.ts";
import type { Provider } from "../../core/gen/proto/tessellate/control/v1/Provider.ts";
import type { PutReply__Output } from "../../core/gen/proto/tessellate/control/v1/PutReply.ts";
import type { SettleReply__Output } from "../../core/gen/proto/tessellate/ledger/v1/SettleReply.ts";
import type { Clock } from "../../core/clock.ts";
import { GATEWAY, LEDGER } from "../../core/identity.ts";
import { type Result, ok, refuse } from "../../core/result.ts";
import { ask, dial } from "../../core/wire/door.ts";
import type { Client } from "../../core/wire/proto.ts";
import type { Tls } from "../../core/wire/tls.ts";
import { sameItems } from "../kube/same.ts";
import { type Turn, turns } from "../turns.ts";
import { DemandWatch, type DemandWatchOptions } from "./demand.ts";
import { EncodedModels, encodeState, putState } from "./state-bytes.ts";

/** A process of ours that is told things. */
export type Component = { readonly name: string; readonly address: string };

export type Picture = {
  readonly models: readonly Model[];
  readonly providers: readonly Provider[];
};

export type HouseOptions = {
  readonly clock: Clock;
  readonly tls: Tls;
  readonly fence: number;
  /** Who there is to be told, now. */
  readonly components: () => { readonly gateways: readonly Component[]; readonly ledgers: readonly Component[] };
  /** What there is to tell, now. A model that is as it was is the same object. */
  readonly picture: (turn: Turn) => Promise<Picture>;
  readonly onTrouble: (detail: string) => void;
  /** When a model falls asleep; undefined where it never does. */
  readonly idleOf: DemandWatchOptions["idleOf"];
  /** What is asked of a model has changed. */
  readonly onDemand: (key: string) => void;
  readonly repeatMs?: number;
};

const PUT_TIMEOUT_MS = 5_000;
const PROBE_TIMEOUT_MS = 60_000;
const SETTLE_TIMEOUT_MS = 60_000;
/** Several changes come at once: a pod's start is five of them. */
const GATHER_MS = 50;
/** Telling of a thousand models takes a tenth of a second of this process and of theirs: at most a tenth of the time. */
const GATHER_SHARE = 9;
const GATHER_MS_MAX = 1_000;
const RETRY_MS = 1_000;

export class House {
  readonly #options: HouseOptions;
  readonly #controls = new Map<string, Client<"Control">>();
  readonly #ledgers = new Map<string, Client<"Ledger">>();
  readonly #troubles = new Map<string, string>();
  readonly #encoded = new EncodedModels();
  #dirty = true;
  #mustTell = true; // also what was told last
  #toldAtMs = Number.NEGATIVE_INFINITY;
  #toldLast: readonly (Buffer | string)[] = []; // and by whom it was taken
  #ended = false;
  #wake = Promise.withResolvers<void>();
  #round = Promise.withResolvers<void>(); // ends with the next telling that began after now
  #gatewaysTold: readonly Component[] = [];
  #gatewayKeys: readonly { readonly name: string; readonly publicKey: string }[] = [];

  /** What each gateway that there is said last of chains that drain; undefined where it did not answer. */
  #draining: readonly (PutReply__Output["draining"] | undefined)[] = [undefined]; // nobody was asked yet
  readonly #demand: DemandWatch;

  constructor(options: HouseOptions) {
    this.#options = options;
    const { clock, tls, idleOf, onDemand: onChange, onTrouble } = options;
    this.#demand = new DemandWatch({ clock, tls, idleOf, onChange, onTrouble });
  }

  /** What gateways say is asked of a model; see {@link DemandWatch.of}. */
  demandOf(key: string): ReturnType<DemandWatch["of"]> {
    return this.#demand.of(key);
  }

  /** Something may have changed: where it has, everybody is told soon. */
  changed(): void {
    this.#dirty = true;
    this.#wake.resolve();
  }

  /** Who is to be told has changed, or may have forgotten: everybody is told soon. */
  componentsChanged(): void {
    this.#mustTell = true;
    this.changed();
  }

  /** Tells, again and again, until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, repeatMs = 15_000 } = this.#options;
    let pauseMs = 0;
    let gatherMs = GATHER_MS;
    while (!signal.aborted) {
      await this.#sleepUnlessChanged(pauseMs, signal);
      if (signal.aborted) break;
      await clock.sleep(gatherMs, signal).catch(() => undefined);
      this.#dirty = false;
      const mustTell = this.#mustTell || clock.monotonicMs() - this.#toldAtMs >= repeatMs;
      this.#mustTell = false;
      this.#wake = Promise.withResolvers();
      const round = this.#round;
      this.#round = Promise.withResolvers();
      const startMs = clock.monotonicMs();
      const isTold = await this.#tellAll(mustTell);
      this.#mustTell ||= !isTold;
      pauseMs = isTold ? Math.max(0, this.#toldAtMs + repeatMs - clock.monotonicMs()) : RETRY_MS;
      const tookMs = clock.monotonicMs() - startMs;
      gatherMs = Math.min(GATHER_MS_MAX, Math.max(GATHER_MS, GATHER_SHARE * tookMs));
      round.resolve();
    }
    this.#ended = true;
    this.#round.resolve();
    this.close();
  }

  /** Resolves when everybody who can be reached knows how things are now. */
  told(): Promise<void> {
    if (this.#ended) return Promise.resolve();
    const { promise } = this.#round;
    this.componentsChanged();
    return promise;
  }

  /** Whether every gateway says that nothing runs any more on a chain that it was told drains. */
  isQuiet({ namespace, name }: { readonly namespace: string; readonly name: string }, chain: number): boolean {
    return this.#draining.every((chains) =>
      chains?.some((each) => {
        const isIt = each.namespace === namespace && each.model === name && each.chain === chain;
        return isIt && each.sessionCount === 0;
      }),
    );
  }

  /** A token, or a few, through one chain, by any gateway that has been told. */
  async probe(
    model: { readonly namespace: string; readonly name: string },
    chain: number,
    tokenCount = 1,
  ): Promise<{ readonly passed: boolean; readonly detail: string; readonly tokenMs?: number }> {
    await this.told();
    const gateway = this.#gatewaysTold[0];
    if (gateway === undefined)
      return {
        passed: false,
        detail: "NoGateway: no gateway answers; look at the pods with app.kubernetes.io/component=gateway",
      };
    const { namespace, name } = model;
    const reply = await ask<ProbeReply__Output>(`gateway ${gateway.name}`, PROBE_TIMEOUT_MS, (options, callback) =>
      this.#control(gateway.address, "gateway").Probe({ namespace, model: name, chain, tokenCount }, options, callback),
    );
    if (!reply.ok) return { passed: false, detail: `${reply.code}: ${reply.detail}` };
    const { passed, code, detail, rank, tokenMs } = reply.value;
    if (passed) return { passed, detail: "", ...(tokenMs > 0 ? { tokenMs } : {}) };
    return { passed, detail: `${code}: ${detail}${rank === "" ? "" : ` (at ${rank})`}` };
  }

  /** The ledger's signed settlement of an epoch, or of the newest one with work. `NoLedger` where none answers. */
  async settle(epoch: number | "latest"): Promise<Result<Buffer>> {
    await this.told();
    const [ledger] = this.#options.components().ledgers;
    if (ledger === undefined)
      return refuse("NoLedger", "no ledger runs; look at the pods with app.kubernetes.io/component=ledger");
    const request = epoch === "latest" ? { latest: true } : { epoch };
    const reply = await ask<SettleReply__Output>(`ledger ${ledger.name}`, SETTLE_TIMEOUT_MS, (options, callback) =>
      this.#ledger(ledger.address).Settle(request, options, callback),
    );
    return reply.ok ? ok(reply.value.settlement) : reply;
  }

  close(): void {
    this.#demand.close();
    for (const client of [...this.#controls.values(), ...this.#ledgers.values()]) closeClient(client);
    this.#controls.clear();
    this.#ledgers.clear();
  }

  /**
   * The ledger first, so that it knows every rank before a receipt of it can arrive; then the gateways; and the ledger
   * again where their answers hold keys that are new to it. Nothing is told where all is as it was told last, but to
   * those with chains that drain, who answer what runs on them. True where everybody took it.
   */
  async #tellAll(mustTell: boolean): Promise<boolean> {
    const { clock, components, picture, fence } = this.#options;
    const { gateways, ledgers } = components();
    this.#demand.follow(gateways);
    this.#drop(new Set([...gateways, ...ledgers].map(({ address }) => address)));
    const turn = turns(clock);
    const { models, providers } = await picture(turn);
    const encoded = await this.#encoded.of(models, turn);
    const head = encodeState({ fence, providers: [...providers], ledgerAddress: ledgers[0]?.address ?? "" });
    const whole = [head.toString("base64"), JSON.stringify([gateways, ledgers]), ...encoded.map(({ bytes }) => bytes)];
    const isSame = sameItems(whole, this.#toldLast) && !encoded.some(({ drains }) => drains);
    if (isSame && !mustTell) return true;
    this.#toldLast = whole;
    this.#toldAtMs = clock.monotonicMs();
    const state = Buffer.concat([head, ...encoded.map(({ bytes }) => bytes)]);
    const tellLedgers = async () => {
      const known = Buffer.concat([state, encodeState({ gateways: [...this.#gatewayKeys] })]);
      const taken = await Promise.all(ledgers.map((ledger) => this.#put(ledger, "ledger", known)));
      return taken.every((reply) => reply !== undefined);
    };
    const before = this.#gatewayKeys;
    const toldBefore = before.length > 0 && (await tellLedgers());
    const answers = await Promise.all(
      gateways.map(async (gateway) => ({ gateway, reply: await this.#put(gateway, "gateway", state) })),
    );
    this.#draining = answers.map(({ reply }) => reply?.draining);
    this.#gatewaysTold = answers.filter(({ reply }) => reply !== undefined).map(({ gateway }) => gateway);
    const fresh = answers.flatMap(({ reply }) =>
      reply === undefined ? [] : [{ name: reply.name, publicKey: reply.publicKey }],
    );
    // A gateway that does not answer now has signed what the ledger is yet to judge: its key stays known.
    const stale = this.#gatewayKeys.filter(({ publicKey }) => !fresh.some((key) => key.publicKey === publicKey));
    this.#gatewayKeys = [...fresh, ...stale].slice(0, KEY_COUNT_MAX);
    const sameKeys = fresh.every((key) => before.some(({ publicKey }) => publicKey === key.publicKey));
    const ledgersTook = toldBefore && sameKeys ? true : await tellLedgers();
    return this.#gatewaysTold.length === gateways.length && ledgersTook;
  }

  async #put(component: Component, kind: "gateway" | "ledger", state: Buffer): Promise<PutReply__Output | undefined> {
    const who = `${kind} ${component.name}`;
    const reply = await ask<PutReply__Output>(who, PUT_TIMEOUT_MS, (options, callback) =>
      putState(this.#control(component.address, kind), state, options, callback),
    );
    const trouble = reply.ok
      ? ""
      : `${who} at ${component.address} did not take the picture: ${reply.code}: ${reply.detail}`;
    // Asked every second, it says the same every second: once is enough.
    if (trouble !== "" && trouble !== this.#troubles.get(who)) this.#options.onTrouble(trouble);
    this.#troubles.set(who, trouble);
    if (reply.ok) return reply.value;
    return undefined;
  }

  #control(address: string, kind: "gateway" | "ledger"): Client<"Control"> {
    const known =
      this.#controls.get(address) ?? dial("Control", address, this.#options.tls, kind === "gateway" ? GATEWAY : LEDGER);
    this.#controls.set(address, known);
    return known;
  }

  #ledger(address: string): Client<"Ledger"> {
    const known = this.#ledgers.get(address) ?? dial("Ledger", address, this.#options.tls, LEDGER);
    this.#ledgers.set(address, known);
    return known;
  }

  #drop(alive: ReadonlySet<string>): void {
    for (const clients of [this.#controls, this.#ledgers]) {
      for (const [address, client] of clients) {
        if (alive.has(address)) continue;
        closeClient(client);
        clients.delete(address);
      }
    }
  }

  async #sleepUnlessChanged(milliseconds: number, signal: AbortSignal): Promise<void> {
    if (this.#dirty) return;
    const cancel = new AbortController();
    const slept = this.#options.clock
      .sleep(milliseconds, AbortSignal.any([signal, cancel.signal]))
      .catch(() => undefined);
    await Promise.race([slept, this.#wake.promise]);
    cancel.abort();
  }
}

const KEY_COUNT_MAX = 1_000;
