/** What somebody reads who is asked to approve a plan, and what they type to do so. */
import type { Assignment, ModelSpec, Placement } from "../types.ts";
import { estimatePieces } from "./headline.ts";
import { movesBetween, movesText } from "./moves.ts";
import { shortened } from "./text.ts";

const LENGTH_MAX = 1000;

/** `kubectl annotate …`: approves the proposal that is there when it runs; with `approval`, that very one. */
export function approvalCommand({ namespace, name }: Pick<ModelSpec, "namespace" | "name">, approval?: string): string {
  const proposal = `shardplan ${name}.proposed`;
  const value = approval ?? `"$(kubectl -n ${namespace} get ${proposal} -o jsonpath={.spec.approval})"`;
  return `kubectl -n ${namespace} annotate ${proposal} tessellate.dev/approved=${value} --overwrite`;
}

/** Why a plan was made, what it promises, what would move, and how to let it through; at most 1,000 characters. */
export function proposalWords(
  model: ModelSpec,
  held: readonly Assignment[],
  { placement, approval }: { readonly placement: Placement; readonly approval: string },
  why = "",
): string {
  const wanted = placement.assignments;
  const moves = movesBetween({ model, held }, { model, wanted });
  const how = `look at ShardPlan ${model.name}.proposed, then \`${approvalCommand(model, approval)}\``;
  const text = `${why}${estimatePieces(placement).join("; ")}; ${movesText(moves, wanted.length)}`;
  return `a plan waits for approval: ${shortened(text, LENGTH_MAX - how.length - 40)}; ${how}`;
}
