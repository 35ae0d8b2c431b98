import { isJsonObject } from "../../core/json.ts";

/** Whether two JSON values are the same, whatever the order of their fields; a field that is undefined is absent. */
export function sameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((item, index) => sameJson(item, b[index]));
  }
  if (isJsonObject(a) && isJsonObject(b)) {
    for (const name of Object.keys(a)) if (!sameJson(a[name], b[name])) return false;
    for (const name of Object.keys(b)) if (b[name] !== undefined && a[name] === undefined) return false;
    return true;
  }
  return false;
}

/** Whether two lists hold the very same items: what comes as another object counts as changed. */
export const sameItems = (a: readonly unknown[], b: readonly unknown[]): boolean =>
  a.length === b.length && a.every((item, index) => item === b[index]);

/**
 * Whether two values of plain data are the same to the last field; one that is undefined is not absent. What is no plain
 * data, such as a Map, is the same as itself only.
 */
export function sameData(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a)) {
    return Array.isArray(b) && a.length === b.length && a.every((item, index) => sameData(item, b[index]));
  }
  if (!isPlainObject(a) || !isPlainObject(b)) return false;
  const names = Object.keys(a);
  if (names.length !== Object.keys(b).length) return false;
  return names.every((name) => Object.hasOwn(b, name) && sameData(a[name], b[name]));
}

function isPlainObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return isJsonObject(value) && Object.getPrototypeOf(value) === Object.prototype;
}
