/**
 * `npm test`: sets up, runs every tier, prints `N passed, N failed` alone on the last line. A test that
 * cannot run here is shown with its reason (test/requirement.ts), and in CI it counts as failed; one that was never tried,
 * as behind a hook that failed, counts as failed everywhere. `npm test -- e2e` runs only the tiers named.
 */
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Step, report, runStep } from "./run.ts";
import { setUpKubernetes, setUpOperators, setUpPackages } from "./setup.ts";
import { setUpSwiftShader } from "./swiftshader.ts";

/** What a tier came to. `failures` are those with something to say; a tier that died counts as failed without a title. */
type Tally = {
  readonly passed: number;
  readonly failed: number;
  readonly pending: number;
  readonly untried: number;
  readonly failures: readonly { readonly title: string; readonly reason: string }[];
};
const NOTHING: Tally = { passed: 0, failed: 0, pending: 0, untried: 0, failures: [] };
const failure = (title: string, reason: string): Tally => ({ ...NOTHING, failed: 1, failures: [{ title, reason }] });
type Tier = { readonly name: string; readonly files: readonly string[]; readonly timeoutSeconds: number };

const tests = (...patterns: readonly string[]) => globSync([...patterns]).sort();
/** The unit tests are those of the fast loop, and the slow ones that it leaves out. */
const { spec: unitTests }: { spec: readonly string[] } = JSON.parse(readFileSync(".mocharc.unit.json", "utf8"));

const TIERS: readonly Tier[] = [
  { name: "unit", files: tests(...unitTests), timeoutSeconds: 120 },
  { name: "golden", files: tests("test/golden/*.test.ts"), timeoutSeconds: 600 },
  { name: "process", files: tests("test/*.test.ts"), timeoutSeconds: 300 },
  { name: "cluster", files: tests("test/{cluster,contract}/*.test.ts"), timeoutSeconds: 600 },
  { name: "chart", files: tests("test/chart/*.test.ts"), timeoutSeconds: 600 },
  { name: "e2e", files: tests("test/e2e/*.test.ts"), timeoutSeconds: 1200 },
  { name: "nodes", files: tests("test/real-cluster/*.test.ts"), timeoutSeconds: 1200 },
];

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => name !== "check" && !TIERS.some((tier) => tier.name === name));
if (unknown.length > 0) {
  console.error(`no tier ${unknown.join(", ")}: choose from check, ${TIERS.map(({ name }) => name).join(", ")}`);
  process.exit(2);
}
const chosen = (name: string) => wanted.length === 0 || wanted.includes(name);

const scratch = mkdtempSync(join(tmpdir(), "tessellate-test-"));
const tallies: Tally[] = [];
try {
  if (chosen("golden")) await setUpSwiftShader();
  if (TIERS.some(({ name }) => chosen(name))) {
    await setUpPackages();
    await setUpOperators();
  }
  if (["cluster", "chart", "e2e", "nodes"].some(chosen)) await setUpKubernetes({ nodes: chosen("nodes") });
  if (chosen("check")) tallies.push(...(await check()));
  for (const tier of TIERS.filter(({ name }) => chosen(name))) tallies.push(await run(tier));
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
const sum = (pick: (tally: Tally) => number) => tallies.reduce((total, tally) => total + pick(tally), 0);
const pending = sum((tally) => tally.pending);
const untried = sum((tally) => tally.untried);
const failed = sum((tally) => tally.failed) + untried + (process.env["CI"] === undefined ? 0 : pending);
for (const { title, reason } of tallies.flatMap(({ failures }) => failures)) {
  console.log(`\n✘ ${title}\n${reason.replace(/^/gm, "    ")}`);
}
if (untried > 0) console.log(`${untried} were never tried: what stood before them failed`);
if (pending > 0) console.log(`${pending} did not run; their reasons are above`);
process.exitCode = failed === 0 ? 0 : 1;
console.log(`${sum((tally) => tally.passed)} passed, ${failed} failed`);

/** The parts of the fast loop other than its tests, each counted as one. */
async function check(): Promise<readonly Tally[]> {
  const step: Step = {
    name: "types, lint, import rules, house rules, generated code",
    command: ["node", "tools/check.ts", "--no-tests"],
  };
  const outcome = await runStep(step, true);
  report(outcome, true);
  return [outcome.code === 0 ? { ...NOTHING, passed: 1 } : failure("check", "its output is above: npm run check")];
}

async function run(tier: Tier): Promise<Tally> {
  if (tier.files.length === 0) return NOTHING;
  console.log(`\n── ${tier.name}: ${tier.files.length} files ──`);
  const tallyFile = join(scratch, `${tier.name}.json`);
  const outcome = await runStep(
    {
      name: tier.name,
      command: [
        "mocha",
        "--exit",
        "--forbid-only",
        "--reporter",
        "tools/tally-reporter.cjs",
        "--timeout",
        String(tier.timeoutSeconds * 1000),
        ...tier.files,
      ],
      env: { TALLY_FILE: tallyFile, ...(process.stdout.isTTY ? { FORCE_COLOR: "1" } : { NO_COLOR: "1" }) },
    },
    true,
  );
  report(outcome, true);
  const died = failure(
    tier.name,
    `mocha ended with code ${outcome.code}; its output is above: npm test -- ${tier.name}`,
  );
  if (!existsSync(tallyFile)) return died;
  const tally: Tally = JSON.parse(readFileSync(tallyFile, "utf8"));
  return outcome.code !== 0 && tally.failed === 0 ? { ...died, ...tally, failed: 1, failures: died.failures } : tally;
}
