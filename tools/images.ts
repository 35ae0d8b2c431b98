/**
 * `npm run images`: builds the images of operator, gateway, ledger, shard runtime and command line, and says how large
 * they are. `--base IMAGE` builds on an image of yours, `--registry` and `--tag` name them, `--output FOLDER` gets the OCI
 * layout with the bills of materials, and the same as `images.tar`.
 */
import { cpSync } from "node:fs";
import { Command } from "commander";
import { buildImages } from "./images/build.ts";
import type { BuiltImage } from "./images/layout.ts";

type Options = {
  readonly base?: string;
  readonly registry?: string;
  readonly tag?: string;
  readonly output?: string;
};

const { base, registry, tag, output } = new Command("npm run images --")
  .description("Build the images of operator, gateway, ledger, shard runtime and command line.")
  .option("--registry <name>", "what the images' names begin with")
  .option("--tag <tag>", "instead of the version")
  .option("--base <image>", "build on this one instead of on Debian packages")
  .option("--output <folder>", "copy the OCI layout, its images.tar and the bills of materials there")
  .parse()
  .opts<Options>();
const report = (line: string) => console.log(`• ${line}`);
const built = await buildImages({ base, registry, tag, report });
console.log(`\n${table(built.images)}\n\nOCI layout: ${built.directory}`);
if (output !== undefined) {
  cpSync(built.directory, output, { recursive: true });
  console.log(`copied to ${output}`);
}

function table(images: readonly BuiltImage[]): string {
  const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`.padStart(10);
  const shared = images.map(({ layers }) => new Set(layers.map(({ digest }) => digest)));
  const inAll = (digest: string) => shared.every((each) => each.has(digest));
  const rows = images.map(({ reference, bytes, layers, digest }) => {
    const own = layers.filter((layer) => !inAll(layer.digest)).reduce((sum, layer) => sum + layer.bytes, 0);
    return `${reference.padEnd(44)}${megabytes(bytes)}${megabytes(own)}  ${digest}`;
  });
  const once = new Map(images.flatMap(({ layers }) => layers.map((layer) => [layer.digest, layer.bytes])));
  const total = [...once.values()].reduce((sum, bytes) => sum + bytes, 0);
  const head = `${"image".padEnd(44)}${"layers".padStart(10)}${"its own".padStart(10)}  digest`;
  return [head, ...rows, `${"all together".padEnd(44)}${megabytes(total)}`].join("\n");
}
