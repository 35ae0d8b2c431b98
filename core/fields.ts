/**
 * Reading documents that others wrote, strictly: every field is there, none is extra, each has its form. Inside
 * {@link strictly} the first field that does not fit ends the reading, and its path is in the refusal.
 */
import { type JsonObject, isJsonObject, shown } from "./json.ts";
import { type Refusal, RefusalError, type Result, ok, refuse } from "./result.ts";

class Misfit extends RefusalError {
  readonly refusal: Refusal;
  constructor(refusal: Refusal) {
    super(refusal);
    this.refusal = refusal;
  }
}

/** Runs `read`; a field that does not fit comes out as the refusal `MalformedField`, whose detail starts with its path. */
export function strictly<T>(read: () => T): Result<T> {
  try {
    return ok(read());
  } catch (error) {
    if (error instanceof Misfit) return error.refusal;
    throw error;
  }
}

/** Ends the reading: `path` does not fit because of `why`. Only inside {@link strictly}. */
export function misfit(path: string, why: string): never {
  throw new Misfit(refuse("MalformedField", `${path}: ${why}`));
}

/** Turns a refusal of another reader into this reading's own, with `path` in front where that reader did not name it. */
export function fits<T>(result: Result<T>, path?: string): T {
  if (result.ok) return result.value;
  throw new Misfit(refuse(result.code, path === undefined ? result.detail : `${path}: ${result.detail}`));
}

/** An object that has exactly the fields `names`. */
export function objectWith(value: unknown, path: string, names: readonly string[]): JsonObject {
  if (!isJsonObject(value)) misfit(path, `must be an object, not ${shown(value)}`);
  for (const name of names) if (!Object.hasOwn(value, name)) misfit(path, `lacks the field ${name}`);
  for (const name of Object.keys(value))
    if (!names.includes(name)) misfit(path, `has the unknown field ${shown(name)}`);
  return value;
}

export function listOf<T>(
  value: unknown,
  path: string,
  limit: number,
  read: (item: unknown, path: string) => T,
): readonly T[] {
  if (!Array.isArray(value)) misfit(path, `must be a list, not ${shown(value)}`);
  if (value.length > limit) misfit(path, `has ${value.length} items, more than the ${limit} allowed`);
  return value.map((item: unknown, index) => read(item, `${path}[${index}]`));
}

export function textOf(value: unknown, path: string, form?: { readonly pattern: RegExp; readonly is: string }): string {
  if (typeof value !== "string") misfit(path, `must be a text, not ${shown(value)}`);
  if (form !== undefined && !form.pattern.test(value)) misfit(path, `must be ${form.is}, not ${shown(value)}`);
  return value;
}

export function exactly(value: unknown, path: string, wanted: string): void {
  if (value !== wanted) misfit(path, `must be ${JSON.stringify(wanted)}, not ${shown(value)}`);
}

export function integerOf(value: unknown, path: string, least: number, most: number): number {
  if (typeof value !== "number" || !Number.isInteger(value)) misfit(path, `must be an integer, not ${shown(value)}`);
  if (value < least || value > most) misfit(path, `must be within ${least}..${most}, not ${value}`);
  return value;
}

export function numberOf(value: unknown, path: string, least: number, most: number): number {
  if (typeof value !== "number" || !(value >= least && value <= most))
    misfit(path, `must be a number within ${least}..${most}, not ${shown(value)}`);
  return value;
}

/** An integer in decimal, as text, because JSON's numbers lose digits past 2^53. */
export function bigintOf(value: unknown, path: string, most: bigint): bigint {
  const found = BigInt(textOf(value, path, { pattern: /^(0|[1-9][0-9]{0,30})$/, is: "an integer in decimal" }));
  if (found > most) misfit(path, `must be at most ${most}, not ${found}`);
  return found;
}

export const DIGEST_FORM = {
  pattern: /^sha256:[0-9a-f]{64}$/,
  is: "sha256: and 64 lower-case hexadecimal digits",
} as const;
export const HEX_32_FORM = { pattern: /^[0-9a-f]{64}$/, is: "32 bytes in lower-case hexadecimal" } as const;
/** Names of providers, nodes, ranks, gateways: as Kubernetes writes them, with `/` between namespace and name. */
export const NAME_FORM = {
  pattern: /^(?=.{1,253}$)[a-z0-9]([-a-z0-9./]*[a-z0-9])?$/,
  is: "a name of lower-case letters, digits, '-', '.' and '/'",
} as const;
