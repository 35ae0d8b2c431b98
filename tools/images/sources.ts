/**
 * What a process is made of: the files of ours that its entry reaches, and the packages that these import. What is
 * imported for its types alone (`import type`) is not there at run time, and is left out.
 */
import { readFileSync, statSync } from "node:fs";
import { builtinModules } from "node:module";
import { dirname, join, normalize } from "node:path";

export type Sources = {
  readonly files: readonly string[]; // relative to the repository, sorted
  readonly packages: readonly string[]; // names as imported, sorted
};

/** What our sources say where they reach for another module; each has the specifier as its first group. */
const REACHES: readonly RegExp[] = [
  /^\s*(?:import|export)\b(?! type\b)[^;"'`]*?\bfrom\s*"([^"]+)"/gm,
  /^\s*import\s*"([^"]+)"/gm,
  /\bimport\(\s*"([^"]+)"\s*\)/g,
  /\bnew URL\(\s*"(\.[^"]*\.ts)",\s*import\.meta\.url\)/g,
  /\bcreateRequire\(import\.meta\.url\)\(\s*"([^"]+)"\s*\)/g,
];

/** Walks from `entries`, paths relative to `root`. Throws where a file that is imported is missing, naming both. */
export function sourcesOf(root: string, entries: readonly string[]): Sources {
  const files = new Set<string>();
  const packages = new Set<string>();
  const waiting = entries.map((file) => ({ file, from: "tools/images/contents.ts" }));
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const { file, from } = next;
    if (files.has(file)) continue;
    if (!statSync(join(root, file), { throwIfNoEntry: false })?.isFile())
      throw new Error(`${from} imports ${file}, which is not there`);
    files.add(file);
    for (const specifier of specifiersIn(readFileSync(join(root, file), "utf8"), file)) {
      if (specifier.startsWith(".")) waiting.push({ file: normalize(join(dirname(file), specifier)), from: file });
      else if (!isBuiltin(specifier)) packages.add(packageName(specifier));
    }
  }
  return { files: [...files].sort(), packages: [...packages].sort() };
}

function specifiersIn(text: string, file: string): readonly string[] {
  if (!/\.m?ts$|\.m?js$/.test(file)) return [];
  return REACHES.flatMap((pattern) => [...text.matchAll(pattern)].map(([, specifier = ""]) => specifier));
}

const isBuiltin = (specifier: string): boolean =>
  specifier.startsWith("node:") || builtinModules.includes(specifier.split("/")[0] ?? "");

/** `@scope/name/deep` → `@scope/name`. */
const packageName = (specifier: string): string =>
  specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
