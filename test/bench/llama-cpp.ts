/**
 * llama.cpp as the peer of a bench: llama-cpp-python from PyPI, its llama.cpp compiled on this machine for this machine,
 * in a virtual environment of its own outside the tree. It answers from a process of its own, so that both sides take
 * turns within one run.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { startLineProcess } from "./line-process.ts";
import { benchCache } from "./bench-cache.ts";

const VERSION = "0.3.36";
const PEER = fileURLToPath(new URL("./llama-cpp/peer.py", import.meta.url));
const TILE_CONFIG = fileURLToPath(new URL("./llama-cpp/amx-tile-config.h", import.meta.url));
const HEARTBEAT_MS = 10_000;

/** How llama.cpp holds its weights: `fastest` as it picks by itself for this processor, `plain` as they lie in the file. */
export type PeerOptions = {
  readonly path: string; // a GGUF file
  readonly context: number; // positions of all streams together
  readonly streams: number; // at most
  readonly threads: number;
  readonly weights?: "fastest" | "plain";
};

/** What is measured, of either side. */
export type Side = {
  /** Milliseconds of one prompt of so many tokens in an empty context, 512 at a time. */
  prefill(rows: number): Promise<number>;
  /** Empties the context and gives each of `streams` sequences a prompt of `rows` tokens. */
  prompt(streams: number, rows: number): Promise<void>;
  /** Milliseconds of each of `steps` steps, one token of every sequence at a time, after what they have. */
  decode(steps: number): Promise<readonly number[]>;
  stop(): Promise<void>;
};

export type Peer = Side & {
  readonly version: string;
  readonly system: string; // llama.cpp's own words: the instruction sets it was built for
  /** Bytes per second that `threads` threads read from memory (numpy's maximum of more than caches hold), the best of many. */
  bandwidth(threads: number): Promise<number>;
};

/** The Python of the environment, which is built first where it is not there (5 minutes on two cores). */
async function environment(say: (text: string) => void): Promise<string> {
  const directory = join(benchCache(), `llama-cpp-${VERSION}-2`);
  const python = join(directory, "bin", "python");
  const built = join(directory, "built");
  if (existsSync(built)) return python;
  await rm(directory, { recursive: true, force: true });
  say(`building llama.cpp (llama-cpp-python ${VERSION}) for this machine, about 5 minutes on two cores …`);
  const start = performance.now();
  const heartbeat = setInterval(
    () => say(`building llama.cpp: ${Math.round((performance.now() - start) / 1000)} s`),
    HEARTBEAT_MS,
  );
  try {
    await command("python3", ["-m", "venv", directory]);
    // pip's cache of wheels does not ask which compiler flags a wheel was built with.
    const requirement = `llama-cpp-python==${VERSION}`;
    const flags = ["--no-cache-dir", "--no-binary", "llama-cpp-python", requirement];
    await command(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", ...flags], {
      ...process.env,
      CMAKE_ARGS: `-DCMAKE_CXX_FLAGS=-include${TILE_CONFIG}`,
    });
    const marker = join(directory, "built.partial");
    await command(python, ["-c", "import sys, llama_cpp; open(sys.argv[1], 'w').write(llama_cpp.__version__)", marker]);
    await rename(marker, built);
  } finally {
    clearInterval(heartbeat);
  }
  return python;
}

async function command(name: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<void> {
  try {
    await promisify(execFile)(name, args, { env, maxBuffer: 1 << 26 });
  } catch (cause) {
    const said = cause instanceof Error && "stderr" in cause ? String(cause.stderr).slice(-2000) : String(cause);
    throw new Error(
      `${name} ${args.join(" ")} failed: ${said}\nThe peer needs python3 with venv, a C++ compiler and PyPI`,
      { cause },
    );
  }
}

export async function startPeer(options: PeerOptions, say: (text: string) => void): Promise<Peer> {
  const python = await environment(say);
  const { ask, stop } = startLineProcess(python, [PEER]);
  const { weights, ...rest } = options;
  const loaded = await ask({ do: "load", ...rest, repack: weights !== "plain" });
  return {
    version: String(loaded["version"]),
    system: String(loaded["system"]),
    prefill: async (rows) => Number((await ask({ do: "prefill", rows }))["ms"]),
    prompt: async (streams, rows) => {
      await ask({ do: "prompt", streams, rows });
    },
    decode: async (steps) => (await ask({ do: "decode", steps }))["ms"] as readonly number[],
    bandwidth: async (threads) => Number((await ask({ do: "bandwidth", threads }))["bytesPerSecond"]),
    stop,
  };
}
