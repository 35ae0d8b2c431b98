/** The names of all time series that our processes export, from the very registries that they serve. */
import type { Registry } from "prom-client";
import { Metrics as GatewayMetrics } from "../../gateway/metrics.ts";
import type { Ledger } from "../../ledger/ledger.ts";
import { ledgerMetrics } from "../../ledger/metrics.ts";
import { Metrics as OperatorMetrics } from "../../operator/metrics.ts";
import type { Stores } from "../../operator/apply/stores.ts";
import { AgentMetrics } from "../../shard-runtime/agent/metrics.ts";
import { Metrics as RankMetrics } from "../../shard-runtime/metrics.ts";

/** Nothing is scraped, so whatever a gauge would ask is never asked. */
const unasked = (): never => {
  throw new Error("nobody scrapes here");
};

export async function exportedSeries(): Promise<ReadonlySet<string>> {
  const registries: readonly Registry[] = [
    new OperatorMetrics({ stores: {} as Stores, queueDepth: unasked, leads: unasked, heldNodes: unasked }).registry,
    new GatewayMetrics({ queueDepth: unasked, chainsInDemand: unasked, usageWaiting: unasked }).registry,
    ledgerMetrics({} as Ledger),
    new AgentMetrics(unasked).registry,
    new RankMetrics({
      slots: unasked,
      fetchedBytes: unasked,
      fromFellows: unasked,
      serving: unasked,
    }).registry,
  ];
  const metrics = registries.flatMap((registry) => registry.getMetricsAsArray());
  return new Set(
    metrics.flatMap((metric) => {
      const { name, type } = metric as unknown as { readonly name: string; readonly type?: string };
      const isHistogram = type === "histogram" || "buckets" in metric || "upperBounds" in metric;
      return isHistogram ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name];
    }),
  );
}
