/**
 * What is asked of the models that may sleep, told to the operator: it alone can wake one, and it puts one to sleep only
 * while every gateway says that nobody asks. The operator holds the call open, so that a request which finds its model
 * asleep is known of within milliseconds and without an address of the operator's; between such news a report goes out
 * every few seconds, and nothing is kept for who is not there.
 */
import type { ServerWritableStream } from "@grpc/grpc-js";
import type { Clock } from "../../core/clock.ts";
import type { DemandReport } from "../../core/gen/proto/tessellate/control/v1/DemandReport.ts";
import type { DemandRequest__Output } from "../../core/gen/proto/tessellate/control/v1/DemandRequest.ts";
import type { ModelDemand } from "../../core/gen/proto/tessellate/control/v1/ModelDemand.ts";
import { within } from "../doors.ts";
import type { Admission } from "../generate/admission.ts";
import { type ModelFacts, type Picture, modelKey, openChains } from "../route/picture.ts";

export type DemandCall = Pick<
  ServerWritableStream<DemandRequest__Output, DemandReport>,
  "write" | "end" | "on" | "writableNeedDrain"
>;

/** Between two reports without news. The operator takes a gateway that is silent for four times as long for away. */
const REPORT_EVERY_MS = 5_000;
/** Requests come in bunches. */
const GATHER_MS = 20;
/** A leader, one that was deposed a moment ago, and some to spare; whoever has listened longest makes room. */
const CALL_COUNT_MAX = 4;

export class DemandFeed {
  readonly #clock: Clock;
  readonly #admission: Admission;
  readonly #calls = new Map<DemandCall, AbortController>();
  readonly #said = new Map<string, string>(); // by modelKey: what is told at once where it changes
  #models: ReadonlyMap<string, ModelFacts> = new Map();
  #news = Promise.withResolvers<void>();

  constructor(clock: Clock, admission: Admission) {
    this.#clock = clock;
    this.#admission = admission;
  }

  /** The operator's newest picture, once the admission knows it. */
  update(picture: Picture): void {
    this.#models = new Map(picture.models.filter(mayChange).map((model) => [modelKey(model), model]));
    for (const key of this.#said.keys()) if (!this.#models.has(key)) this.#said.delete(key);
    for (const key of this.#models.keys()) this.changed(key);
  }

  /** Requests of the model came or went. */
  changed(key: string): void {
    const model = this.#models.get(key);
    if (model === undefined) return;
    const { waitingCount, sessionCount } = this.#admission.demandOf(key);
    const wakes = waitingCount > 0 && openChains(model).length === 0;
    const says = `${model.asleep} ${wakes} ${model.asleep && sessionCount === 0}`;
    if (this.#said.get(key) === says) return;
    this.#said.set(key, says);
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  }

  /** Reports to an operator for as long as it listens. */
  add(call: DemandCall): void {
    const gone = new AbortController();
    this.#calls.set(call, gone);
    for (const event of ["cancelled", "close", "error"])
      call.on(event, () => {
        gone.abort();
        this.#calls.delete(call);
      });
    for (const old of [...this.#calls.keys()].slice(0, -CALL_COUNT_MAX)) this.#end(old);
    void this.#feed(call, gone.signal);
  }

  /** Ends every call: nothing will be asked of this gateway any more. */
  close(): void {
    for (const call of this.#calls.keys()) this.#end(call);
  }

  #end(call: DemandCall): void {
    this.#calls.get(call)?.abort();
    this.#calls.delete(call);
    call.end();
  }

  async #feed(call: DemandCall, gone: AbortSignal): Promise<void> {
    while (!gone.aborted) {
      const news = this.#news.promise;
      // Whoever does not read gets the next one; every report says everything.
      if (!call.writableNeedDrain) call.write({ models: this.#report() });
      await within(this.#clock, REPORT_EVERY_MS, news, gone);
      await this.#clock.sleep(GATHER_MS, gone).catch(() => undefined);
    }
  }

  #report(): ModelDemand[] {
    return [...this.#models].map(([key, { namespace, name, asleep }]) => {
      const { waitingCount, sessionCount, idleMs } = this.#admission.demandOf(key);
      return { namespace, name, waitingCount, sessionCount, idleSeconds: Math.floor(idleMs / 1000), asleep };
    });
  }
}

/** Others neither fall asleep nor wake by what is asked of them. */
const mayChange = (model: ModelFacts): boolean => model.asleep || model.wakeTimeoutMs > 0;
