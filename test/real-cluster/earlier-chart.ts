/** The chart as an earlier release would have it: another version, and a definition that an upgrade has to reach. */
import { cpSync, globSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Stands where the description of a definition was; gone after the upgrade. */
export const EARLIER_WORDS = "As it was said in an earlier release.";

/** Writes it into `folder`, which must not be there yet. */
export function writeEarlierChart(chart: string, folder: string): void {
  cpSync(chart, folder, { recursive: true });
  change(join(folder, "Chart.yaml"), /^version: .*$/m, "version: 0.0.9");
  const [definition] = globSync(join(folder, "*/shardedmodels.yaml"));
  if (definition === undefined) throw new Error(`${chart} has no definition of ShardedModels`);
  change(definition, /description: ShardedModel\.$/m, `description: ${EARLIER_WORDS}`);
}

function change(file: string, pattern: RegExp, replacement: string): void {
  const before = readFileSync(file, "utf8");
  const after = before.replace(pattern, replacement);
  if (after === before) throw new Error(`${file} has nothing like ${pattern}`);
  writeFileSync(file, after);
}
