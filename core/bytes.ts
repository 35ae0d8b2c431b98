/** Index of the first byte in which the two differ; the shorter one's length where one begins the other; -1 if equal. */
export function firstDifference(left: Uint8Array, right: Uint8Array): number {
  const shorter = Math.min(left.length, right.length);
  for (let index = 0; index < shorter; index += 1) if (left[index] !== right[index]) return index;
  return left.length === right.length ? -1 : shorter;
}
