/** What the gateway counts. Labels are bounded: models of the picture, HTTP statuses, kinds. */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";

const SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];

export type ChainsInDemand = { readonly namespace: string; readonly name: string; readonly chainCount: number };

export class Metrics {
  readonly registry = new Registry();
  /** Answered requests by model ("" where the request named none we have) and HTTP status; 499: the client went away. */
  readonly requests = this.#counter("tessellate_requests_total", "Requests by model and HTTP status.", [
    "model",
    "code",
  ]);
  readonly tokens = this.#counter("tessellate_tokens_total", "Tokens by model and kind (prompt, generated).", [
    "model",
    "kind",
  ]);
  readonly firstToken = this.#histogram(
    "tessellate_time_to_first_token_seconds",
    "From a request's arrival to its first token.",
  );
  readonly nextToken = this.#histogram("tessellate_time_per_token_seconds", "Between two tokens of one answer.");
  readonly recoveries = this.#counter(
    "tessellate_session_recoveries_total",
    "Answers that went on at another chain after theirs was lost.",
    ["model"],
  );
  readonly unproven = this.#counter(
    "tessellate_answers_unproven_total",
    "Answers whose receipts do not fit together, by model.",
    ["model"],
  );

  /** `gauges`: asked at each scrape. */
  constructor(gauges: {
    readonly queueDepth: () => ReadonlyMap<string, number>;
    readonly chainsInDemand: () => readonly ChainsInDemand[];
    readonly usageWaiting: () => number;
  }) {
    collectDefaultMetrics({ register: this.registry });
    new Gauge({
      name: "tessellate_queue_depth",
      help: "Requests that wait for a slot, by model.",
      labelNames: ["model"],
      registers: [this.registry],
      collect() {
        this.reset();
        for (const [model, count] of gauges.queueDepth()) this.set({ model }, count);
      },
    });
    // A selector of Kubernetes takes no slash, so the two parts of the model's name are apart; and not "namespace", which
    // a scrape gives the meaning of the gateway's own.
    new Gauge({
      name: "tessellate_demand_chains",
      help: "Chains that the requests under way and waiting at this gateway would fill: what an autoscaler goes by.",
      labelNames: ["model_namespace", "model_name"],
      registers: [this.registry],
      collect() {
        this.reset();
        for (const { namespace, name, chainCount } of gauges.chainsInDemand())
          this.set({ model_namespace: namespace, model_name: name }, chainCount);
      },
    });
    new Gauge({
      name: "tessellate_usage_waiting",
      help: "Sessions whose usage the ledger has not judged yet.",
      registers: [this.registry],
      collect() {
        this.set(gauges.usageWaiting());
      },
    });
  }

  #counter<Label extends string>(name: string, help: string, labelNames: Label[]): Counter<Label> {
    return new Counter({ name, help, labelNames, registers: [this.registry] });
  }

  #histogram(name: string, help: string): Histogram<"model"> {
    return new Histogram({ name, help, labelNames: ["model"], buckets: SECONDS, registers: [this.registry] });
  }
}
