/** A real Prometheus (Debian's) on loopback, scraping what a test tells it to, and its query API. */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import { until } from "./until.ts";

export type Sample = { readonly labels: Readonly<Record<string, string>>; readonly value: number };

export type Prometheus = {
  readonly url: string;
  /** An instant query. Throws with Prometheus's own words where it refuses the question. */
  query(promql: string): Promise<readonly Sample[]>;
  stop(): Promise<void>;
};

const BINARY = "/usr/bin/prometheus";

/** Why Prometheus cannot run here, or undefined where it can. */
export const whyNoPrometheus = (): string | undefined =>
  existsSync(BINARY) ? undefined : `${BINARY} is not there (on Debian: apt-get install prometheus)`;

/** Starts one that scrapes `targets` (host:port, by job) every second; resolves when it answers. */
export async function startPrometheus(targets: Readonly<Record<string, readonly string[]>>): Promise<Prometheus> {
  const directory = mkdtempSync(join(tmpdir(), "tessellate-prometheus-"));
  const jobs = Object.entries(targets).map(([job, addresses]) => ({
    job_name: job,
    static_configs: [{ targets: addresses }],
  }));
  const config = { global: { scrape_interval: "1s", scrape_timeout: "1s" }, scrape_configs: jobs };
  writeFileSync(join(directory, "prometheus.yml"), stringify(config));
  const address = `127.0.0.1:${await freePort()}`;
  const child = spawn(
    BINARY,
    [
      `--config.file=${join(directory, "prometheus.yml")}`,
      `--storage.tsdb.path=${join(directory, "data")}`,
      `--web.listen-address=${address}`,
      "--log.level=error",
    ],
    { stdio: "ignore" },
  );
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const url = `http://${address}`;
  await until("Prometheus to be ready", async () => (await fetch(`${url}/-/ready`)).ok, { timeoutMs: 30_000 });
  return {
    url,
    query: async (promql) => {
      const response = await fetch(`${url}/api/v1/query?${new URLSearchParams({ query: promql })}`);
      const body = (await response.json()) as QueryReply;
      if (body.status !== "success") throw new Error(`${promql}: ${body.error ?? response.status}`);
      return (body.data?.result ?? []).map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
    },
    stop: async () => {
      child.kill("SIGTERM");
      await ended;
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

type QueryReply = {
  readonly status: string;
  readonly error?: string;
  readonly data?: {
    readonly result: readonly {
      readonly metric: Readonly<Record<string, string>>;
      readonly value: readonly [number, string];
    }[];
  };
};

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() =>
        typeof address === "object" && address !== null ? resolve(address.port) : reject(new Error("no port")),
      );
    });
  });
}
