/** A refusal we expect: it has a code a machine can branch on and a detail a person can read. */
export type Refusal<Code extends string = string> = {
  readonly ok: false;
  readonly code: Code;
  readonly detail: string;
};
export type Result<T, Code extends string = string> = { readonly ok: true; readonly value: T } | Refusal<Code>;

export const ok = <T>(value: T) => ({ ok: true, value }) as const;
export const refuse = <const Code extends string>(code: Code, detail: string) => ({ ok: false, code, detail }) as const;

/**
 * A refusal on its way through code that can only throw (streams, callbacks). Caught at the nearest door and shown to
 * the caller with its code; never a stack trace.
 */
export class RefusalError extends Error {
  override name = "RefusalError";
  readonly code: string;
  constructor(refusal: Refusal) {
    super(refusal.detail);
    this.code = refusal.code;
  }
}

/** The value of a result, or its refusal thrown as a {@link RefusalError}. */
export function valueOrThrow<T>(result: Result<T>): T {
  if (!result.ok) throw new RefusalError(result);
  return result.value;
}
