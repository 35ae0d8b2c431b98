/** Whether Prometheus and the ledger tell the same story. */
import { expect } from "chai";
import type { EpochBalance__Output } from "../../core/gen/proto/tessellate/ledger/v1/EpochBalance.ts";
import type { Prometheus } from "../prometheus.ts";
import { until } from "../until.ts";

/** Every provider's rewards, asked in PromQL, are those of `rows`; every one of `targetCount` targets is up and counts. */
export async function expectAgreement(
  prometheus: Prometheus,
  targetCount: number,
  rows: readonly EpochBalance__Output[],
): Promise<void> {
  await until("all targets to be up", async () => (await prometheus.query("count(up == 1)"))[0]?.value === targetCount);
  expect(targetCount).to.equal(3 + 4);
  const question = 'sum by (provider) (tessellate_rewards_credits_total{state=~"pending|payable|paid"})';
  const microCredits = new Map<string, bigint>();
  for (const { provider, pendingMicroCredits, payableMicroCredits, paidMicroCredits } of rows) {
    const rewards = BigInt(pendingMicroCredits) + BigInt(payableMicroCredits) + BigInt(paidMicroCredits);
    microCredits.set(provider, (microCredits.get(provider) ?? 0n) + rewards);
  }
  expect([...microCredits.keys()].sort()).to.deep.equal(["campus", "garage", "studio"]);
  await until("rewards to be scraped", async () => (await prometheus.query(question)).length === microCredits.size);
  const scraped = new Map((await prometheus.query(question)).map(({ labels, value }) => [labels["provider"], value]));
  for (const [provider, rewards] of microCredits) {
    expect(Math.round((scraped.get(provider) ?? Number.NaN) * 1e6), provider).to.equal(Number(rewards));
  }
  for (const question of [
    "sum(tessellate_steps_total)",
    'sum(tessellate_tokens_total{kind="generated"})',
    'sum(tessellate_receipts_total{verdict="accept"})',
    "sum(tessellate_leader) == 1",
  ]) {
    const [answer] = await prometheus.query(question);
    expect(answer?.value ?? 0, question).to.be.greaterThan(0);
  }
}
