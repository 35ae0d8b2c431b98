/** What a bench finds: each requirement's figure beside its limit. Pure. */

export type Requirement = {
  readonly name: string;
  readonly figure: number;
  readonly unit: string;
  readonly must: "be at least" | "be at most";
  readonly limit: number;
  readonly ratio: number; // figure / limit
  readonly met: boolean;
};

/** Figures to four significant digits: no bench here is better than that. */
export const rounded = (value: number): number => Number(value.toPrecision(4));

function requirement(
  name: string,
  figure: number,
  must: Requirement["must"],
  limit: number,
  unit: string,
): Requirement {
  const met = must === "be at least" ? figure >= limit : figure <= limit;
  return { name, figure: rounded(figure), unit, must, limit: rounded(limit), ratio: rounded(figure / limit), met };
}

export const atLeast = (name: string, figure: number, limit: number, unit: string): Requirement =>
  requirement(name, figure, "be at least", limit, unit);

export const atMost = (name: string, figure: number, limit: number, unit: string): Requirement =>
  requirement(name, figure, "be at most", limit, unit);

/** The value below which `share` of the values lie; 0 of none. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
}

export const median = (values: readonly number[]): number => percentile(values, 0.5);
export const fastest = (values: readonly number[]): number => Math.min(...values);

/** A figure of a table, with the fastest in brackets. */
export const medianAndFastest = (values: readonly number[]): string =>
  `${rounded(median(values))} (${rounded(fastest(values))})`;

/** What one run of a bench leaves: its last line, and what docs/benches.md is made of. */
export type BenchResult = {
  readonly bench: string;
  readonly machine: string;
  readonly loadBefore: number; // processes that wanted to run, in the minute before
  readonly requirements: readonly Requirement[];
  readonly table: readonly (readonly string[])[]; // the first row is the head
  readonly notes: readonly string[];
};

const row = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;

/** As a Markdown table. */
export function markdownTable([head = [], ...rest]: readonly (readonly string[])[]): string {
  return [row(head), row(head.map(() => "---")), ...rest.map(row)].join("\n");
}

/** A result as the part of docs/benches.md that speaks of it. */
export function markdownOf(result: BenchResult): string {
  const requirements = result.requirements.map(({ name, figure, unit, must, limit, ratio, met }) => [
    name,
    `${figure} ${unit}`.trim(),
    `${must.replace("be ", "")} ${limit} ${unit}`.trim(),
    limit === 0 ? "" : String(ratio),
    met ? "yes" : "**no**",
  ]);
  const head = ["requirement", "figure", "limit", "figure / limit", "met"];
  return [
    ...(requirements.length === 0 ? [] : [markdownTable([head, ...requirements]), ""]),
    markdownTable(result.table),
    "",
    `${result.machine}; load ${result.loadBefore} before the run. ${result.notes.join(" ")}`.trim(),
  ].join("\n");
}
