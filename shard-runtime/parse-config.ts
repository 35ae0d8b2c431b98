/** Reading what a rank is told. Every refusal names the field, so that whoever wrote the file finds it. */
import {
  DIGEST_FORM,
  NAME_FORM,
  fits,
  integerOf,
  listOf,
  misfit,
  objectWith,
  strictly,
  textOf,
} from "../core/fields.ts";
import { type JsonObject, isJsonObject, parseJson, shown } from "../core/json.ts";
import { KV_DTYPES } from "../core/kv-cache.ts";
import { type Fellow, type ModelSource, QUANTIZATIONS, type RankConfig, type Rehearsal } from "../core/rank-config.ts";
import { type Result, refuse } from "../core/result.ts";
import { placeOf } from "../core/source.ts";

const RANKS_MAX = 1024;
const NEIGHBOURS_MAX = 3 * RANKS_MAX;
const LAYERS_MAX = 4096;
const POSITIONS_MAX = 1 << 24;
const NAMES = [
  "name",
  "model",
  "layers",
  "rankIndex",
  "sliceWeights",
  "quantization",
  "kvDtype",
  "device",
  "contextLength",
  "slotCount",
  "threadCount",
  "spin",
  "provider",
  "node",
  "neighbours",
  "signer",
  "listen",
  "tls",
  "cacheDirectory",
] as const;

const OPTIONAL_NAMES = ["hubTokenFile", "cacheBytes", "fellows", "rehearsal"] as const;
const MIRRORS_MAX = 8;

/** The configuration in a JSON text; refused as `MalformedField` (or `NotJson`), the path of the field first. */
export function parseRankConfig(text: string): Result<RankConfig> {
  const json = parseJson(text);
  if (!isJsonObject(json)) return refuse("NotJson", "the rank's configuration is no JSON object");
  return strictly(() => readConfig(json));
}

function readConfig(json: JsonObject): RankConfig {
  const fields = objectWith(json, "config", [...NAMES, ...OPTIONAL_NAMES.flatMap((name) => present(json, name))]);
  const name = textOf(fields["name"], "name", RANK_NAME_FORM);
  const sliceWeights = listOf(fields["sliceWeights"], "sliceWeights", RANKS_MAX, positive);
  if (sliceWeights.length === 0) misfit("sliceWeights", "is empty; one weight per rank of the segment");
  const rankIndex = integerOf(fields["rankIndex"], "rankIndex", 0, sliceWeights.length - 1);
  if (!name.endsWith(`-${rankIndex}`))
    misfit("rankIndex", `is ${rankIndex}, but the name ${shown(name)} ends otherwise`);
  const tls = objectWith(fields["tls"], "tls", ["caFile", "certificateFile", "keyFile"]);
  return {
    name,
    model: readModel(fields["model"]),
    layers: readLayers(fields["layers"]),
    rankIndex,
    sliceWeights,
    quantization: oneOf(QUANTIZATIONS, fields["quantization"], "quantization"),
    kvDtype: oneOf(KV_DTYPES, fields["kvDtype"], "kvDtype"),
    device: textOf(fields["device"], "device", {
      pattern: /^[a-z0-9]{1,20}$/,
      is: "cpu, webgpu, cuda, coreml or directml",
    }),
    contextLength: integerOf(fields["contextLength"], "contextLength", 1, POSITIONS_MAX),
    slotCount: integerOf(fields["slotCount"], "slotCount", 1, 4096),
    threadCount: integerOf(fields["threadCount"], "threadCount", 1, 1024),
    spin: flag(fields["spin"], "spin"),
    provider: textOf(fields["provider"], "provider", NAME_FORM),
    node: textOf(fields["node"], "node", NAME_FORM),
    neighbours: listOf(fields["neighbours"], "neighbours", NEIGHBOURS_MAX, (item, path) =>
      textOf(item, path, RANK_NAME_FORM),
    ),
    signer: textOf(fields["signer"], "signer", {
      pattern: /^(unix:.|(mtls:)?[^/:]+:[0-9]+$)/,
      is: "unix:/path, host:port or mtls:host:port",
    }),
    listen: readListen(fields["listen"]),
    tls: {
      caFile: pathOf(tls["caFile"], "tls.caFile"),
      certificateFile: pathOf(tls["certificateFile"], "tls.certificateFile"),
      keyFile: pathOf(tls["keyFile"], "tls.keyFile"),
    },
    cacheDirectory: pathOf(fields["cacheDirectory"], "cacheDirectory"),
    ...(fields["cacheBytes"] === undefined
      ? {}
      : { cacheBytes: integerOf(fields["cacheBytes"], "cacheBytes", 0, Number.MAX_SAFE_INTEGER) }),
    ...(fields["fellows"] === undefined
      ? {}
      : { fellows: listOf(fields["fellows"], "fellows", RANKS_MAX, readFellow) }),
    ...(fields["hubTokenFile"] === undefined ? {} : { hubTokenFile: pathOf(fields["hubTokenFile"], "hubTokenFile") }),
    ...(fields["rehearsal"] === undefined ? {} : { rehearsal: readRehearsal(fields["rehearsal"]) }),
  };
}

const SEND_DELAY_MS_MAX = 10_000;

function readRehearsal(value: unknown): Rehearsal {
  const names = ["bytesPerSecond", "rowBytesPerSecond", "sendDelayMs"] as const;
  const { bytesPerSecond, rowBytesPerSecond, sendDelayMs } = objectWith(value, "rehearsal", names);
  return {
    bytesPerSecond: positive(bytesPerSecond, "rehearsal.bytesPerSecond"),
    rowBytesPerSecond: positive(rowBytesPerSecond, "rehearsal.rowBytesPerSecond"),
    sendDelayMs: integerOf(sendDelayMs, "rehearsal.sendDelayMs", 0, SEND_DELAY_MS_MAX),
  };
}

const oneOf = <T extends string>(all: readonly T[], value: unknown, path: string): T =>
  all.find((known) => known === value) ?? misfit(path, `must be one of ${all.join(", ")}, not ${shown(value)}`);

/** <namespace>/<model>-<chain>-<segment>-<rank> */
const RANK_NAME_FORM = {
  pattern: /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?\/[a-z0-9][-a-z0-9.]*-[0-9]+-[0-9]+-[0-9]+$/,
  is: "<namespace>/<model>-<chain>-<segment>-<rank>",
} as const;

const present = (json: JsonObject, name: string): readonly string[] => (json[name] === undefined ? [] : [name]);

function readModel(value: unknown): RankConfig["model"] {
  const optional = isJsonObject(value) ? [...present(value, "manifestUrl"), ...present(value, "mirrors")] : [];
  const model = objectWith(value, "model", ["name", "source", "root", ...optional]);
  return {
    name: textOf(model["name"], "model.name", NAME_FORM),
    source: readSource(model["source"], "model.source"),
    root: textOf(model["root"], "model.root", DIGEST_FORM),
    ...(model["mirrors"] === undefined
      ? {}
      : { mirrors: listOf(model["mirrors"], "model.mirrors", MIRRORS_MAX, readSource) }),
    ...(model["manifestUrl"] === undefined ? {} : { manifestUrl: pathOf(model["manifestUrl"], "model.manifestUrl") }),
  };
}

function readSource(value: unknown, path: string): ModelSource {
  if (!isJsonObject(value)) misfit(path, `must be an object, not ${shown(value)}`);
  const [kind, ...others] = Object.keys(value);
  if (kind === undefined || others.length > 0)
    misfit(path, "must have exactly one of path, url, huggingFace, persistentVolumeClaim");
  const source = sourceOf(kind, value[kind], path);
  fits(placeOf(source), path);
  return source;
}

function sourceOf(kind: string, value: unknown, path: string): ModelSource {
  const at = `${path}.${kind}`;
  switch (kind) {
    case "path":
      return { path: textOf(value, at) };
    case "url":
      return { url: textOf(value, at) };
    case "huggingFace": {
      const optional = isJsonObject(value) ? present(value, "endpoint") : [];
      const { repo, revision, endpoint } = objectWith(value, at, ["repo", "revision", ...optional]) as Record<
        string,
        unknown
      >;
      return {
        huggingFace: {
          repo: textOf(repo, `${at}.repo`),
          revision: textOf(revision, `${at}.revision`),
          ...(endpoint === undefined ? {} : { endpoint: textOf(endpoint, `${at}.endpoint`) }),
        },
      };
    }
    case "persistentVolumeClaim": {
      const optional = isJsonObject(value) ? present(value, "path") : [];
      const { claimName, path } = objectWith(value, at, ["claimName", ...optional]) as Record<string, unknown>;
      return {
        persistentVolumeClaim: {
          claimName: textOf(claimName, `${at}.claimName`),
          ...(path === undefined ? {} : { path: textOf(path, `${at}.path`) }),
        },
      };
    }
    default:
      return misfit(path, `has the unknown kind ${shown(kind)}; use path, url, huggingFace or persistentVolumeClaim`);
  }
}

function readLayers(value: unknown): RankConfig["layers"] {
  const layers = objectWith(value, "layers", ["start", "end"]);
  const start = integerOf(layers["start"], "layers.start", 0, LAYERS_MAX - 1);
  return { start, end: integerOf(layers["end"], "layers.end", start + 1, LAYERS_MAX) };
}

function readFellow(value: unknown, path: string): Fellow {
  const fellow = objectWith(value, path, ["name", "address"]);
  return {
    name: textOf(fellow["name"], `${path}.name`, RANK_NAME_FORM),
    address: textOf(fellow["address"], `${path}.address`, {
      pattern: /^(file:.+|[^/]+:[0-9]{1,5})$/,
      is: "host:port, or file: and the path of a file that holds it",
    }),
  };
}

function readListen(value: unknown): RankConfig["listen"] {
  const listen = objectWith(value, "listen", ["host", "port", "metricsPort"]);
  return {
    host: textOf(listen["host"], "listen.host", { pattern: /^[A-Za-z0-9.:-]+$/, is: "an address to listen on" }),
    port: integerOf(listen["port"], "listen.port", 0, 65_535),
    metricsPort: integerOf(listen["metricsPort"], "listen.metricsPort", 0, 65_535),
  };
}

const pathOf = (value: unknown, path: string): string => textOf(value, path, { pattern: /^[^\0]+$/, is: "a path" });

function positive(value: unknown, path: string): number {
  if (typeof value !== "number" || !(value > 0) || !Number.isFinite(value))
    misfit(path, `must be a number above 0, not ${shown(value)}`);
  return value;
}

function flag(value: unknown, path: string): boolean {
  if (typeof value !== "boolean") misfit(path, `must be true or false, not ${shown(value)}`);
  return value;
}
