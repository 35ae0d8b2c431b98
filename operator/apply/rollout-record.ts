/**
 * A rollout as the ShardPlan remembers it: chains of the revisions that are on their way out beside those of the plan,
 * and how far each chain is. Whoever leads next goes on from here.
 */
import type { ShardPlan, ShardPlanSpec } from "../../core/gen/crds/shardplan.ts";
import { isJsonObject, parseJson } from "../../core/json.ts";
import { parseModelConfig } from "../../core/model-config.ts";
import type { ReadFacts } from "../manifest/read-facts.ts";
import { formOf } from "../plan/revision.ts";
import type { Form, ModelSpec, Rolled, Rolls, Side } from "../plan/types.ts";
import { chainsSpec, standingPlanIn, writtenRoute } from "./shard-plan.ts";

/** The plan's spec with the rollout that it is part of. `before`: as it was written last; `nowMs`: since 1970. */
export function withRollout(
  spec: ShardPlanSpec,
  model: ModelSpec,
  rolled: Rolled,
  before: ShardPlanSpec | undefined,
  nowMs: number,
): ShardPlanSpec {
  const { form, outgoing, unproven, draining, isProgress, refused } = rolled;
  const now = new Date(nowMs).toISOString();
  const known = before?.rollout;
  const sinceOf = (chain: number) => known?.draining?.find((each) => each.chain === chain)?.since ?? now;
  const isRolling = outgoing.length > 0 || unproven.length > 0;
  const oldChains = outgoing.flatMap(({ plan }) =>
    chainsSpec(model, plan.assignments).map((chain) => ({ ...chain, revision: plan.revision })),
  );
  const oldRoutes = outgoing.flatMap(({ plan }) => (plan.routes ?? []).map(writtenRoute));
  return {
    ...spec,
    model: { ...spec.model, form: JSON.stringify(form) },
    chains: [...spec.chains, ...oldChains],
    ...(spec.routes === undefined && oldRoutes.length === 0 ? {} : { routes: [...(spec.routes ?? []), ...oldRoutes] }),
    ...(outgoing.length === 0 ? {} : { outgoing: outgoing.map(outgoingSpec) }),
    ...(isRolling
      ? {
          rollout: {
            since: known?.since ?? now,
            progressed: isProgress ? now : (known?.progressed ?? now),
            // Left out where empty: a list that server-side apply empties becomes null, which no schema of ours allows.
            ...(unproven.length === 0 ? {} : { unproven: [...unproven] }),
            ...(draining.length === 0 ? {} : { draining: draining.map((chain) => ({ chain, since: sinceOf(chain) })) }),
          },
        }
      : {}),
    ...(refused === undefined ? {} : { refused: { ...refused, why: refused.why.slice(0, WHY_LENGTH_MAX) } }),
  };
}

const WHY_LENGTH_MAX = 1_000;

type OutgoingSpec = NonNullable<ShardPlanSpec["outgoing"]>[number];

const outgoingSpec = ({ form, facts, plan }: Side): OutgoingSpec => ({
  revision: plan.revision,
  root: facts.root,
  slots: plan.slotCount ?? form.slotCount,
  config: facts.configText,
  form: JSON.stringify(form),
});

/** What {@link withRollout} wrote, less what the operator knows anew. `draft`: the model as it is asked for. */
export function rollsIn(
  plan: ShardPlan,
  facts: ReadFacts,
  draft: ModelSpec,
  nowMs: number,
): Pick<Rolls, "inForce" | "outgoing" | "unproven" | "refused" | "stalledSeconds"> & {
  readonly draining: readonly { readonly chain: number; readonly seconds: number }[];
} {
  const { rollout, refused } = plan.spec;
  const secondsSince = (time: string) => Math.max(0, Math.floor((nowMs - Date.parse(time)) / 1000));
  return {
    inForce: { form: formIn(plan, draft), facts },
    outgoing: outgoingIn(plan),
    unproven: [...(rollout?.unproven ?? []), ...(plan.spec.unproven ?? [])],
    draining: (rollout?.draining ?? []).map(({ chain, since }) => ({ chain, seconds: secondsSince(since) })),
    ...(rollout === undefined ? {} : { stalledSeconds: secondsSince(rollout.progressed) }),
    ...(refused === undefined ? {} : { refused }),
  };
}

/** What the plan's ranks were told; of a plan by an operator that did not write it down, as well as it can be known. */
export function formIn({ spec }: ShardPlan, draft: ModelSpec): Form {
  const { form, quantization, kvDtype, contextLength, slots } = spec.model;
  return parseForm(form) ?? formOf({ ...draft, quantization, kvDtype, contextLength, slotCount: slots }, undefined);
}

function parseForm(text: string | undefined): Form | undefined {
  const value = text === undefined ? undefined : parseJson(text);
  return isJsonObject(value) ? (value as unknown as Form) : undefined; // we wrote it, as we did the rest of the plan
}

/** The revisions on their way out, oldest first. */
export function outgoingIn(plan: ShardPlan): readonly Side[] {
  return (plan.spec.outgoing ?? []).flatMap(({ revision, root, slots, config, form: text }) => {
    const form = parseForm(text);
    const read = parseModelConfig(config);
    if (form === undefined || !read.ok) return [];
    const { slotCount: _, basis: __, better: ___, ...standing } = standingPlanIn(plan, revision);
    return [{ form, facts: { root, config: read.value, configText: config }, plan: { ...standing, slotCount: slots } }];
  });
}
