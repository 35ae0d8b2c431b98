/** `tessellate pack`: makes the manifest of a checkpoint, once, so that every rank can check every byte it reads. */
import type { Command } from "commander";
import { LEAVES_FILE, MANIFEST_FILE } from "../../core/manifest.ts";
import { parseModelConfig } from "../../core/model-config.ts";
import { RefusalError, valueOrThrow } from "../../core/result.ts";
import { formatBytes } from "../../core/units.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { type PackedModel, packModel } from "../../shard-runtime/weights/pack.ts";
import { ProgressBar } from "../progress-bar.ts";

type Options = { readonly output: string; readonly withoutTokenizer?: boolean; readonly columns: boolean };

export function register(program: Command): void {
  program
    .command("pack")
    .description("check a checkpoint in Hugging Face layout and write the manifest that ranks verify it by")
    .argument("<directory>", "folder with config.json, *.safetensors and tokenizer.json, or with a *.gguf")
    .option("--without-tokenizer", "accept a checkpoint that has no tokenizer.json (it can be evaluated, not served)")
    .option("--no-columns", "make no copies by column; tensor-parallel ranks then fetch half as much again")
    .option("-o, --output <form>", "text or json", "text")
    .action(async (directory: string, options: Options) => {
      if (options.output !== "text" && options.output !== "json") {
        throw new RefusalError({ ok: false, code: "BadOption", detail: `-o ${options.output}: choose text or json` });
      }
      await pack(directory, options);
    });
}

async function pack(directory: string, options: Options): Promise<void> {
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
  const report = reportOf(packed);
  if (options.output === "json") {
    console.log(JSON.stringify(report));
    return;
  }
  const seconds = ((systemClock.monotonicMs() - startedMs) / 1000).toFixed(1);
  console.log(
    `${report.root}\n${formatBytes(report.bytes)} in ${report.files.length} files, ${report.layerCount} layers, hashed in ${seconds} s`,
  );
  if (packed.written.length > 0) console.log(`made of the GGUF file's metadata: ${packed.written.join(", ")}`);
  for (const note of packed.notes) console.log(`note: ${note}`);
  if (packed.addedBytes > 0)
    console.log(
      `of these, ${formatBytes(packed.addedBytes)} are copies by column, so that a rank of several fetches its columns ` +
        "and not whole rows; --no-columns leaves them out",
    );
  console.log(
    `wrote ${packed.manifestPath} and ${LEAVES_FILE}: keep them beside the model's files; spec.model.digest may pin the root above`,
  );
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
