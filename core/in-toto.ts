/** in-toto Statements v1 with predicates of our own: how they are framed, and that each has one byte form. */
import { firstDifference } from "./bytes.ts";
import { compactJson, parseJsonBytes } from "./canonical-json.ts";
import { exactly, objectWith, strictly } from "./fields.ts";
import { isJsonObject } from "./json.ts";
import { type Result, refuse } from "./result.ts";

const STATEMENT_TYPE = "https://in-toto.io/Statement/v1";

/** Compact JSON of a statement about one subject; `subject.digest` is `sha256:…`. */
export function statementBytes(
  subject: { readonly name: string; readonly digest: string },
  predicateType: string,
  predicate: object,
): Uint8Array {
  const sha256 = subject.digest.slice("sha256:".length);
  return compactJson({
    _type: STATEMENT_TYPE,
    subject: [{ name: subject.name, digest: { sha256 } }],
    predicateType,
    predicate,
  });
}

/**
 * The value that `read` finds in the predicate of a payload. Refused as `NotJson`, `NotUtf8`, `WrongPredicate`,
 * `MalformedField` or, where the bytes are not those that `write` would write, `NotCanonical`. Parse only what a signature
 * was found to hold for.
 */
export function parseStatement<T>(
  payload: Uint8Array,
  type: string,
  read: (predicate: unknown) => T,
  write: (value: T) => Uint8Array,
): Result<T> {
  const json = parseJsonBytes(payload);
  if (!json.ok) return refuse(json.code, `statement: ${json.detail}`);
  const found = isJsonObject(json.value) ? json.value["predicateType"] : undefined;
  if (found !== type)
    return refuse(
      "WrongPredicate",
      `predicateType must be ${type}, not ${JSON.stringify(found)?.slice(0, 120) ?? "missing"}`,
    );
  const value = strictly(() => {
    const statement = objectWith(json.value, "statement", ["_type", "subject", "predicateType", "predicate"]);
    exactly(statement["_type"], "_type", STATEMENT_TYPE);
    return read(statement["predicate"]);
  });
  if (!value.ok) return value;
  // Also holds the subject to what the predicate says, since the subject is written from it.
  const at = firstDifference(payload, write(value.value));
  if (at >= 0) return refuse("NotCanonical", `statement: byte ${at} is not as the one form of this statement has it`);
  return value;
}
