/** Figures as people read them: three digits or so, units attached. */

/** `4.1 ms`, `43 ms`, `1.2 s`, `320 µs`. */
export function formatMillis(milliseconds: number): string {
  if (milliseconds >= 10_000) return `${Math.round(milliseconds / 1000)} s`;
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(1)} s`;
  if (milliseconds >= 10) return `${Math.round(milliseconds)} ms`;
  if (milliseconds >= 0.1) return `${milliseconds.toFixed(1)} ms`;
  return `${Math.round(milliseconds * 1000)} µs`;
}

/** `61.3`, `613`, `0.42`: a rate without its unit. */
export function formatRate(rate: number): string {
  if (rate >= 100) return String(Math.round(rate));
  return rate >= 10 ? rate.toFixed(1) : rate.toFixed(2);
}

/** Micro-credits as credits, to three digits or so: `0.42`, `12.5`; never an amount that somebody is to pay. */
export function formatPrice(microCredits: bigint | number): string {
  const credits = Number(microCredits) / 1e6;
  if (credits === 0) return "0";
  if (credits >= 100) return String(Math.round(credits));
  return credits >= 1 ? credits.toFixed(2) : credits.toPrecision(2);
}

/** `+12 %`, `−4 %`, `±0 %`. */
export function formatChange(before: number, after: number): string {
  if (before === 0) return after === 0 ? "±0 %" : "new";
  const percent = Math.round((100 * (after - before)) / before);
  return percent === 0 ? "±0 %" : `${percent > 0 ? "+" : "−"}${Math.abs(percent)} %`;
}

/** `1 chain`, `2 chains`. */
export const countOf = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`;

/** `a`, `a and b`, `a, b and c`. */
export const listOf = (names: readonly string[], joint = "and"): string =>
  names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} ${joint} ${names.at(-1)}`;
