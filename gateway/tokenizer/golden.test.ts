/** The demo model's tokenizer and chat template against what Hugging Face's own code makes of the same texts. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { ok, refuse, valueOrThrow } from "../../core/result.ts";
import { parseManifest } from "../../core/manifest.ts";
import { type ModelFiles, readModelFiles } from "./model-files.ts";

type TokenizerGolden = {
  readonly strings: readonly {
    readonly text: string;
    readonly tokenIds: readonly number[];
    readonly tokenIdsWithSpecial: readonly number[];
    readonly decodedSkippingSpecial: string;
  }[];
};
type ChatGolden = {
  readonly conversations: readonly {
    readonly messages: readonly { readonly role: string; readonly content: string }[];
    readonly renderedForAnswer: string;
    readonly tokenIdsForAnswer: readonly number[];
  }[];
  readonly refused: readonly {
    readonly messages: readonly { readonly role: string; readonly content: string }[];
    readonly message: string;
  }[];
};

const DEMO = new URL("../../models/demo/", import.meta.url);
const golden = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`../../test/golden/demo/${name}`, import.meta.url), "utf8"));

describe("the demo model's texts, as transformers has them", () => {
  let files: ModelFiles;

  before(async () => {
    const manifest = valueOrThrow(parseManifest(readFileSync(new URL("tessellate-manifest.json", DEMO), "utf8")));
    const read = async (path: string) => {
      try {
        return ok(new Uint8Array(readFileSync(fileURLToPath(new URL(path, DEMO)))));
      } catch {
        return refuse("UnknownFile", path);
      }
    };
    files = valueOrThrow(await readModelFiles(read, manifest.root));
  });

  it("are cut into the same tokens, with and without special ones, and put together again", () => {
    const { tokenizer } = files;
    const { strings } = golden("tokenizer.json") as TokenizerGolden;
    expect(strings.length).to.be.greaterThan(20);
    for (const { text, tokenIds, tokenIdsWithSpecial, decodedSkippingSpecial } of strings) {
      expect(tokenizer?.encode(text, false), text).to.deep.equal(ok(tokenIds));
      expect(tokenizer?.encode(text, true), text).to.deep.equal(ok(tokenIdsWithSpecial));
      expect(tokenizer?.decode(tokenIds), text).to.equal(decodedSkippingSpecial);
      const detokenizer = tokenizer?.detokenizer();
      expect(tokenIds.map((id) => detokenizer?.push(id)).join("") + (detokenizer?.flush() ?? ""), text).to.equal(
        decodedSkippingSpecial,
      );
    }
  });

  it("are rendered into the same prompts, and refused in the same words", () => {
    const template = valueOrThrow(files.chatTemplate);
    const { conversations, refused } = golden("chat-template.json") as ChatGolden;
    for (const { messages, renderedForAnswer, tokenIdsForAnswer } of conversations) {
      expect(template.render(messages, {}, new Date(0))).to.deep.equal(ok(renderedForAnswer));
      expect(files.tokenizer?.encode(renderedForAnswer, false)).to.deep.equal(ok(tokenIdsForAnswer));
    }
    for (const { messages, message } of refused) {
      const outcome = template.render(messages, {}, new Date(0));
      expect(outcome).to.include({ ok: false, code: "TemplateRefused" });
      expect(outcome.ok || outcome.detail).to.contain(message.slice(0, 60));
    }
  });
});
