/** What is wrong with a model is said with one code, the file's name and what to do. */
import { expect } from "chai";
import { readFile, rename, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { CHUNK_BYTES, MANIFEST_FILE } from "../../core/manifest.ts";
import { type Result, RefusalError, valueOrThrow } from "../../core/result.ts";
import { type CheckpointOptions, aCheckpoint, hurriedClock, removed } from "./checkpoint-builder.ts";
import { type OpenModel, openModel, refusalsOf } from "./open-model.ts";
import { makeManifest, openUnpacked, writeManifest } from "./pack.ts";

const clock = hurriedClock();
const WEIGHTS = "model.safetensors";

type BadModel = {
  readonly name: string;
  readonly checkpoint?: CheckpointOptions;
  readonly spoil?: (directory: string) => Promise<unknown>;
  readonly code: string;
  readonly says: readonly string[];
};

async function flip(directory: string, path: string, at: number): Promise<void> {
  const bytes = await readFile(join(directory, path));
  bytes[at] = (bytes[at] ?? 0) ^ 4;
  await writeFile(join(directory, path), bytes);
}
const write = (path: string, text: string) => (directory: string) => writeFile(join(directory, path), text);
const rewrite = (path: string, change: (text: string) => string) => async (directory: string) =>
  writeFile(join(directory, path), change(await readFile(join(directory, path), "latin1")), "latin1");

/** Told when packing, or when a bare folder is opened. */
const UNPACKABLE: readonly BadModel[] = [
  {
    name: "no config.json",
    spoil: (directory) => removed(join(directory, "config.json")),
    code: "MissingFile",
    says: ["config.json", "fetch"],
  },
  {
    name: "an unknown model_type",
    spoil: rewrite("config.json", (text) => text.replace(`"llama"`, `"gpt2"`)),
    code: "UnknownModelType",
    says: ["gpt2"],
  },
  {
    name: "an option that is not honoured",
    spoil: rewrite("config.json", (text) => text.replace("{", `{"hidden_act": "gelu",`)),
    code: "UnsupportedOption",
    says: ["hidden_act"],
  },
  {
    name: "no weights",
    spoil: (directory) => removed(join(directory, WEIGHTS)),
    code: "MissingFile",
    says: [WEIGHTS, "index"],
  },
  {
    name: "no tokenizer",
    spoil: (directory) => removed(join(directory, "tokenizer.json")),
    code: "MissingTokenizer",
    says: ["tokenizer.json", "copy"],
  },
  {
    name: "a broken tokenizer",
    spoil: write("tokenizer.json", "{"),
    code: "MalformedTokenizer",
    says: ["tokenizer.json"],
  },
  {
    name: "a tokenizer with a wrong vocabulary",
    spoil: write("tokenizer.json", JSON.stringify({ model: { vocab: { x: 40 } } })),
    code: "WrongVocabulary",
    says: ["tokenizer.json", `"x"`, "40"],
  },
  {
    name: "a truncated header",
    spoil: (directory) => truncate(join(directory, WEIGHTS), 30),
    code: "MalformedTensors",
    says: [WEIGHTS, "header length"],
  },
  {
    name: "truncated data",
    spoil: (directory) => truncate(join(directory, WEIGHTS), 9000),
    code: "MalformedTensors",
    says: [WEIGHTS, "9000"],
  },
  {
    name: "a lying header length",
    spoil: (directory) => flip(directory, WEIGHTS, 5),
    code: "MalformedTensors",
    says: [WEIGHTS, "header length"],
  },
  {
    name: "overlapping tensors",
    spoil: rewrite(WEIGHTS, (text) => text.replace("[2560,2624]", "[2552,2616]")),
    code: "MalformedTensors",
    says: [WEIGHTS, "input_layernorm", "overlap"],
  },
  {
    name: "a dtype that cannot be read",
    spoil: rewrite(WEIGHTS, (text) => text.replace(`"F32"`, `"I32"`)),
    code: "UnsupportedDtype",
    says: [WEIGHTS, "embed_tokens", "I32"],
  },
  {
    name: "a missing tensor",
    checkpoint: { without: ["model.layers.1.mlp.up_proj.weight"] },
    code: "MissingTensor",
    says: [WEIGHTS, "model.layers.1.mlp.up_proj.weight"],
  },
  {
    name: "a tensor that the index lacks",
    checkpoint: { files: 2, without: ["model.norm.weight"] },
    code: "MissingTensor",
    says: ["model.safetensors.index.json", "model.norm.weight"],
  },
  {
    name: "a tensor of another shape",
    checkpoint: { shapes: { "model.layers.0.self_attn.k_proj.weight": [16, 16] } },
    code: "WrongShape",
    says: ["model.layers.0.self_attn.k_proj.weight", "[16,16]", "[8,16]", "config.json"],
  },
  {
    name: "a missing shard file",
    checkpoint: { files: 3 },
    spoil: (directory) => removed(join(directory, "model-00002-of-00003.safetensors")),
    code: "MissingFile",
    says: ["model-00002-of-00003.safetensors", "fetch"],
  },
  {
    name: "an index that is none",
    checkpoint: { files: 2 },
    spoil: write("model.safetensors.index.json", "{}"),
    code: "MalformedIndex",
    says: ["weight_map"],
  },
  {
    name: "an index that points out of the folder",
    checkpoint: { files: 2 },
    spoil: write("model.safetensors.index.json", `{"weight_map": {"a": "../x.safetensors"}}`),
    code: "MalformedIndex",
    says: ["../x.safetensors"],
  },
];

/** Told when a packed model, spoilt afterwards, is opened or read. */
const UNREADABLE: readonly BadModel[] = [
  {
    name: "no manifest",
    spoil: (directory) => removed(join(directory, MANIFEST_FILE)),
    code: "MissingManifest",
    says: [MANIFEST_FILE, "tessellate pack"],
  },
  {
    name: "a broken manifest",
    spoil: write(MANIFEST_FILE, "{}"),
    code: "MalformedManifest",
    says: [MANIFEST_FILE, "tessellate pack"],
  },
  {
    name: "a flipped byte in a weight",
    spoil: (directory) => flip(directory, WEIGHTS, 5000),
    code: "CorruptChunk",
    says: [WEIGHTS, "chunk 0", "bytes 0 to", "fetch the file again", "tessellate pack"],
  },
  {
    name: "a flipped byte in a later chunk",
    checkpoint: { config: { vocab_size: 20_000 } },
    spoil: (directory) => flip(directory, WEIGHTS, CHUNK_BYTES + 7),
    code: "CorruptChunk",
    says: [WEIGHTS, "chunk 1", `bytes ${CHUNK_BYTES} to ${2 * CHUNK_BYTES}`],
  },
  {
    name: "weights cut short",
    spoil: (directory) => truncate(join(directory, WEIGHTS), 9000),
    code: "WrongLength",
    says: [WEIGHTS, "9000"],
  },
  {
    name: "weights gone",
    spoil: (directory) => rename(join(directory, WEIGHTS), join(directory, "x")),
    code: "MissingFile",
    says: [WEIGHTS],
  },
];

async function spoilt(
  { checkpoint = {}, spoil }: BadModel,
  pack: boolean,
  work: (directory: string) => Promise<void>,
): Promise<void> {
  const directory = await aCheckpoint(checkpoint);
  try {
    if (pack) await writeManifest(directory, valueOrThrow(await makeManifest(directory, { clock })));
    await spoil?.(directory);
    await work(directory);
  } finally {
    await removed(directory);
  }
}

function expectRefusal(result: Result<unknown>, { code, says }: BadModel): void {
  if (result.ok) throw new Error("was taken");
  expect(result).to.include({ code });
  for (const said of says) expect(result.detail).to.include(said);
}

const readAll = (result: Result<OpenModel>) =>
  refusalsOf(async () => {
    const model = valueOrThrow(result);
    await model.tensors.read("embedding.weight");
    await model.tensors.read("layers.1.down.weight");
  });

describe("bad models", () => {
  for (const bad of UNPACKABLE)
    it(`are not packed: ${bad.name}`, () =>
      spoilt(bad, false, async (directory) => expectRefusal(await makeManifest(directory, { clock }), bad)));

  for (const bad of UNREADABLE)
    it(`are not read: ${bad.name}`, () =>
      spoilt(bad, true, async (directory) =>
        expectRefusal(await readAll(await openModel({ path: directory }, { clock })), bad),
      ));

  it("are not packed: a folder that is not there", async () => {
    expectRefusal(await makeManifest("/nowhere/at/all", { clock }), {
      name: "",
      code: "MissingFile",
      says: ["/nowhere/at/all/config.json"],
    });
  });

  it("are told of when a bare folder is opened, too", () =>
    spoilt({ name: "", code: "", says: [], checkpoint: { without: ["lm_head.weight"] } }, false, async (directory) =>
      expectRefusal(await openUnpacked(directory, { clock }), {
        name: "",
        code: "MissingTensor",
        says: ["lm_head.weight"],
      }),
    ));

  it("are not the one that was asked for", () =>
    spoilt({ name: "", code: "", says: [] }, true, async (directory) => {
      const expectedRoot = `sha256:${"ab".repeat(32)}`;
      expectRefusal(await openModel({ path: directory }, { clock, expectedRoot }), {
        name: "",
        code: "WrongRoot",
        says: [expectedRoot, "digest"],
      });
    }));

  it("do not stop others: after a refused read the next one is served", () =>
    spoilt(
      { name: "", code: "", says: [], checkpoint: { config: { vocab_size: 40_000 } } },
      true,
      async (directory) => {
        const model = valueOrThrow(await openModel({ path: directory }, { clock }));
        await flip(directory, WEIGHTS, CHUNK_BYTES + 7);
        const refused = await model.tensors.read("embedding.weight").catch((error: unknown) => error);
        expect(refused).to.be.instanceOf(RefusalError).and.include({ code: "CorruptChunk" });
        expect(await model.tensors.read("norm")).to.have.length(16);
      },
    ));
});
