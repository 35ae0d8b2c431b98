/** `tessellate node measure`: what this machine takes for a layer, and how far others are, as the planner reads it. */
import { mkdirSync } from "node:fs";
import { availableParallelism, homedir } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import { stringify } from "yaml";
import type { Clock } from "../../core/clock.ts";
import { parseQuantity } from "../../core/quantity.ts";
import { RefusalError, refuse, valueOrThrow } from "../../core/result.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { openTls } from "../../core/wire/tls.ts";
import {
  measureBandwidth,
  measureDeviceBandwidth,
  measureLayer,
  measureRoundTrip,
} from "../../shard-runtime/measure.ts";

type Options = {
  readonly name: string;
  readonly device: string;
  readonly threads: string;
  readonly link: readonly string[];
  readonly tls?: string;
  readonly cache: string;
  readonly output: string;
};

const LINK_FORM = /^([^=]+)=([^@]+)@([^@,]+:\d{1,5})(?:,(\S+))?$/;
const LINK_HELP = "NODE=NAMESPACE/POD@HOST:PORT[,BYTES a second], such as b1=default/chat-0-1-0@10.0.0.7:7070,125M";
/** Where nobody said how wide a link is: 1 Gbit/s. */
const LINK_BYTES_PER_SECOND = 125e6;

export function registerMeasure(node: Command): void {
  node
    .command("measure")
    .description("measure what the planner wants to know of this machine: memory, a layer, links")
    .requiredOption("--name <name>", "the ShardNode's name")
    .option("--device <kind>", "what computes", "cpu")
    .option("--threads <count>", "CPU threads that a rank may use", String(availableParallelism()))
    .option("--link <link...>", `a link to measure, to a rank that serves: ${LINK_HELP}`, [])
    .option("--tls <directory>", "ca.crt, tls.crt and tls.key, for links")
    .option(
      "--cache <directory>",
      "where the packed layers stay (150 MB)",
      join(homedir(), ".cache", "tessellate", "measure"),
    )
    .option("-o, --output <form>", "patch (for kubectl) or yaml (for a file of ShardNodes)", "patch")
    .action(async (options: Options) => {
      const measured = await measureNode(options, systemClock, (what) => console.error(what));
      if (options.output === "yaml") return console.log(stringify({ status: { measured } }).trimEnd());
      const patch = JSON.stringify({ status: { measured } });
      console.log(`kubectl patch shardnode ${options.name} --subresource=status --type=merge -p '${patch}'`);
    });
}

async function measureNode(options: Options, clock: Clock, say: (what: string) => void) {
  const threadCount = Number(options.threads);
  if (!Number.isInteger(threadCount) || threadCount < 1)
    throw bad("--threads", options.threads, "a whole number from 1 on");
  if (options.output !== "patch" && options.output !== "yaml") throw bad("-o", options.output, "patch or yaml");
  const links = options.link.map(parseLink);
  if (links.length > 0 && options.tls === undefined)
    throw bad("--tls", "missing", "a directory with certificates; links need one");
  mkdirSync(options.cache, { recursive: true });
  const { device, cache: cacheDirectory } = options;
  const layerTimes = await measureLayer({ device, threadCount, cacheDirectory, clock, say });
  const memoryBytesPerSecond =
    device === "cpu" ? await measureBandwidth(threadCount, clock) : await measureDeviceBandwidth(device);
  const found = [];
  for (const { to, rank, bytesPerSecond } of links) {
    say(`measuring the way to ${to} …`);
    const roundTripMicros = await measureRoundTrip(rank, valueOrThrow(openTls(options.tls ?? "")), clock);
    found.push({ to, roundTripMicros, bytesPerSecond });
  }
  return {
    time: new Date().toISOString(),
    memoryBytesPerSecond,
    layerTimes: { ...layerTimes, bytes: Math.round(layerTimes.bytes) },
    ...(found.length === 0 ? {} : { links: found }),
  };
}

function parseLink(text: string) {
  const [, to, name, address, width] = LINK_FORM.exec(text) ?? [];
  if (to === undefined || name === undefined || address === undefined) throw bad("--link", text, LINK_HELP);
  const bytesPerSecond = width === undefined ? LINK_BYTES_PER_SECOND : valueOrThrow(parseQuantity(width));
  return { to, rank: { name, address }, bytesPerSecond };
}

const bad = (option: string, given: string, wanted: string): RefusalError =>
  new RefusalError(refuse("BadOption", `${option} ${given}: give ${wanted}`));
