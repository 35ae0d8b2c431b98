/**
 * Looks that found nothing to do and nothing to say: one that sees the very same again is over there. Every look observes
 * all the same, and a plan follows from its World alone, so worlds are compared whole: nothing that planning reads can be
 * left out of the comparison. What is written down and said of a plan follows besides from the objects in `read`, from what
 * was put off, and from the time. Hence only plain models are taken, of which nothing rolls, drains, sleeps, loads, waits
 * or is held; and once an hour each is looked at as a whole, whatever it sees: certificates are renewed then, at the latest.
 */
import type { Clock } from "../../core/clock.ts";
import { sameData, sameItems } from "../kube/same.ts";
import type { Plan, World } from "../plan/types.ts";
import type { Observed } from "./cluster.ts";

/** For which nothing but the passing of time is reason to look as a whole. Of a certificate's 365 days 125 are left then. */
const WHOLE_MS = 3_600_000;

type Settled = Pick<Observed, "world" | "read"> & { readonly plan: Plan; readonly untilMs: number };

export class SettledLooks {
  readonly #clock: Clock;
  readonly #settled = new Map<string, Settled>(); // by model

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The plan of the model's last look, where that one has settled and this one sees the same. */
  planOf(key: string, { world, read }: Observed): Plan | undefined {
    const known = this.#settled.get(key);
    if (known === undefined || this.#clock.monotonicMs() >= known.untilMs) return undefined;
    const isSame = sameItems(read, known.read) && sameData(world, known.world);
    return isSame ? known.plan : undefined;
  }

  /** A look has ended, and has written nothing and put nothing off. */
  note(key: string, { world, read }: Observed, plan: Plan): void {
    if (isPlain(world, plan))
      this.#settled.set(key, { world, read, plan, untilMs: this.#clock.monotonicMs() + WHOLE_MS });
  }

  forget(key: string): void {
    this.#settled.delete(key);
  }
}

/** Whether nothing is under way with the model, so that no time that passes changes what is done or said. */
export function isPlain(world: World, plan: Plan): boolean {
  const { facts, ranks, nodes, held, draining = [], proposed } = world;
  const { actions, conditions, placement, leaving, trial, better, proposal, asleep, stuck, rolled } = plan;
  if (actions.length > 0 || "code" in facts || held !== undefined || draining.length > 0) return false;
  if (placement === undefined || asleep !== undefined || proposed !== undefined) return false;
  if ([leaving, trial, better, proposal, stuck].some((each) => each !== undefined)) return false;
  if (rolled !== undefined && !isStill(rolled)) return false;
  const holds = (type: string) => conditions.some((each) => each.type === type && each.status === "True");
  const offered = new Set(nodes.map(({ name }) => name));
  return (
    holds("Planned") &&
    holds("WeightsReady") &&
    holds("Ready") &&
    ranks.every(({ phase }) => phase === "Ready") &&
    placement.assignments.every(({ node }) => offered.has(node)) // else the brake counts with the time
  );
}

const isStill = ({ outgoing, unproven, draining, isProgress, status }: NonNullable<Plan["rolled"]>): boolean =>
  outgoing.length === 0 && unproven.length === 0 && draining.length === 0 && !isProgress && status === undefined;
