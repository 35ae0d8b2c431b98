/**
 * The fast loop, under a minute: types, lint, import rules, house rules, generated code, unit tests other than the
 * `*.slow.test.ts`, which run in `npm test`. All of it runs even when one part fails, so that one run shows everything.
 */
import { existsSync } from "node:fs";
import { type Step, report, runStep } from "./run.ts";

const FOLDERS = ["core", "operator", "shard-runtime", "gateway", "ledger", "cli", "test", "tools"].filter((folder) =>
  existsSync(folder),
);

const UNIT_TESTS: Step = {
  name: "unit tests",
  command: ["mocha", "--config", ".mocharc.unit.json", "--parallel", "--jobs", "2", "--ignore", "**/*.slow.test.ts"],
};

const STEPS: readonly Step[] = [
  {
    name: "types (tsc)",
    command: ["tsc", "--noEmit", "--incremental", "--tsBuildInfoFile", "node_modules/.cache/tsc.json"],
  },
  { name: "lint and format (biome)", command: ["biome", "check", "--error-on-warnings", "--max-diagnostics=50", "."] },
  {
    name: "import rules (dependency-cruiser)",
    command: ["depcruise", "--config", ".dependency-cruiser.mjs", ...FOLDERS],
  },
  { name: "house rules (tidy)", command: ["node", "tools/tidy.ts"] },
  { name: "generated code equals crds/ and proto/", command: ["node", "tools/generate.ts", "--check"] },
  UNIT_TESTS,
];

const steps = process.argv.includes("--no-tests") ? STEPS.slice(0, -1) : STEPS;
const startedAt = performance.now();
// The tests beside the rest: two cores, and neither waits for the other.
const halves = [steps.filter((step) => step !== UNIT_TESTS), steps.filter((step) => step === UNIT_TESTS)];
const failedCounts = await Promise.all(halves.map(runInTurn));
const failedCount = failedCounts.reduce((sum, count) => sum + count, 0);
const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
console.log(
  failedCount === 0
    ? `check: all ${steps.length} parts pass in ${seconds} s`
    : `check: ${failedCount} of ${steps.length} parts failed (${seconds} s)`,
);
process.exitCode = failedCount === 0 ? 0 : 1;

/** How many of the steps failed. */
async function runInTurn(turn: readonly Step[]): Promise<number> {
  let failed = 0;
  for (const step of turn) {
    const outcome = await runStep(step);
    report(outcome);
    if (outcome.code !== 0) failed += 1;
  }
  return failed;
}
