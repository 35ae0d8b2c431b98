/** Whether a step may run now. Cheapest question first; a refusal leaves the session as it was. */
import type { Step__Output } from "../../core/gen/proto/tessellate/shard/v1/Step.ts";
import { type Identity, identityUri } from "../../core/identity.ts";
import { type Result, ok, refuse } from "../../core/result.ts";
import { type PayloadForm, parsePayload } from "./payload.ts";
import type { RankFacts } from "./rank-facts.ts";
import type { Session } from "./session.ts";

export type StepCode =
  | "UnknownSession"
  | "ForeignSession"
  | "BadPayload"
  | "OutOfOrder"
  | "ConflictingStep"
  | "TooLong";

/** A step to run, or one that was run (or waits) already. */
export type CheckedStep =
  | {
      readonly repeated: false;
      readonly session: Session;
      readonly values: Uint32Array | Float32Array;
      readonly data: Uint8Array;
      readonly rows: number;
    }
  | { readonly repeated: true; readonly session: Session };

export function checkStep(
  step: Step__Output,
  session: Session | undefined,
  caller: Identity,
  facts: RankFacts,
): Result<CheckedStep, StepCode> {
  if (session === undefined)
    return refuse("UnknownSession", "the session is not open here; it was closed, expired, or never opened");
  const { plan } = session;
  const handsIn =
    plan.previous === undefined
      ? identityUri(caller) === plan.opener
      : caller.kind === "rank" && caller.name === plan.previous;
  // Attacker: a neighbour that guesses a session's id would write into somebody else's KV cache.
  if (!handsIn) return refuse("ForeignSession", `${identityUri(caller)} is not who hands in the steps of this session`);
  const { payload, position } = step;
  const rows = payload?.rows ?? 0;
  if (position < session.acceptedEnd) return checkRepeated(step, session);
  if (position > session.acceptedEnd)
    return refuse("OutOfOrder", `the step is at position ${position}, the session goes on at ${session.acceptedEnd}`);
  const values = parsePayload(payload, formOf(session, facts));
  if (!values.ok) return values;
  if (position + rows > plan.maxPositions)
    return refuse(
      "TooLong",
      `positions up to ${position + rows} were handed in, the session was opened for ${plan.maxPositions}`,
    );
  return ok({ repeated: false, session, values: values.value, data: payload?.data ?? new Uint8Array(0), rows });
}

function formOf({ plan }: Session, { engine }: RankFacts): PayloadForm {
  // Tokens are cut into batches here, so a prompt may come whole; hidden rows run as they come.
  if (plan.previous === undefined)
    return { dtype: "u32", vocabularySize: engine.vocabularySize, rowsMax: engine.contextLength };
  return { dtype: plan.handOffDtype, columns: engine.hiddenSize, rowsMax: engine.maxBatchRows };
}

/** Only the last step can be asked for again, and only as it was: what it was is hashed, and will be signed. */
function checkRepeated({ position, payload }: Step__Output, session: Session): Result<CheckedStep, StepCode> {
  const last = session.lastStep;
  if (last === undefined || position !== last.position || payload?.rows !== last.rows)
    return refuse("OutOfOrder", `the step is at position ${position}, the session goes on at ${session.acceptedEnd}`);
  if (Buffer.compare(payload.data, last.data) !== 0)
    return refuse("ConflictingStep", `the step at position ${position} differs from the one that came first`);
  return ok({ repeated: true, session });
}
