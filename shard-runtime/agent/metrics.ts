/** What a node agent counts. Which machine it is on, its scrape says. */
import { Counter, Gauge, Registry } from "prom-client";

export class AgentMetrics {
  readonly registry = new Registry();
  readonly signatures = new Counter({
    name: "tessellate_agent_signatures_total",
    help: "Receipts that ranks brought to be signed, by result (signed, refused).",
    labelNames: ["result"],
    registers: [this.registry],
  });

  /** `lookedAgoMs`: since the operator looked last; undefined where it never did. */
  constructor(lookedAgoMs: () => number | undefined) {
    new Gauge({
      name: "tessellate_agent_looked_at_seconds",
      help: "Since the operator looked at this agent last; absent until it does.",
      registers: [this.registry],
      collect() {
        const agoMs = lookedAgoMs();
        if (agoMs !== undefined) this.set(agoMs / 1000);
      },
    });
  }
}
