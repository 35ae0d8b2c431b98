/** docs/benches.md's tables, made from the lines that benches left in docs/benches/. */
import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type BenchResult, markdownOf } from "./figures.ts";

export const DOCS = fileURLToPath(new URL("../../docs/benches/", import.meta.url));
export const PAGE = fileURLToPath(new URL("../../docs/benches.md", import.meta.url));

/** `page` with what stands between the marks of each result's bench replaced. Throws where a bench has no marks. Pure. */
export function withTables(page: string, results: readonly BenchResult[]): string {
  return results.reduce((text, result) => {
    const [open, close] = [`<!-- bench ${result.bench} -->`, `<!-- end ${result.bench} -->`];
    const start = text.indexOf(open);
    const end = text.indexOf(close);
    if (start < 0 || end < start) throw new Error(`docs/benches.md lacks the lines ${open} and ${close}`);
    return `${text.slice(0, start + open.length)}\n\n${markdownOf(result)}\n\n${text.slice(end)}`;
  }, page);
}

/** The page as it should read; equal to the file where nothing is left to write. */
export async function pageWithTables(): Promise<string> {
  const names = (await readdir(DOCS)).filter((name) => name.endsWith(".json")).sort();
  const results: BenchResult[] = [];
  for (const name of names) results.push(JSON.parse(await readFile(join(DOCS, name), "utf8")));
  return withTables(await readFile(PAGE, "utf8"), results);
}

/** Says what it wrote. */
export async function writeTables(): Promise<string> {
  await writeFile(PAGE, await pageWithTables());
  return `made the tables of ${PAGE} from ${DOCS}`;
}
