/**
 * What gateways say is asked of the models that may sleep. The leader holds one call open to each; a gateway that is
 * silent, or whose call broke, has said nothing, and then no model falls asleep. One that is about to end is listened to
 * until its call ends: it may have answers under way.
 */
import { type ClientReadableStream, closeClient } from "@grpc/grpc-js";
import type { Clock } from "../../core/clock.ts";
import type { DemandReport__Output } from "../../core/gen/proto/tessellate/control/v1/DemandReport.ts";
import { GATEWAY } from "../../core/identity.ts";
import { dial } from "../../core/wire/door.ts";
import type { Client } from "../../core/wire/proto.ts";
import type { Tls } from "../../core/wire/tls.ts";
import { type GatewayReport, demandIn } from "../plan/sleep.ts";
import type { ModelSpec } from "../plan/types.ts";
import type { Component } from "./house.ts";

export type DemandWatchOptions = {
  readonly clock: Clock;
  readonly tls: Tls;
  /** When the model of this key, `<namespace>/<name>`, falls asleep; undefined where there is none such. */
  readonly idleOf: (key: string) => ModelSpec["idle"];
  /** What planning goes by has changed. */
  readonly onChange: (key: string) => void;
  readonly onTrouble: (detail: string) => void;
};

/** A gateway reports every five seconds. */
const SILENT_MS = 20_000;
const RETRY_MS = 1_000;
const RETRY_MS_MAX = 15_000;

type Line = {
  readonly gateway: Component;
  readonly client: Client<"Control">;
  readonly end: AbortController;
  stays: boolean; // there is such a gateway still: a call that breaks is made again
  call: ClientReadableStream<DemandReport__Output> | undefined;
  reports: ReadonlyMap<string, GatewayReport>;
  heardMs: number;
};

export class DemandWatch {
  readonly #options: DemandWatchOptions;
  readonly #lines = new Map<string, Line>(); // by address
  readonly #known = new Map<string, string>(); // by model: what was said last, as planning goes by it
  #isBegun = false;

  constructor(options: DemandWatchOptions) {
    this.#options = options;
  }

  /** The gateways that there are now. */
  follow(gateways: readonly Component[]): void {
    this.#isBegun = true;
    const addresses = new Set(gateways.map(({ address }) => address));
    for (const [address, line] of this.#lines) {
      line.stays = addresses.has(address);
      if (!line.stays && (line.call === undefined || this.#isSilent(line))) this.#hangUp(address, line);
    }
    for (const gateway of gateways) if (!this.#lines.has(gateway.address)) this.#listen(gateway);
  }

  /** One for each gateway; undefined where it says nothing of the model, or which there are is not known yet. */
  of(key: string): readonly (GatewayReport | undefined)[] {
    if (!this.#isBegun) return [undefined];
    return [...this.#lines.values()].map((line) => (this.#isSilent(line) ? undefined : line.reports.get(key)));
  }

  close(): void {
    for (const [address, line] of this.#lines) this.#hangUp(address, line);
  }

  #isSilent({ call, heardMs }: Line): boolean {
    return call === undefined || this.#options.clock.monotonicMs() - heardMs > SILENT_MS;
  }

  #hangUp(address: string, line: Line): void {
    this.#lines.delete(address);
    line.end.abort();
    line.call?.cancel();
    closeClient(line.client);
  }

  #listen(gateway: Component): void {
    const line: Line = {
      gateway,
      client: dial("Control", gateway.address, this.#options.tls, GATEWAY),
      end: new AbortController(),
      stays: true,
      call: undefined,
      reports: new Map(),
      heardMs: 0,
    };
    this.#lines.set(gateway.address, line);
    void this.#keepListening(line);
  }

  async #keepListening(line: Line): Promise<void> {
    const { clock, onTrouble } = this.#options;
    let pauseMs = RETRY_MS;
    let trouble = "";
    while (!line.end.signal.aborted) {
      const startedMs = clock.monotonicMs();
      const why = await this.#callOnce(line);
      if (line.end.signal.aborted) return;
      if (!line.stays) return this.#hangUp(line.gateway.address, line);
      const isNew = why !== trouble;
      trouble = why;
      if (isNew)
        onTrouble(`gateway ${line.gateway.name} at ${line.gateway.address} does not say what is asked: ${why}`);
      pauseMs = clock.monotonicMs() - startedMs > SILENT_MS ? RETRY_MS : Math.min(RETRY_MS_MAX, pauseMs * 2);
      await clock.sleep(pauseMs, line.end.signal).catch(() => undefined);
    }
  }

  /** Resolves with why it ended. */
  #callOnce(line: Line): Promise<string> {
    const { promise, resolve } = Promise.withResolvers<string>();
    const call = line.client.Demand({});
    line.call = call;
    line.heardMs = this.#options.clock.monotonicMs();
    line.reports = new Map();
    call.on("data", (report: DemandReport__Output) => this.#heard(line, report));
    call.on("error", (error: Error) => resolve(error.message));
    call.on("end", () => resolve("it ended the call"));
    return promise.finally(() => {
      line.call = undefined;
    });
  }

  #heard(line: Line, { models }: DemandReport__Output): void {
    const before = line.reports;
    line.heardMs = this.#options.clock.monotonicMs();
    line.reports = new Map(models.map(({ namespace, name, ...report }) => [`${namespace}/${name}`, report]));
    for (const key of new Set([...before.keys(), ...line.reports.keys()])) this.#compare(key);
  }

  #compare(key: string): void {
    const idle = this.#options.idleOf(key);
    const { isAsked, isIdle, isLetGo } = demandIn(this.of(key), idle === undefined ? {} : { idle });
    const said = `${isAsked} ${isIdle} ${isLetGo}`;
    if (this.#known.get(key) === said) return;
    if (this.of(key).every((report) => report === undefined)) this.#known.delete(key);
    else this.#known.set(key, said);
    this.#options.onChange(key);
  }
}
