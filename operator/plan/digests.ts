/** Plans and what they followed from, in a few letters: whether it is worth looking again, and which plan was approved. */
import { digestOf } from "../../core/digest.ts";
import { eligible } from "./holders.ts";
import { inNameOrder } from "./homes.ts";
import { keysOf, routesOf } from "./routes.ts";
import type { Known, StandingPlan } from "./types.ts";

/**
 * A plan is left for a better one only where that gains more than this share of what the model wants, unless it says
 * another. Every rank that moves loads its weights anew and its sessions begin again from their tokens: a tenth more is
 * not worth that.
 */
export const GAIN_MIN_PERCENT = 50;

const BASIS_LENGTH = 16;
const APPROVAL_LENGTH = 12;

/** Steps of a quarter: what is measured anew is never quite what it was. */
const coarse = (value: number): number => (value > 0 ? Math.round(Math.log(value) / Math.log(1.25)) : -1);

/** Changes with what another plan would follow from: wishes, and nodes as they are, roughly. */
export function basisOf({ model, nodes }: Known): string {
  const seen = eligible(model, nodes).nodes.map((node) => [
    node.name,
    node.provider,
    node.device,
    node.region ?? "",
    coarse(node.freeBytes),
    coarse(node.memoryBytesPerSecond),
    node.layerTimes === undefined
      ? []
      : [
          coarse(node.layerTimes.oneMicros / node.layerTimes.bytes),
          coarse(node.layerTimes.manyMicros / node.layerTimes.bytes),
        ],
    String(node.pricePerHour ?? 0n),
    (node.links ?? []).map(({ to, roundTripMicros, bytesPerSecond }) => [
      to,
      coarse(roundTripMicros),
      coarse(bytesPerSecond),
    ]),
  ]);
  const gain =
    model.gainMinPercent === undefined || model.gainMinPercent === GAIN_MIN_PERCENT ? [] : [model.gainMinPercent];
  const wishes = [model.placement, model.objective ?? null, model.replicas, ...gain];
  const text = JSON.stringify([wishes, seen], (_, value) => (typeof value === "bigint" ? String(value) : value));
  return lettersOf(text, BASIS_LENGTH);
}

/** A plan's name for an approval: the same for the same ranks on the same routes, whatever is expected of them. */
export function approvalOf(plan: StandingPlan): string {
  const { revision, assignments } = plan;
  const ranks = inNameOrder(assignments).map(({ chain, segment, rank, node, layers, sliceWeights }) => [
    chain,
    segment,
    rank,
    node,
    layers.start,
    layers.end,
    sliceWeights,
  ]);
  const ways = routesOf(plan).map((route) => [route.chain, keysOf(route)]);
  return lettersOf(JSON.stringify([revision, ranks, ways]), APPROVAL_LENGTH);
}

const lettersOf = (text: string, length: number): string =>
  digestOf(new TextEncoder().encode(text)).slice("sha256:".length, "sha256:".length + length);
