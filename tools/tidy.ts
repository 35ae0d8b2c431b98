/**
 * The house rules that no linter knows, as a check: pure folders stay pure, files stay small, words stay one per idea,
 * and nothing that must not be in the tree gets in. `node tools/tidy.ts` prints one line per breach and exits 1.
 */
import { execFileSync } from "node:child_process";
import { readFileSync, statSync } from "node:fs";

type Breach = { readonly file: string; readonly line: number; readonly rule: string };

const LINE_LENGTH_LIMIT = 160;
const FILE_LENGTH_LIMIT = 420;
const FILE_BYTES_LIMIT = 600_000;

/** Files that may be large: weights and goldens that an issue asked for, locks, generated code. */
const MAY_BE_LARGE =
  /^(models\/demo\/|test\/golden\/|package-lock\.json$|tools\/kube\/.*go\.sum$|docs\/.*\.(png|svg)$)/;

const MACHINE_PATH = /\/(work|root|Users|home\/[a-z]+)\/(?!\.\.\.)[A-Za-z.]/;

const PURE = /^(core\/(?!wire\/|gen\/)|operator\/plan\/|shard-runtime\/schedule\/|gateway\/route\/|ledger\/rules\/)/;
/** Hashing and signature checks are arithmetic; these files may use node:crypto and nothing else of Node. */
const MAY_HASH =
  /^core\/(digest|merkle|dsse|keys|statement|hand-off|answer|manifest|sampler|canonical-json|answer-[a-z-]+)\.ts$/;
const WEATHER: readonly (readonly [RegExp, string])[] = [
  [/\bawait\b/, "await"],
  [/\bDate\b/, "a clock"],
  [/\bperformance\b/, "a clock"],
  [/\bMath\.random\b/, "randomness"],
  [/\bprocess\./, "the environment"],
  [/\bfetch\(/, "the network"],
  [/\bset(Timeout|Interval|Immediate)\b/, "a timer"],
  [/\bconsole\./, "a logger"],
];

const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], { encoding: "utf8" })
  .split("\n")
  .filter((file) => file !== "");

const breaches = files
  .filter((file) => statSync(file, { throwIfNoEntry: false })?.isFile() === true)
  .flatMap(breachesOf);
for (const { file, line, rule } of breaches) console.log(`${file}:${line}: ${rule}`);
console.log(
  breaches.length === 0 ? `tidy: ${files.length} files keep the house rules` : `tidy: ${breaches.length} breaches`,
);
process.exitCode = breaches.length === 0 ? 0 : 1;

function breachesOf(file: string): readonly Breach[] {
  const found: Breach[] = [];
  const breach = (line: number, rule: string) => found.push({ file, line, rule });
  if (!MAY_BE_LARGE.test(file) && statSync(file).size > FILE_BYTES_LIMIT)
    breach(1, `larger than ${FILE_BYTES_LIMIT} bytes`);
  if (!/\.(ts|mjs|md|ya?ml|py|json|proto|txt|sh)$/.test(file) || MAY_BE_LARGE.test(file)) return found;
  readFileSync(file, "utf8")
    .split("\n")
    .forEach((text, index) => {
      if (MACHINE_PATH.test(text)) breach(index + 1, "a path of somebody's machine");
    });
  if (!/\.(ts|mjs)$/.test(file) || file.startsWith("core/gen/")) return found;
  const lines = readFileSync(file, "utf8").split("\n");
  if (lines.length > FILE_LENGTH_LIMIT)
    breach(lines.length, `longer than ${FILE_LENGTH_LIMIT} lines: split it by idea`);
  lines.forEach((text, index) => {
    const line = index + 1;
    if (text.length > LINE_LENGTH_LIMIT) breach(line, `longer than ${LINE_LENGTH_LIMIT} characters`);
    if (/\b(it|describe)\.only\(/.test(text)) breach(line, "a test that shuts out the others");
    if (/\.skip\(/.test(text) && /^(?!test\/requirement\.ts$).*\.test\.ts$/.test(file))
      breach(line, "a test passed over without a word: requireOrSkip of test/requirement.ts says why, and fails in CI");
    if (/\bthis\.bail\(/.test(text)) breach(line, "mocha's bail looks at the whole run: inSteps of test/in-steps.ts");
    if (/\b(TO)DO\b(?!\(#\d+\))/.test(text)) breach(line, "a to-do without its issue's number");
    if (file.endsWith(".ts") && /^export default\b/.test(text)) breach(line, "default export");
  });
  if (PURE.test(file) && !file.endsWith(".test.ts")) found.push(...impurities(file, lines));
  return found;
}

function impurities(file: string, lines: readonly string[]): readonly Breach[] {
  return lines.flatMap((text, index) => {
    const code = withoutProse(text);
    const line = index + 1;
    const found: Breach[] = WEATHER.filter(([pattern]) => pattern.test(code)).map(([, what]) => ({
      file,
      line,
      rule: `${what} in a pure folder`,
    }));
    if (/from "node:/.test(text) && !(MAY_HASH.test(file) && /from "node:(crypto|buffer)"/.test(text))) {
      found.push({ file, line, rule: "a node: import in a pure folder" });
    }
    return found;
  });
}

/** The line without comments and quoted text, so that prose may speak of clocks. */
function withoutProse(text: string): string {
  return text
    .replace(/^\s*(\/?\*|\/\/).*$/, "")
    .replace(/\/\/.*$/, "")
    .replace(/\/\*.*?\*\//g, "")
    .replace(/"(\\.|[^"\\])*"|'(\\.|[^'\\])*'|`(\\.|[^`\\])*`/g, '""');
}
