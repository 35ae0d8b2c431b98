/** `npm run bench -- NAME`: each bench prints what it finds, and one JSON line `{"bench":NAME,…}` last. */
import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { join } from "node:path";

const HERE = fileURLToPath(new URL("./", import.meta.url));
const NAMES = readdirSync(HERE)
  .filter((file) => file.endsWith(".ts") && file !== "main.ts" && !file.includes("-"))
  .map((file) => file.slice(0, -".ts".length));

const [name, ...rest] = process.argv.slice(2);
const file = join(HERE, `${name}.ts`);
if (name === undefined || !NAMES.includes(name) || !existsSync(file)) {
  console.error(`usage: npm run bench -- ${NAMES.join(" | ")} [arguments]`);
  process.exit(2);
}
const bench: { readonly run: (args: readonly string[]) => Promise<object> } = await import(file);
const figures = await bench.run(rest);
console.log(JSON.stringify({ bench: name, ...figures }));
