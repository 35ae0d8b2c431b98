/**
 * Who may start a session now, and on which chain: the decisions of route/ carried out for all requests of this gateway.
 * A request that finds no free slot waits in its model's line; it is called as soon as a session ends, a chain has cooled
 * down or the operator tells of a new one. One that finds its model asleep waits in the same line; the operator learns of
 * it by `Control.Demand` and wakes the model.
 */
import { assert, present } from "../../core/assert.ts";
import type { Clock } from "../../core/clock.ts";
import { type Refusal, type Result, ok, refuse } from "../../core/result.ts";
import { whyAborted, within } from "../doors.ts";
import { type ChainLoad, type Outcome, chooseChain, freed, newLoad, taken } from "../route/choose.ts";
import { type Line, type Ticket, joined, left, overfull } from "../route/line.ts";
import {
  type ChainFacts,
  type Fit,
  type ModelFacts,
  type Picture,
  chainKey,
  chainsFor,
  mayFit,
  modelKey,
  modelOn,
  openChains,
  readyChains,
} from "../route/picture.ts";

/** The right to open one session on one chain. To be released exactly once. */
export type Lease = {
  readonly model: ModelFacts; // as the chain holds it
  readonly chain: ChainFacts;
  readonly ticket: Ticket; // to wait with again, at the same place, where the chain had no slot after all
  release(outcome: Outcome): void;
};

export type Entering = {
  readonly key: string; // modelKey
  readonly fit: Fit;
  readonly resumed: boolean; // its answer has begun: it waits for a chain even where none is ready, before all others
  readonly waitMs: number;
  readonly signal: AbortSignal;
  readonly ticket?: Ticket | undefined;
};

/** What still runs on a chain that drains, at this gateway. */
export type DrainingChain = {
  readonly namespace: string;
  readonly model: string;
  readonly chain: number;
  readonly sessionCount: number;
};

/** What is asked of one model at this gateway. */
export type Demand = { readonly waitingCount: number; readonly sessionCount: number; readonly idleMs: number };

type Waiter = { readonly ticket: Ticket; readonly fit: Fit; readonly admit: (result: Result<Lease>) => void };
type Queue = {
  line: Line;
  waiters: Map<number, Waiter>;
  loads: Map<string, ChainLoad>;
  alarm: AbortController | undefined;
};

export class Admission {
  readonly #clock: Clock;
  readonly #queues = new Map<string, Queue>();
  readonly #activeMs = new Map<string, number>(); // when a request last came or ended, or the model became ready
  readonly #onDemand: (key: string) => void;
  #models = new Map<string, ModelFacts>();
  #lastTicket = 0;

  /** `onDemand`: what is asked of a model may have changed. */
  constructor(clock: Clock, onDemand: (key: string) => void = () => {}) {
    this.#clock = clock;
    this.#onDemand = onDemand;
  }

  /** The operator's newest picture. Requests that wait go on waiting, now perhaps for chains that are ready. */
  update(picture: Picture): void {
    const before = this.#models;
    this.#models = new Map(picture.models.map((model) => [modelKey(model), model]));
    for (const key of before.keys()) if (!this.#models.has(key)) this.#activeMs.delete(key);
    for (const [key, model] of this.#models) {
      const old = before.get(key);
      // Nobody could ask while nothing was ready: that time does not count as idle.
      if (old === undefined || (openChains(old).length === 0 && openChains(model).length > 0)) this.#isActive(key);
    }
    for (const [key, queue] of this.#queues) {
      const model = this.#models.get(key);
      const keys = new Set(model?.chains.map((chain) => chainKey(model, chain)) ?? []);
      // A chain that is gone keeps its count until its last session has ended.
      for (const [chain, load] of queue.loads)
        if (!keys.has(chain) && load.sessionCount === 0) queue.loads.delete(chain);
      this.#callNext(key);
    }
  }

  /** Of every chain that the operator has said drains. */
  draining(): readonly DrainingChain[] {
    return [...this.#models].flatMap(([key, model]) =>
      model.chains.flatMap((chain): readonly DrainingChain[] => {
        if (chain.draining === undefined) return [];
        const load = this.#queues.get(key)?.loads.get(chainKey(model, chain));
        const { namespace, name } = model;
        return [{ namespace, model: name, chain: chain.index, sessionCount: load?.sessionCount ?? 0 }];
      }),
    );
  }

  /**
   * The model as a new request should be made ready for it: as the chain has it that would take it now, with the longest
   * context of those that hold the same checkpoint.
   */
  facing(model: ModelFacts): ModelFacts {
    const queue = this.#queueOf(modelKey(model));
    const open = openChains(model);
    const chains = open.length > 0 ? open : readyChains(model);
    const loads = chains.map((chain) => loadOf(queue, chainKey(model, chain)));
    const choice = chooseChain(loads, this.#clock.monotonicMs());
    const taken = choice.do === "take" ? chains.find((chain) => chainKey(model, chain) === choice.key) : chains[0];
    if (taken === undefined) return model;
    const { root } = modelOn(model, taken);
    const alike = chains.map((chain) => modelOn(model, chain)).filter((held) => held.root === root);
    return present(
      alike.toSorted((a, b) => b.contextLength - a.contextLength)[0],
      "the chain that was taken is among them",
    );
  }

  /** Requests that wait for a slot of the model. */
  waitingCount(key: string): number {
    return this.#queues.get(key)?.line.length ?? 0;
  }

  /** Of a model of the picture. */
  demandOf(key: string): Demand {
    const waitingCount = this.waitingCount(key);
    const loads = this.#queues.get(key)?.loads.values() ?? [];
    const sessionCount = [...loads].reduce((sum, load) => sum + load.sessionCount, 0);
    const nowMs = this.#clock.monotonicMs();
    const model = this.#models.get(key);
    const isAtRest = waitingCount + sessionCount === 0 && model !== undefined && openChains(model).length > 0;
    const idleMs = isAtRest ? nowMs - (this.#activeMs.get(key) ?? nowMs) : 0;
    return { waitingCount, sessionCount, idleMs };
  }

  /** How long a request has to wait where its model must wake first; 0 where it need not, or never will. */
  wakeWaitMs(key: string): number {
    const model = this.#models.get(key);
    return model === undefined || openChains(model).length > 0 ? 0 : model.wakeTimeoutMs;
  }

  /**
   * A slot on a chain, waiting for it at most `waitMs`. Refused as `ModelNotFound`, `NoReadyChain`, `ScaledToZero`,
   * `QueueFull`, `NotAwakeInTime`, `NoSlotInTime`, `ChainLost`, `ModelChanged`, or with why the signal was aborted. Never
   * rejects.
   */
  async enter({ key, fit, resumed, waitMs, signal, ticket: old }: Entering): Promise<Result<Lease>> {
    const refusal = this.#refusal(key, fit, resumed);
    if (refusal !== undefined) return refusal;
    if (signal.aborted) return whyAborted(signal);
    const ticket = old ?? { number: (this.#lastTicket += 1), resumed };
    const queue = this.#queueOf(key);
    const { maxQueue, ...model } = present(this.#models.get(key), "a model that is known");
    const isNew = old === undefined && !ticket.resumed;
    // A full chain that is due to be asked again is no free one: it is for those who wait already.
    if (isNew && isOfOneForm(model) && queue.line.length > 0 && overfull([...queue.line, ticket], maxQueue))
      return queueFull(key, maxQueue);
    const { promise, resolve } = Promise.withResolvers<Result<Lease>>();
    queue.waiters.set(ticket.number, { ticket, fit, admit: resolve });
    queue.line = joined(queue.line, ticket);
    this.#isActive(key);
    this.#callNext(key);
    if (isNew && queue.waiters.has(ticket.number) && overfull(queue.line, maxQueue)) {
      this.#leave(key, queue, ticket);
      return queueFull(key, maxQueue);
    }
    const called = await within(this.#clock, waitMs, promise, signal);
    const result = called === "late" ? this.#tooLate(key, waitMs) : called === "aborted" ? whyAborted(signal) : called;
    // Called at the very moment of giving up: the slot is taken, so whoever asked must have it to give it back.
    if (!result.ok && !queue.waiters.has(ticket.number)) return promise;
    this.#leave(key, queue, ticket);
    return result;
  }

  /** Refuses all who wait. */
  close(): void {
    for (const queue of this.#queues.values()) {
      queue.alarm?.abort();
      for (const waiter of queue.waiters.values())
        waiter.admit(refuse("ShuttingDown", "this gateway is shutting down; ask again"));
    }
  }

  #refusal(key: string, fit: Fit, resumed: boolean): Refusal | undefined {
    const model = this.#models.get(key);
    if (model === undefined) return refuse("ModelNotFound", `the model ${key} is served no longer`);
    const isClosed = model.asleep || readyChains(model).length === 0;
    if (isClosed && !resumed && model.wakeTimeoutMs === 0)
      return model.asleep ? scaledToZero(model) : noReadyChain(model);
    return mayFit(model, fit)
      ? undefined
      : refuse("ModelChanged", `${key} was replaced by another revision in the meantime; ask again`);
  }

  #tooLate(key: string, waitMs: number): Refusal {
    const model = this.#models.get(key);
    if (model === undefined) return refuse("ModelNotFound", `the model ${key} is served no longer`);
    if (openChains(model).length === 0 && model.wakeTimeoutMs > 0) return notAwakeInTime(model, waitMs);
    if (model.asleep) return scaledToZero(model);
    if (readyChains(model).length === 0) return noReadyChain(model);
    const loads = readyChains(model).map((chain) => loadOf(this.#queueOf(key), chainKey(model, chain)));
    if (loads.every((load) => load.coolUntilMs > this.#clock.monotonicMs())) {
      return refuse(
        "ChainLost",
        `every chain of ${key} failed a moment ago and is left alone for a while; try again later`,
      );
    }
    return refuse(
      "NoSlotInTime",
      `no slot of ${key} became free within ${Math.round(waitMs / 1000)} s; try again later`,
    );
  }

  #queueOf(key: string): Queue {
    const known = this.#queues.get(key);
    if (known !== undefined) return known;
    const queue: Queue = { line: [], waiters: new Map(), loads: new Map(), alarm: undefined };
    this.#queues.set(key, queue);
    return queue;
  }

  #leave(key: string, queue: Queue, ticket: Ticket): void {
    queue.line = left(queue.line, ticket);
    queue.waiters.delete(ticket.number);
    this.#onDemand(key);
  }

  #isActive(key: string): void {
    this.#activeMs.set(key, this.#clock.monotonicMs());
    this.#onDemand(key);
  }

  /** Calls as many from the front of the line as there are free chains, and sets the alarm for the rest. */
  #callNext(key: string): void {
    const queue = this.#queueOf(key);
    const model = this.#models.get(key);
    queue.alarm?.abort();
    queue.alarm = undefined;
    if (model === undefined) return;
    let alarmMs = Number.POSITIVE_INFINITY;
    for (const ticket of queue.line) {
      const waiter = present(queue.waiters.get(ticket.number), "everyone in the line waits");
      const chains = chainsFor(model, waiter.fit);
      const loads = chains.map((chain) => loadOf(queue, chainKey(model, chain)));
      const choice = chooseChain(loads, this.#clock.monotonicMs());
      if (choice.do === "wait") {
        // Those behind may fit other chains; where all chains are of one form they find them just as full.
        alarmMs = Math.min(alarmMs, choice.untilMs ?? alarmMs);
        if (isOfOneForm(model)) break;
        continue;
      }
      const chain = present(
        chains.find((one) => chainKey(model, one) === choice.key),
        "the chosen chain was offered",
      );
      this.#leave(key, queue, ticket);
      queue.loads.set(choice.key, taken(loadOf(queue, choice.key)));
      waiter.admit(ok(this.#lease(key, modelOn(model, chain), chain, choice.key, ticket)));
    }
    if (Number.isFinite(alarmMs)) this.#setAlarm(key, queue, alarmMs);
  }

  #lease(key: string, model: ModelFacts, chain: ChainFacts, loadKey: string, ticket: Ticket): Lease {
    let released = false;
    return {
      model,
      chain,
      ticket,
      release: (outcome) => {
        assert(!released, "a lease is released once");
        released = true;
        const queue = this.#queueOf(key);
        queue.loads.set(loadKey, freed(loadOf(queue, loadKey), outcome, this.#clock.monotonicMs()));
        this.#isActive(key);
        this.#callNext(key);
      },
    };
  }

  #setAlarm(key: string, queue: Queue, untilMs: number): void {
    const alarm = new AbortController();
    queue.alarm = alarm;
    this.#clock.sleep(Math.max(1, untilMs - this.#clock.monotonicMs()), alarm.signal).then(
      () => this.#callNext(key),
      () => {}, // rung by something else before
    );
  }
}

const queueFull = (key: string, maxQueue: number): Refusal<"QueueFull"> =>
  refuse(
    "QueueFull",
    `${maxQueue} requests wait for a slot of ${key} already; try again later, or raise gateway.maxQueue`,
  );

const isOfOneForm = ({ chains }: Pick<ModelFacts, "chains">): boolean =>
  chains.every(({ form, draining }) => draining === undefined && form?.revision === chains[0]?.form?.revision);

const loadOf = (queue: Queue, key: string): ChainLoad => queue.loads.get(key) ?? newLoad(key);

/** What is said of a model that somebody turned off. */
export const scaledToZero = (model: ModelFacts): Refusal<"ScaledToZero"> =>
  refuse(
    "ScaledToZero",
    `${modelKey(model)} is turned off: spec.replicas is 0; "kubectl scale shardedmodel ${model.name} --replicas=1" turns it on`,
  );

const notAwakeInTime = (model: ModelFacts, waitMs: number): Refusal<"NotAwakeInTime"> =>
  refuse(
    "NotAwakeInTime",
    `${modelKey(model)} did not wake within ${Math.round(waitMs / 1000)} s; try again later; ` +
      `"kubectl describe shardedmodel ${model.name}" says what is missing`,
  );

function noReadyChain(model: ModelFacts): Refusal<"NoReadyChain"> {
  const waiting = model.chains.map((chain) => `chain ${chain.index}`).join(", ");
  const which = model.chains.length === 0 ? "none is planned" : `of ${waiting} none has all its ranks ready`;
  return refuse(
    "NoReadyChain",
    `${modelKey(model)} has no complete chain: ${which}; "kubectl describe shardedmodel ${model.name}" says what is missing`,
  );
}
