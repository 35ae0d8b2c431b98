/**
 * `npm run bench -- NAME [--save]`: each bench prints what it finds, and one JSON line last. `--save` keeps the line in
 * docs/benches/NAME.json and makes the tables of docs/benches.md anew; `npm run bench -- tables` does only that.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type BenchResult, markdownOf } from "./figures.ts";
import { DOCS, writeTables } from "./tables.ts";

type Bench = { readonly run: (args: readonly string[]) => Promise<BenchResult> };

const BENCHES: Readonly<Record<string, () => Promise<Bench>>> = {
  decode: () => import("./decode.ts"),
  prefill: () => import("./prefill.ts"),
  batch: () => import("./batch.ts"),
  load: () => import("./load.ts"),
  pack: () => import("./pack.ts"),
  chain: () => import("./chain.ts"),
};

const [name = "", ...args] = process.argv.slice(2);
const bench = Object.hasOwn(BENCHES, name) ? BENCHES[name] : undefined;
if (name === "tables") console.log(await writeTables());
else if (bench === undefined) {
  console.error(`usage: npm run bench -- ${Object.keys(BENCHES).join(" | ")} [--save]\n       npm run bench -- tables`);
  process.exitCode = 2;
} else {
  const result = await (await bench()).run(args);
  console.log(`\n${markdownOf(result)}\n`);
  const line = JSON.stringify(result);
  if (args.includes("--save")) {
    await mkdir(DOCS, { recursive: true });
    await writeFile(join(DOCS, `${name}.json`), `${line}\n`);
    await writeTables();
  }
  console.log(line);
}
