/**
 * What one rank is told at start: a JSON file that the operator (in a Secret) or local mode (in its state directory)
 * writes and `shard-runtime/main.ts` reads. Everything in it follows from the plan.
 */
import type { KvDtype } from "./kv-cache.ts";
import type { LayerRange } from "./ranges.ts";

/** Where a checkpoint in Hugging Face layout is read from. Exactly one of the four forms. */
export type ModelSource =
  | { readonly path: string } // a folder, relative to the runtime's working directory
  | { readonly url: string } // http(s)://… of a folder whose files answer range requests
  | {
      readonly huggingFace: {
        readonly repo: string; // owner/name
        readonly revision: string; // branch, tag or commit
        readonly endpoint?: string; // another hub of the same URL layout
      };
    }
  | { readonly persistentVolumeClaim: { readonly claimName: string; readonly path?: string } };

export const QUANTIZATIONS = ["f32", "f16", "int8", "int4"] as const;
export type Quantization = (typeof QUANTIZATIONS)[number];

export const HAND_OFF_DTYPES = ["f32", "f16"] as const;
export type HandOffDtype = (typeof HAND_OFF_DTYPES)[number];

/** A rank to ask for pieces of the model before its source is. */
export type Fellow = {
  readonly name: string; // <namespace>/<model>-<chain>-<segment>-<rank>
  readonly address: string; // host:port, or file:PATH of a file that holds it once the rank listens
};

export type RankConfig = {
  readonly name: string; // <namespace>/<model>-<chain>-<segment>-<rank>
  readonly model: {
    readonly name: string;
    readonly source: ModelSource;
    readonly root: string; // sha256:… of the manifest; nothing else is accepted
    readonly manifestUrl?: string; // where the manifest lies if not beside the model
    readonly mirrors?: readonly ModelSource[]; // asked in order where the source fails; without the hub's token
  };
  readonly layers: LayerRange;
  readonly rankIndex: number; // within the segment
  readonly sliceWeights: readonly number[]; // one per rank of the segment; its length is the tensor-parallel degree
  readonly quantization: Quantization;
  readonly kvDtype: KvDtype; // of keys and values
  readonly device: string; // cpu | webgpu | cuda | coreml | directml
  readonly contextLength: number; // positions per slot
  readonly slotCount: number; // sessions at once
  readonly threadCount: number;
  readonly spin: boolean; // spin only where the cores are exclusive
  readonly provider: string;
  readonly node: string;
  readonly neighbours: readonly string[]; // rank names that may connect: segments before and after, own group
  readonly signer: string; // unix:/… or host:port of the node's signer, or mtls:host:port of its agent
  readonly listen: { readonly host: string; readonly port: number; readonly metricsPort: number }; // port 0: any free one
  readonly tls: { readonly caFile: string; readonly certificateFile: string; readonly keyFile: string };
  readonly cacheDirectory: string; // content-addressed, shared by the node's ranks
  readonly cacheBytes?: number; // what packed shards and fetched pieces may take there; absent: shards stay, no pieces are kept
  readonly fellows?: readonly Fellow[]; // ranks of the model's other chains that hold some of the same layers
  readonly hubTokenFile?: string;
  readonly rehearsal?: Rehearsal;
};

/** Local mode only: the node that this machine plays. */
export type Rehearsal = {
  readonly bytesPerSecond: number; // of weights that a batch reads
  readonly rowBytesPerSecond: number; // of weights that rows are multiplied with, all rows together
  readonly sendDelayMs: number; // how long what leaves for the next segment or the gateway is held back
};
