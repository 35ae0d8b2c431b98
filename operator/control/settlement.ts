/** A Settlement object: asks the ledger once, keeps what it signed. */
import { type Settlement, type SettlementStatus, settlementResource } from "../../core/gen/crds/settlement.ts";
import { envelopeBytes, payloadDigest } from "../../core/dsse.ts";
import type { Result } from "../../core/result.ts";
import { openSettlement } from "../../core/settlement.ts";
import { formatCredits } from "../../core/units.ts";
import type { WallClock } from "../clock.ts";
import type { KubeClient } from "../kube/client.ts";
import { type NewCondition, withTimes } from "../kube/conditions.ts";
import type { KubeObject } from "../kube/objects.ts";
import { sameJson } from "../kube/same.ts";

export type SettlementDoors = {
  readonly client: KubeClient;
  readonly clock: WallClock;
  readonly settle: (epoch: number | "latest") => Promise<Result<Buffer>>;
};

/** An object in etcd may have a megabyte and a half. What would not fit stays with the ledger; its digest is here. */
const ENVELOPE_BYTES_MAX = 400_000;
const ENTRY_COUNT_MAX = 2_000;

/** True where it is settled, for good; false where it is worth asking again later. */
export async function reconcileSettlement(
  { client, clock, settle }: SettlementDoors,
  object: KubeObject,
): Promise<boolean> {
  const settlement = object as unknown as Settlement;
  if (settlement.status?.conditions?.some(({ type, status }) => type === "Settled" && status === "True")) return true;
  const { epoch } = settlement.spec;
  const answer = await settle(epoch ?? "latest");
  const read = answer.ok ? openSettlement(answer.value) : answer;
  const found = read.ok ? settledStatus(read.value) : undefined;
  const condition: NewCondition = read.ok
    ? {
        type: "Settled",
        status: "True",
        reason: "Signed",
        message: `${read.value.settlement.entries.length} entries of epoch ${read.value.settlement.epoch}`,
      }
    : { type: "Settled", status: "False", reason: read.code, message: read.detail };
  const generation = object.metadata.generation ?? 1;
  const conditions = withTimes(settlement.status?.conditions, [condition], generation, clock.wallMs());
  const status: SettlementStatus = {
    observedGeneration: generation,
    ...found,
    conditions: conditions.map((each) => ({ ...each, type: "Settled" as const })),
  };
  if (!sameJson(settlement.status, status)) {
    await client.apply(settlementResource, { metadata: { name: object.metadata.name }, status }, "status");
  }
  return read.ok;
}

type Opened = Extract<ReturnType<typeof openSettlement>, { ok: true }>["value"];

function settledStatus({ envelope, settlement }: Opened): SettlementStatus {
  const { epoch, entries, totals } = settlement;
  const document = new TextDecoder().decode(envelopeBytes(envelope));
  return {
    epoch,
    ...(entries.length > ENTRY_COUNT_MAX
      ? {}
      : {
          entries: entries.map(({ id, debit, credit, amount }) => ({
            id,
            debit,
            credit,
            amount: formatCredits(amount),
          })),
        }),
    totals: {
      collected: formatCredits(totals.collected),
      paid: formatCredits(totals.paid),
      withheld: formatCredits(totals.withheld),
      dust: formatCredits(totals.dust),
    },
    digest: payloadDigest(envelope),
    ...(document.length > ENVELOPE_BYTES_MAX ? {} : { envelope: document }),
  };
}
