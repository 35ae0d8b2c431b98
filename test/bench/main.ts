/**
 * `npm run bench -- NAME [--save]`: each bench prints what it finds, and one JSON line last. `--save` keeps the line in
 * docs/benches/ under the result's own name and makes the tables of docs/benches.md anew; `npm run bench -- tables` does only that, and
 * `npm run bench -- all` runs those that have requirements, one after the other. `npm run bench -- plan --case FILE.json`
 * answers one planning problem and prints nothing else.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { present } from "../../core/assert.ts";
import { type BenchResult, markdownOf } from "./figures.ts";
import { DOCS, writeTables } from "./tables.ts";

/** Undefined where nothing was to be measured: somebody asked for help, or for what is no option. */
type Bench = { readonly run: (args: readonly string[]) => Promise<BenchResult | undefined> };

const BENCHES: Readonly<Record<string, () => Promise<Bench>>> = {
  decode: () => import("./decode.ts"),
  prefill: () => import("./prefill.ts"),
  batch: () => import("./batch.ts"),
  load: () => import("./load.ts"),
  pack: () => import("./pack.ts"),
  chain: () => import("./chain.ts"),
  plan: () => import("./plan.ts"),
  honest: () => import("./honest.ts"),
  judge: () => import("./judge.ts"),
  operator: () => import("./operator.ts"),
};

/** Those beside a requirement. */
const ALL = ["decode", "prefill", "batch", "load", "pack"];

const [name = "", ...args] = process.argv.slice(2);
if (name === "tables") console.log(await writeTables());
else if (name === "plan" && args.includes("--case")) {
  const { answerCase } = await import("./plan.ts");
  console.log(await answerCase(args));
} else if (name === "all") for (const each of ALL) await runOne(each);
else if (Object.hasOwn(BENCHES, name)) await runOne(name);
else {
  console.error(
    `usage: npm run bench -- ${Object.keys(BENCHES).join(" | ")} | all [--save]\n       npm run bench -- tables`,
  );
  process.exitCode = 2;
}

async function runOne(bench: string): Promise<void> {
  const start = performance.now();
  const { run } = await present(BENCHES[bench], "a bench of the table")();
  const result = await run(args);
  if (result === undefined) return;
  console.log(`\n${markdownOf(result)}\n`);
  if (args.includes("--save")) {
    await mkdir(DOCS, { recursive: true });
    await writeFile(join(DOCS, `${result.bench}.json`), `${JSON.stringify(result)}\n`);
    await writeTables();
  }
  console.error(`${bench} took ${Math.round((performance.now() - start) / 1000)} s`);
  console.log(JSON.stringify(result));
}
