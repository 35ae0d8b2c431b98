/** Numbers that look random and follow from a text alone: the same world gives the same plan, and the same simulation. */

export type Seeded = {
  readonly below: (count: number) => number; // whole, in [0, count)
  readonly unit: () => number; // in [0, 1)
};

/** FNV-1a of the text, then mulberry32: 32 bits of state, enough for choosing moves and drawing arrivals. */
export function seededBy(text: string): Seeded {
  let state = 2166136261;
  for (let index = 0; index < text.length; index += 1) state = Math.imul(state ^ text.charCodeAt(index), 16777619);
  const unit = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
  return { unit, below: (count) => Math.floor(unit() * count) };
}
