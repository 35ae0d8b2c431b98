/** What somebody reads who is asked to approve a plan, and what they type to do so. */
import type { ModelSpec, Placement } from "../types.ts";
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

/** What would move if the proposal were approved, what it promises, and how to approve it; at most 1,000 characters. */
export function proposalWords(
  model: ModelSpec,
  inForce: Placement | undefined,
  proposal: { readonly placement: Placement; readonly approval: string },
): string {
  const wanted = proposal.placement.assignments;
  const moves = movesBetween({ model, held: inForce?.assignments ?? [] }, { model, wanted });
  const command = approvalCommand(model, proposal.approval);
  const text = `${estimatePieces(proposal.placement).join("; ")}; ${movesText(moves, wanted.length)}`;
  return `waits for approval: ${shortened(text, LENGTH_MAX - command.length - 40)}; approve with: ${command}`;
}
