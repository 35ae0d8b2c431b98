/** `tessellate pack`: makes the manifest of a checkpoint, once, so that every rank can check every byte it reads. */
import type { Command } from "commander";
import { MANIFEST_FILE, type Manifest } from "../../core/manifest.ts";
import { parseModelConfig } from "../../core/model-config.ts";
import { RefusalError, valueOrThrow } from "../../core/result.ts";
import { formatBytes } from "../../core/units.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { makeManifest, writeManifest } from "../../shard-runtime/weights/pack.ts";
import type { Progress } from "../../shard-runtime/weights/progress.ts";

type Options = { readonly output: string; readonly withoutTokenizer?: boolean };

const BAR_WIDTH = 30;
const REDRAW_MS = 100;

export function register(program: Command): void {
  program
    .command("pack")
    .description("check a checkpoint in Hugging Face layout and write the manifest that ranks verify it by")
    .argument("<directory>", "folder with config.json, *.safetensors and tokenizer.json")
    .option("--without-tokenizer", "accept a checkpoint that has no tokenizer.json (it can be evaluated, not served)")
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
  const bar = process.stderr.isTTY ? new ProgressBar() : undefined;
  const manifest = await makeManifest(directory, {
    clock: systemClock,
    tokenizer: options.withoutTokenizer === true ? "optional" : "required",
    ...(bar === undefined ? {} : { onProgress: (progress) => bar.show(progress) }),
  });
  bar?.clear();
  const path = await writeManifest(directory, valueOrThrow(manifest));
  const report = reportOf(valueOrThrow(manifest), path);
  if (options.output === "json") {
    console.log(JSON.stringify(report));
    return;
  }
  const seconds = ((systemClock.monotonicMs() - startedMs) / 1000).toFixed(1);
  console.log(
    `${report.root}\n${formatBytes(report.bytes)} in ${report.files.length} files, ${report.layerCount} layers, hashed in ${seconds} s`,
  );
  console.log(`wrote ${path}: keep it beside the model's files; spec.model.digest may pin the root above`);
}

function reportOf(manifest: Manifest, path: string) {
  const config = valueOrThrow(parseModelConfig(manifest.configText));
  const files = manifest.files.map(({ path: name, sizeBytes }) => ({ path: name, sizeBytes }));
  const bytes = files.reduce((total, file) => total + file.sizeBytes, 0);
  return {
    root: manifest.root,
    manifest: path,
    manifestFile: MANIFEST_FILE,
    layerCount: config.layerCount,
    bytes,
    files,
  };
}

/** One line on a terminal's stderr, redrawn in place. */
class ProgressBar {
  #drawnMs = Number.NEGATIVE_INFINITY;

  show({ doneBytes, totalBytes, secondsLeft }: Progress): void {
    const now = systemClock.monotonicMs();
    if (now - this.#drawnMs < REDRAW_MS) return;
    this.#drawnMs = now;
    const filled = Math.round((BAR_WIDTH * doneBytes) / Math.max(1, totalBytes));
    const bar = "#".repeat(filled).padEnd(BAR_WIDTH, "-");
    const left = secondsLeft === undefined ? "" : `, ${Math.ceil(secondsLeft)} s left`;
    process.stderr.write(`\r\x1b[K[${bar}] ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}${left}`);
  }

  clear(): void {
    process.stderr.write("\r\x1b[K");
  }
}
