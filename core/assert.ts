/** A broken promise inside our own code. Never thrown because of input, providers or the cluster. */
export class Bug extends Error {
  override name = "Bug";
}

/** Throws {@link Bug} unless `condition` holds. `promise` says in words what our code promised. */
export function assert(condition: boolean, promise: string): asserts condition {
  if (!condition) throw new Bug(promise);
}

/** The compiler proves this is unreachable; the crash proves it at run time. */
export function never(value: never): never {
  throw new Bug(`unhandled case ${JSON.stringify(value)}`);
}

/** `value`, which our own code promises to be there. Throws {@link Bug} with `promise` where it is not. */
export function present<T>(value: T | undefined | null, promise: string): T {
  if (value === undefined || value === null) throw new Bug(promise);
  return value;
}
