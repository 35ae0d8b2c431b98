/**
 * How far a rank is in reading its part of the model, and how it tells: as headers beside the sentence of its /readyz, so
 * that people keep their sentence and programs need not take it apart.
 */

export type ReadProgress = {
  readonly doneBytes: number; // at least 0, at most totalBytes
  readonly totalBytes: number;
  readonly secondsLeft?: number; // whole seconds; absent: not known yet
};

const HEADERS = {
  doneBytes: "tessellate-done-bytes",
  totalBytes: "tessellate-total-bytes",
  secondsLeft: "tessellate-seconds-left",
} as const;

export const progressHeaders = ({ doneBytes, totalBytes, secondsLeft }: ReadProgress): Record<string, string> => ({
  [HEADERS.doneBytes]: String(doneBytes),
  [HEADERS.totalBytes]: String(totalBytes),
  ...(secondsLeft === undefined ? {} : { [HEADERS.secondsLeft]: String(secondsLeft) }),
});

/**
 * The progress in an answer's headers; undefined where it has none, or none that can be. Attacker: a rank runs on
 * somebody else's machine, and what it says is shown to people.
 */
export function parseProgress(header: (name: string) => string | null): ReadProgress | undefined {
  const count = (name: string): number | undefined => {
    const text = header(name) ?? "";
    return /^\d{1,15}$/.test(text) ? Number(text) : undefined;
  };
  const [doneBytes, totalBytes] = [count(HEADERS.doneBytes), count(HEADERS.totalBytes)];
  if (doneBytes === undefined || totalBytes === undefined || doneBytes > totalBytes) return undefined;
  const secondsLeft = count(HEADERS.secondsLeft);
  return { doneBytes, totalBytes, ...(secondsLeft === undefined ? {} : { secondsLeft }) };
}

/** Of several that read beside each other: bytes add up, the slowest says how long. Undefined for none. */
export function progressTogether(all: readonly ReadProgress[]): ReadProgress | undefined {
  if (all.length === 0) return undefined;
  const lefts = all.flatMap(({ secondsLeft }) => secondsLeft ?? []);
  return {
    doneBytes: all.reduce((sum, { doneBytes }) => sum + doneBytes, 0),
    totalBytes: all.reduce((sum, { totalBytes }) => sum + totalBytes, 0),
    ...(lefts.length < all.length ? {} : { secondsLeft: Math.max(...lefts) }),
  };
}
