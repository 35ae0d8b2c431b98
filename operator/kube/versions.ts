/**
 * Resource versions, compared. Since Kubernetes 1.35 they are decimal numbers that grow with every write and may be
 * compared as such within one resource (KEP-5504). Where a server hands out anything else, nothing is called older.
 */
const DECIMAL = /^[1-9]\d*$/;

/** Whether `a` is surely older than `b`; false where the two cannot be compared. */
export function isOlder(a: string | undefined, b: string | undefined): boolean {
  if (a === undefined || b === undefined || !DECIMAL.test(a) || !DECIMAL.test(b)) return false;
  return a.length === b.length ? a < b : a.length < b.length; // beyond 2^53 no number would do
}
