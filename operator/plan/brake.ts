/**
 * The brake on mass eviction. Nodes that go away are given up one after the other, and at most a share of all of them
 * within a while: where half of them seem to be gone at once, it is the view of them that is wrong more often than not
 * (an API server restored from a backup, a deletion that hit too much, a network cut in two), and what runs there may
 * serve on. Those that are held keep what they hold, and are given nothing new.
 */
import type { Action, Plan, World } from "./types.ts";

/** A node whose ranks were made elsewhere because it went away. `atMs`: since 1970. */
export type GivenUp = { readonly node: string; readonly atMs: number };

export type BrakeRule = { readonly sharePercent: number; readonly windowMs: number };

export const BRAKE_RULE: BrakeRule = { sharePercent: 20, windowMs: 600_000 };

export type BrakeQuestion = {
  readonly gone: readonly string[]; // nodes that hold something and went away
  readonly givenUp: readonly GivenUp[]; // whatever is known, in any order
  readonly nodeCount: number; // all there are, those that went away included
  readonly nowMs: number;
};

/** `untilMs`: not before then may more be given up; undefined where none is held. */
export type BrakeVerdict = {
  readonly released: readonly string[];
  readonly held: readonly string[];
  readonly untilMs?: number;
};

/** So many nodes may be given up within the window. */
export const allowanceOf = ({ sharePercent }: BrakeRule, nodeCount: number): number =>
  Math.max(1, Math.floor((nodeCount * sharePercent) / 100));

/** Who may be given up now. One that was within the window is not counted twice. Never more than the allowance. */
export function brake({ gone, givenUp, nodeCount, nowMs }: BrakeQuestion, rule: BrakeRule): BrakeVerdict {
  const last = new Map<string, number>();
  for (const { node, atMs } of givenUp)
    if (atMs > nowMs - rule.windowMs) last.set(node, Math.max(atMs, last.get(node) ?? atMs));
  const known = new Set(gone);
  const asked = [...known].filter((node) => !last.has(node)).sort();
  const left = Math.max(0, allowanceOf(rule, nodeCount) - last.size);
  const released = [...[...known].filter((node) => last.has(node)), ...asked.slice(0, left)].sort();
  const held = asked.slice(left);
  if (held.length === 0) return { released, held };
  return { released, held, untilMs: Math.min(nowMs, ...last.values()) + rule.windowMs };
}

const NAMED_MAX = 5;

/** What is said while nodes are held, the same for as long as they are. */
export function brakeWords({ held, untilMs = 0 }: BrakeVerdict, nodeCount: number, rule: BrakeRule): string {
  const named = held.slice(0, NAMED_MAX).join(", ");
  const more = held.length > NAMED_MAX ? ` and ${held.length - NAMED_MAX} more` : "";
  const minutes = Math.round(rule.windowMs / 60_000);
  return (
    `${held.length === 1 ? "node" : "nodes"} ${named}${more} went away, and within ${minutes} min at most ` +
    `${allowanceOf(rule, nodeCount)} of ${nodeCount} nodes are given up: ranks there stay as they are until the node ` +
    `is back, or more may be given up, at ${clockText(untilMs)} UTC at the earliest`
  );
}

/** `14:05:09` of milliseconds since 1970. */
function clockText(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  const parts = [Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

/** Nothing is touched on nodes that are held, and it is said why. */
export function withBrake(world: World, plan: Plan): Plan {
  const { held } = world;
  if (held === undefined) return plan;
  const nodes = new Set(held.nodes);
  const nodeOf = new Map(world.ranks.map(({ name, assignment }) => [name, assignment.node]));
  const isHeld = (action: Action): boolean => {
    switch (action.do) {
      case "create-rank":
        return nodes.has(action.assignment.node);
      case "delete-rank":
        return nodes.has(nodeOf.get(action.name) ?? "");
      default:
        return false;
    }
  };
  return {
    ...plan,
    actions: plan.actions.filter((action) => !isHeld(action)),
    conditions: plan.conditions.map((condition) =>
      condition.type === "Planned" && condition.status === "True"
        ? { ...condition, reason: "BrakeHolds", message: `${held.why}; ${condition.message}` }
        : condition,
    ),
  };
}
