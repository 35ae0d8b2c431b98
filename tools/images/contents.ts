/** Which images there are, and what each is made of beside what its entry imports. */

export type Contents = {
  readonly name: ImageName;
  readonly description: string;
  readonly entry: string;
  /** Other processes that are started from the same image. */
  readonly otherEntries?: readonly string[];
  /** Folders of ours that are read at run time, not imported. */
  readonly folders: readonly string[];
  /** Files that are read at run time, taken as they are. */
  readonly files: readonly string[];
  /** Whether tensors are computed in it: ONNX Runtime's library, and our own operators compiled beforehand. */
  readonly hasEngine: boolean;
};

export const IMAGE_NAMES = ["operator", "gateway", "ledger", "shard-runtime", "cli"] as const;
export type ImageName = (typeof IMAGE_NAMES)[number];

const NATIVE_SOURCES = "shard-runtime/engine/native";

/** So that examples/demo/ is served in any cluster with nothing fetched: operators read the manifest, ranks the rest. */
const DEMO_MANIFEST = "models/demo/tessellate-manifest.json";
const DEMO_MODEL = [
  DEMO_MANIFEST,
  "models/demo/config.json",
  "models/demo/generation_config.json",
  "models/demo/tokenizer.json",
  "models/demo/tokenizer_config.json",
  "models/demo/model.safetensors",
  "models/demo/tessellate-leaves.bin",
];

export const CONTENTS: readonly Contents[] = [
  {
    name: "operator",
    description: "Tessellate's Kubernetes operator: plans ShardedModels and makes their ranks.",
    entry: "operator/main.ts",
    folders: ["proto"],
    files: [DEMO_MANIFEST],
    hasEngine: false,
  },
  {
    name: "gateway",
    description: "Tessellate's gateway: the OpenAI API in front of chains of ranks.",
    entry: "gateway/main.ts",
    folders: ["proto"],
    files: [],
    hasEngine: false,
  },
  {
    name: "ledger",
    description: "Tessellate's ledger: judges receipts and settles epochs.",
    entry: "ledger/main.ts",
    folders: ["proto"],
    files: [],
    hasEngine: false,
  },
  {
    name: "shard-runtime",
    description: "Tessellate's shard runtime: one rank of a model; also the node agent and its signer.",
    entry: "shard-runtime/main.ts",
    otherEntries: ["shard-runtime/agent/main.ts", "shard-runtime/attest/main.ts"],
    folders: ["proto", NATIVE_SOURCES],
    files: DEMO_MODEL,
    hasEngine: true,
  },
  {
    name: "cli",
    description: "The tessellate command: signers outside of the cluster, verify, plan, pack, chat.",
    entry: "cli/main.ts",
    folders: ["proto", NATIVE_SOURCES],
    files: [],
    hasEngine: true,
  },
];

/** Of ONNX Runtime's package only its library for this machine is used, and by path: see shard-runtime/engine/ort-api.ts. */
export const ENGINE_PACKAGE = "onnxruntime-node";

/** What a package brings for people and compilers. Licences have no ending, and stay. */
const NOT_SHIPPED =
  /\.(d\.[cm]?ts|[cm]?ts|map|md|markdown|flow|c|cc|cpp|h|hpp|gyp|html|yml|yaml)$|(^|\/)(test|tests|example|examples|benchmark|benchmarks|\.github|\.bin)\//;
const IS_LICENCE = /(^|\/)(licen[cs]e|notice|copying)/i;

/** Whether a file of an npm package, by its path inside it, belongs into an image. */
export const isShipped = (path: string): boolean =>
  IS_LICENCE.test(path) || (!NOT_SHIPPED.test(path) && !path.startsWith("node_modules/"));

/** Whether a file of ours belongs into an image that takes its folder whole. */
export const isOurs = (path: string): boolean => /\.(proto|c|h)$/.test(path) && !/\.test\.|(^|\/)test/.test(path);
