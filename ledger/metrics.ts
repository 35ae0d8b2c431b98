/**
 * What Prometheus sees, read from what is stored at every scrape: for looking, not for paying. Labels are providers,
 * states, verdicts and codes only; epochs and sessions would grow without end.
 */
import { Counter, Registry, collectDefaultMetrics } from "prom-client";
import type { Ledger } from "./ledger.ts";

const MICRO = 1_000_000;

/** A registry whose metrics come from the ledger; with Node's own process metrics where `processMetrics`. */
export function ledgerMetrics(
  ledger: Ledger,
  { processMetrics = true }: { readonly processMetrics?: boolean } = {},
): Registry {
  const registry = new Registry();
  if (processMetrics) collectDefaultMetrics({ register: registry });
  new Counter({
    name: "tessellate_rewards_credits_total",
    help: "Credits: pending (epoch runs) and payable (epoch over) fall when they become paid; withheld is kept back by a verdict.",
    labelNames: ["provider", "state"],
    registers: [registry],
    async collect() {
      const { balances } = await ledger.figures();
      this.reset();
      for (const { provider, pending, payable, paid, withheld } of balances) {
        for (const [state, amount] of Object.entries({ pending, payable, paid, withheld }))
          this.inc({ provider, state }, Number(amount) / MICRO);
      }
    },
  });
  new Counter({
    name: "tessellate_verified_work_units_total",
    help: "Verified work by provider: layers × positions × share in millionths, of receipts that were accepted.",
    labelNames: ["provider"],
    registers: [registry],
    async collect() {
      const { balances } = await ledger.figures();
      this.reset();
      for (const { provider, units } of balances) this.inc({ provider }, Number(units));
    },
  });
  new Counter({
    name: "tessellate_receipts_total",
    help: "Receipts by verdict (accept, ignore, reject) and code; ignored ones since this process started, the others ever.",
    labelNames: ["verdict", "code"],
    registers: [registry],
    async collect() {
      const { verdicts } = await ledger.figures();
      this.reset();
      for (const { verdict, code, count } of verdicts) this.inc({ verdict, code }, count);
    },
  });
  return registry;
}
