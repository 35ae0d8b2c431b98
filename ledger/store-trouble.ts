import { setTimeout as after } from "node:timers/promises";

const TIMEOUT_MS = 2_000;

/** Why the store cannot do its work now, in a line, or undefined where it can; says so within two seconds. */
export async function storeTrouble(ping: () => Promise<void>): Promise<string | undefined> {
  const over = new AbortController();
  const late = after(TIMEOUT_MS, "the store is slow", { signal: over.signal }).catch(() => undefined);
  const pinged = ping().then(
    () => undefined,
    () => "the store is out of reach",
  );
  const trouble = await Promise.race([pinged, late]);
  over.abort();
  return trouble;
}
