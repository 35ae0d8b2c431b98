/** What a model is, from the manifest beside it: all that planning needs, without reading a weight. */
import { createReadStream } from "node:fs";
import { isAbsolute, join } from "node:path";
import { present } from "../../core/assert.ts";
import { MANIFEST_BYTES_MAX, MANIFEST_FILE, parseManifest } from "../../core/manifest.ts";
import { parseModelConfig } from "../../core/model-config.ts";
import type { QuantizationCost } from "../../core/quantization-cost.ts";
import type { ModelSource } from "../../core/rank-config.ts";
import { type Result, ok, refuse } from "../../core/result.ts";
import { headersOf, placeOf, shownFile, urlOf } from "../../core/source.ts";
import type { ModelFacts } from "../plan/types.ts";

const TIMEOUT_MS = 30_000;

export type FactsRequest = {
  readonly source: ModelSource;
  readonly mirrors?: readonly ModelSource[]; // read in order where the source has no manifest or does not answer
  readonly manifestUrl?: string; // where the manifest lies if not beside the model
  readonly digest?: string; // sha256:…; another root is refused
};

/** With what only people and caches want: the text of config.json, and what its packer measured. */
export type ReadFacts = ModelFacts & { readonly configText: string; readonly costs?: readonly QuantizationCost[] };

/**
 * Reads and checks the manifest. Refusals say what to do: `MissingManifest` (run `tessellate pack`), `Unreachable`,
 * `WrongRoot`, `MalformedManifest`, `UnknownModelType` and the other codes of core/model-config.ts.
 */
export async function readFacts({
  source,
  mirrors = [],
  manifestUrl,
  digest,
}: FactsRequest): Promise<Result<ReadFacts>> {
  const text =
    manifestUrl === undefined
      ? await readBesideOne([source, ...mirrors])
      : await get(new URL(manifestUrl), {}, manifestUrl);
  if (!text.ok) return text;
  const manifest = parseManifest(text.value, digest);
  if (!manifest.ok) return manifest;
  const config = parseModelConfig(manifest.value.configText);
  const { root, configText, costs = [], held } = manifest.value;
  if (!config.ok) return config;
  return ok({ root, config: config.value, configText, costs, ...(held === undefined ? {} : { held }) });
}

/** From the first source that has it, else the first one's refusal. */
async function readBesideOne(sources: readonly ModelSource[]): Promise<Result<string>> {
  const refused: Result<string>[] = [];
  for (const source of sources) {
    const text = await readBeside(source);
    if (text.ok) return text;
    refused.push(text);
  }
  return present(refused[0], "a model has a source");
}

async function readBeside(source: ModelSource): Promise<Result<string>> {
  const place = placeOf(source);
  if (!place.ok) return place;
  const shown = shownFile(place.value, MANIFEST_FILE);
  if (place.value.kind === "http") return get(urlOf(place.value, MANIFEST_FILE), headersOf(place.value), shown);
  try {
    return await bounded(createReadStream(join(place.value.directory, MANIFEST_FILE)), shown);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    const { directory } = place.value;
    const where = isAbsolute(directory) ? "" : ` in ${process.cwd()}`;
    return refuse(
      "MissingManifest",
      `there is no ${shown}${where}: run \`tessellate pack ${directory}\` once, or correct spec.model.source`,
    );
  }
}

async function get(url: URL, headers: Readonly<Record<string, string>>, shown: string): Promise<Result<string>> {
  try {
    const response = await fetch(url, { headers, signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (response.status === 404) {
      return refuse(
        "MissingManifest",
        `there is no ${shown}: run \`tessellate pack\` on a copy of the model and put the file there, or name it in spec.model.manifestUrl`,
      );
    }
    if (!response.ok || response.body === null)
      return refuse("Unreachable", `${shown} answers ${response.status} ${response.statusText}`);
    return await bounded(response.body, shown);
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    return refuse("Unreachable", `cannot read ${shown}: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
}

async function bounded(chunks: AsyncIterable<unknown>, shown: string): Promise<Result<string>> {
  const parts: Buffer[] = [];
  let byteCount = 0;
  for await (const chunk of chunks) {
    if (!(chunk instanceof Uint8Array)) continue;
    byteCount += chunk.byteLength;
    if (byteCount > MANIFEST_BYTES_MAX)
      return refuse("MalformedManifest", `${shown} is larger than ${MANIFEST_BYTES_MAX} bytes`);
    parts.push(Buffer.from(chunk));
  }
  return ok(Buffer.concat(parts).toString("utf8"));
}
