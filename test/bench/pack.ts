/**
 * `npm run bench -- pack`: packing a whole model and one slice of it from a checkpoint, each in a process of its own: time,
 * memory above the shard's size, and bytes read of the source.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type BenchResult, atMost, rounded } from "./figures.ts";
import { startLineProcess } from "./line-process.ts";
import { machineFacts } from "./machine.ts";
import { benchCache } from "./bench-cache.ts";
import { randomCheckpoint } from "./random-checkpoint.ts";

const BODY = fileURLToPath(new URL("./pack-body.ts", import.meta.url));
const MB = 1e6;
const CASES = [
  { name: "the whole model", segments: 1, ranks: 1 },
  { name: "first half of the layers, half of their heads", segments: 2, ranks: 2 },
] as const;

type Packed = {
  readonly seconds: number;
  readonly peakBytes: number;
  readonly readBytes: number;
  readonly sourceBytes: number; // of this slice
  readonly shardBytes: number;
};

export async function run(): Promise<BenchResult> {
  const facts = machineFacts();
  const checkpoint = await randomCheckpoint((text) => console.error(text));
  const found: { readonly name: string; readonly packed: Packed }[] = [];
  for (const { name, segments, ranks } of CASES) {
    const cacheDirectory = await mkdtemp(join(benchCache(), "pack-"));
    const side = startLineProcess(process.execPath, [BODY]);
    try {
      const answer = await side.ask({ checkpoint, cacheDirectory, segments, ranks });
      found.push({ name, packed: answer as Packed });
    } finally {
      await side.stop();
      await rm(cacheDirectory, { recursive: true, force: true });
    }
  }
  return {
    bench: "pack",
    ...facts,
    requirements: found.flatMap(({ name, packed }) => [
      atMost(`${name}: peak memory above the shard's size`, (packed.peakBytes - packed.shardBytes) / MB, 300, "MB"),
      atMost(
        `${name}: bytes read over the slice's bytes in the source`,
        packed.readBytes / packed.sourceBytes,
        1.02,
        "",
      ),
    ]),
    table: [
      ["int4 from bf16", "seconds", "of the source, MB/s", "shard, MB", "peak memory, MB"],
      ...found.map(({ name, packed: { seconds, readBytes, shardBytes, peakBytes } }) => [
        name,
        String(rounded(seconds)),
        ...[readBytes / seconds, shardBytes, peakBytes].map((bytes) => String(Math.round(bytes / MB))),
      ]),
    ],
    notes: ["The checkpoint lay in the page cache or not, as it happened."],
  };
}
