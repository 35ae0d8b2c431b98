/** `tessellate pack`: makes the manifest of a checkpoint, once, so that every rank can check every byte it reads. */
import type { Command } from "commander";
import { Bug } from "../../core/assert.ts";
import { LEAVES_FILE, MANIFEST_FILE } from "../../core/manifest.ts";
import { parseModelConfig } from "../../core/model-config.ts";
import { MEASURED, MEASURED_KV, costText } from "../../core/quantization-cost.ts";
import { RefusalError, valueOrThrow } from "../../core/result.ts";
import { formatBytes } from "../../core/units.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { type Asked, type Measurement, measureCosts } from "../../shard-runtime/weights/measure-costs.ts";
import { openModel } from "../../shard-runtime/weights/open-model.ts";
import { type PackedModel, packModel, writeManifest } from "../../shard-runtime/weights/pack.ts";
import { choice } from "../choice.ts";
import { ProgressBar } from "../progress-bar.ts";

type Options = {
  readonly output: string;
  readonly withoutTokenizer?: boolean;
  readonly columns: boolean;
  readonly quantization?: string;
  readonly measure: boolean;
};

/** Beyond this, measuring is left out; packing itself only hashes. */
const MEASURE_LIMIT_MS = 600_000;
const MEASURED_UNASKED: Asked = { quantizations: ["int8", "int4"], kvDtypes: MEASURED_KV };

export function register(program: Command): void {
  program
    .command("pack")
    .description("check a checkpoint in Hugging Face layout and write the manifest that ranks verify it by")
    .argument("<directory>", "folder with config.json, *.safetensors and tokenizer.json, or with a *.gguf")
    .option("--without-tokenizer", "accept a checkpoint that has no tokenizer.json (it can be evaluated, not served)")
    .option("--no-columns", "make no copies by column; tensor-parallel ranks then fetch half as much again")
    .option(
      "--quantization <kind>",
      "measure what this one costs: f16, int8 or int4 (unasked: int8, int4, and a KV cache in int8)",
    )
    .option("--no-measure", "do not measure what quantisations cost")
    .option("-o, --output <form>", "text or json", "text")
    .action(async (directory: string, options: Options) => {
      choice("-o", options.output, ["text", "json"]);
      const asked = MEASURED.find((each) => each === options.quantization);
      if (options.quantization !== undefined && asked === undefined) {
        const detail = `--quantization ${options.quantization}: choose ${MEASURED.join(", ")}; f32 costs nothing`;
        throw new RefusalError({ ok: false, code: "BadOption", detail });
      }
      const unasked = options.measure ? MEASURED_UNASKED : { quantizations: [] };
      await pack(directory, options, asked === undefined ? unasked : { quantizations: [asked] });
    });
}

async function pack(directory: string, options: Options, asked: Asked): Promise<void> {
  const startedMs = systemClock.monotonicMs();
  const bar = new ProgressBar();
  const result = await packModel(directory, {
    clock: systemClock,
    tokenizer: options.withoutTokenizer === true ? "optional" : "required",
    columns: options.columns,
    onProgress: (progress) => bar.show(progress),
  });
  bar.clear();
  const packed = valueOrThrow(result);
  const seconds = ((systemClock.monotonicMs() - startedMs) / 1000).toFixed(1);
  const { costs, unmeasured } = await measured(directory, packed, asked, bar);
  const report = { ...reportOf(packed), costs };
  if (options.output === "json") {
    console.log(JSON.stringify(report));
    return;
  }
  console.log(
    `${report.root}\n${formatBytes(report.bytes)} in ${report.files.length} files, ${report.layerCount} layers, hashed in ${seconds} s`,
  );
  if (packed.written.length > 0) console.log(`made of the GGUF file's metadata: ${packed.written.join(", ")}`);
  for (const note of packed.notes) console.log(`note: ${note}`);
  for (const cost of costs) console.log(costText(cost));
  if (unmeasured !== undefined) console.log(`what fewer bits cost was not measured: ${unmeasured}`);
  if (packed.addedBytes > 0)
    console.log(
      `of these, ${formatBytes(packed.addedBytes)} are copies by column, so that a rank of several fetches its columns ` +
        "and not whole rows; --no-columns leaves them out",
    );
  console.log(
    `wrote ${packed.manifestPath} and ${LEAVES_FILE}: keep them beside the model's files; spec.model.digest may pin the root above`,
  );
}

/** Measures on the model as it lies there, and writes what was found into its manifest. */
async function measured(
  directory: string,
  { manifest }: PackedModel,
  asked: Asked,
  bar: ProgressBar,
): Promise<Measurement> {
  if (asked.quantizations.length === 0) return { costs: [] };
  const model = valueOrThrow(await openModel({ path: directory }, { clock: systemClock }));
  const onStep = (text: string): void => bar.line(text);
  const options = { ...asked, clock: systemClock, timeLimitMs: MEASURE_LIMIT_MS, onStep };
  // The manifest is written already, and is as good without: an engine that does not start here may start elsewhere.
  const found = await measureCosts(model, options).catch((error: unknown): Measurement => {
    if (error instanceof Bug || !(error instanceof Error)) throw error;
    return { costs: [], unmeasured: error.message };
  });
  bar.clear();
  if (found.costs.length > 0) await writeManifest(directory, { ...manifest, costs: found.costs });
  return found;
}

function reportOf({ manifest, manifestPath, addedBytes, written, notes }: PackedModel) {
  const config = valueOrThrow(parseModelConfig(manifest.configText));
  const files = manifest.files.map(({ path: name, sizeBytes }) => ({ path: name, sizeBytes }));
  const bytes = files.reduce((total, file) => total + file.sizeBytes, 0);
  return {
    root: manifest.root,
    manifest: manifestPath,
    addedBytes,
    written,
    notes,
    manifestFile: MANIFEST_FILE,
    layerCount: config.layerCount,
    bytes,
    files,
  };
}
