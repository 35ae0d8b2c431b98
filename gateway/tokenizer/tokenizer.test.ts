import { expect } from "chai";
import fc from "fast-check";
import { valueOrThrow } from "../../core/result.ts";
import { tinyModel, tinyTokenizer } from "../../test/gateway/tiny-model.ts";
import { parseChatTemplate } from "./chat-template.ts";
import { Detokenizer } from "./detokenizer.ts";
import { readModelFiles } from "./model-files.ts";
import { StopScanner } from "./stop.ts";
import { parseTokenizer } from "./tokenizer.ts";

const tiny = tinyTokenizer();
const tokenizer = valueOrThrow(parseTokenizer(JSON.stringify(tiny.json), "", tiny.size));

/** A decoder of the Llama 2 kind: words with ▁ for blanks, single bytes as <0xNN>, the first blank dropped. */
const spelledBytes = Object.fromEntries(
  Array.from({ length: 256 }, (_, byte) => [`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`, byte]),
);
const fallbackVocabulary = { ...spelledBytes, "▁": 256, "▁a": 257, b: 258, "▁▁": 259, é: 260, "<unk>": 261 };
const fallback = valueOrThrow(
  parseTokenizer(
    JSON.stringify({
      model: { type: "BPE", vocab: fallbackVocabulary, merges: [], unk_token: "<unk>", byte_fallback: true },
      decoder: {
        type: "Sequence",
        decoders: [
          { type: "Replace", pattern: { String: "▁" }, content: " " },
          { type: "ByteFallback" },
          { type: "Fuse" },
          { type: "Strip", content: " ", start: 1, stop: 0 },
        ],
      },
    }),
    "",
    262,
  ),
);

describe("detokenizer", () => {
  const pieces = (detokenizer: Detokenizer, ids: readonly number[]): readonly string[] => [
    ...ids.map((id) => detokenizer.push(id)),
    detokenizer.flush(),
  ];

  for (const [name, one, size] of [
    ["byte-level", tokenizer, tiny.size],
    ["byte fallback", fallback, 262],
  ] as const) {
    it(`gives, piece by piece, the text of all tokens together (${name})`, () => {
      fc.assert(
        fc.property(fc.array(fc.nat(size - 1), { maxLength: 120 }), (ids) => {
          expect(pieces(one.detokenizer(), ids).join("")).to.equal(one.decode(ids));
        }),
        { numRuns: 400 },
      );
    });

    it(`never lets out half a character of a real text (${name})`, () => {
      fc.assert(
        fc.property(fc.string({ unit: "grapheme", maxLength: 40 }), (text) => {
          const ids = Array.from(new TextEncoder().encode(text)); // one token per byte in both vocabularies
          for (const piece of pieces(one.detokenizer(), ids)) {
            expect(piece.isWellFormed()).to.equal(true);
            if (!text.includes("\uFFFD")) expect(piece).to.not.include("\uFFFD");
          }
        }),
      );
    });
  }

  it("keeps its window short however long bytes that are no character go on", () => {
    let longest = 0;
    const detokenizer = new Detokenizer((ids) => {
      longest = Math.max(longest, ids.length);
      return tokenizer.decode(ids);
    });
    const ids = Array.from({ length: 2000 }, (_, index) => (index % 3 === 0 ? 0xff : 0x80));
    expect(pieces(detokenizer, ids).join("")).to.equal(tokenizer.decode(ids));
    expect(longest).to.be.lessThan(64);
  });

  it("leaves special tokens out", () => {
    const ids = [...valueOrThrow(tokenizer.encode("hello", true)), 257];
    expect(ids[0]).to.equal(256);
    expect(pieces(tokenizer.detokenizer(), ids).join("")).to.equal("hello");
  });
});

describe("stop strings", () => {
  /** The slow twin: letter by letter, does the text so far end with a stop string? */
  const cut = (text: string, stops: readonly string[]): string => {
    for (let end = 1; end <= text.length; end += 1) {
      const found = stops
        .filter((stop) => text.slice(0, end).endsWith(stop))
        .toSorted((a, b) => b.length - a.length)[0];
      if (found !== undefined) return text.slice(0, end - found.length);
    }
    return text;
  };
  const letters = (most: number, least = 0) =>
    fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: least, maxLength: most });

  it("cut the text where its twin does, however it is cut into pieces, and let no part of a stop out", () => {
    fc.assert(
      fc.property(
        fc.array(letters(4), { maxLength: 12 }),
        fc.array(letters(4, 1), { minLength: 1, maxLength: 4 }),
        (parts, stops) => {
          const scanner = new StopScanner(stops);
          let out = "";
          let stopped = false;
          for (const part of parts) {
            const { text, stop } = scanner.push(part);
            out += text;
            if (stop !== undefined) {
              stopped = true;
              break;
            }
          }
          if (!stopped) out += scanner.flush();
          const whole = parts.join("");
          expect(out).to.equal(cut(whole, stops));
          expect(stopped).to.equal(stops.some((stop) => whole.includes(stop)));
        },
      ),
      { numRuns: 2000 },
    );
  });

  it("hold back only what may still become a stop string", () => {
    const scanner = new StopScanner(["END"]);
    expect(scanner.push("the E")).to.deep.equal({ text: "the ", stop: undefined });
    expect(scanner.push("N")).to.deep.equal({ text: "", stop: undefined });
    expect(scanner.push("orm")).to.deep.equal({ text: "ENorm", stop: undefined });
    expect(scanner.push(" END of")).to.deep.equal({ text: " ", stop: "END" });
  });
});

describe("tokenizer.json", () => {
  const changed = (change: (json: Record<string, unknown>) => void): string => {
    const { json } = tinyTokenizer();
    change(json);
    return JSON.stringify(json);
  };
  const cases: readonly (readonly [name: string, text: string, code: string, says: RegExp])[] = [
    ["is no JSON", "{", "MalformedTokenizer", /no JSON object/],
    [
      "has no vocabulary",
      changed((json) => (json["model"] = { type: "BPE" })),
      "MalformedTokenizer",
      /model\.vocab is nothing/,
    ],
    [
      "is of an unknown kind",
      changed((json) => (json["model"] = { type: "Odd", vocab: { a: 0 } })),
      "MalformedTokenizer",
      /model\.type is "Odd", only BPE/,
    ],
    [
      "has more ids than the model",
      changed((json) => (json["added_tokens"] = [{ id: 9999, content: "x" }])),
      "TokenizerMismatch",
      new RegExp(`up to 9999 .*vocab_size ${tiny.size};`),
    ],
    [
      "has an id that is no number",
      changed((json) => (json["added_tokens"] = [{ id: "7", content: "x" }])),
      "TokenizerMismatch",
      /"x" has the id "7"/,
    ],
    [
      "has one id twice",
      changed((json) => (json["added_tokens"] = [{ id: 65, content: "x" }])),
      "TokenizerMismatch",
      /id 65 stands for both "A" and "x"/,
    ],
  ];
  it("does without special tokens that the model has no row for", () => {
    const text = changed((json) => (json["added_tokens"] = [{ id: tiny.size, content: "<picture>", special: true }]));
    const tokenizer = valueOrThrow(parseTokenizer(text, "", tiny.size));
    const ids = valueOrThrow(tokenizer.encode("a<picture>b", false));
    expect(Math.max(...ids)).to.be.below(tiny.size);
    expect(tokenizer.decode(ids)).to.equal("a<picture>b");
  });

  for (const [name, text, code, says] of cases) {
    it(`is refused where it ${name}`, () => {
      const parsed = parseTokenizer(text, "", tiny.size);
      expect(parsed).to.include({ ok: false, code });
      expect(parsed.ok || parsed.detail).to.match(says);
    });
  }
});

describe("chat template", () => {
  const now = new Date(0);
  const parse = (config: unknown) => valueOrThrow(parseChatTemplate(undefined, JSON.stringify(config)));

  it("gets the messages, the special tokens and the request's settings, which replace neither", () => {
    const template = parse({
      bos_token: "<s>",
      eos_token: { content: "</s>" },
      chat_template: "{{bos_token}}{{messages[0].content}}{{style}}{{eos_token}}",
    });
    const settings = { style: "!", bos_token: "X", messages: [] };
    expect(template.render([{ role: "user", content: "hi" }], settings, now)).to.deep.include({ value: "<s>hi!</s>" });
  });

  it("comes from chat_template.jinja before tokenizer_config.json, and from the list's default", () => {
    expect(
      valueOrThrow(parseChatTemplate("A", JSON.stringify({ chat_template: "B" }))).render([], {}, now),
    ).to.deep.include({ value: "A" });
    const listed = parse({
      chat_template: [
        { name: "tool_use", template: "T" },
        { name: "default", template: "D" },
      ],
    });
    expect(listed.render([], {}, now)).to.deep.include({ value: "D" });
    expect(listed.render([], { tools: [] }, now)).to.deep.include({ value: "T" });
  });

  it("refuses with the template's own words, and says where there is none", () => {
    const refused = parse({ chat_template: "{{ raise_exception('roles must alternate') }}" }).render([], {}, now);
    expect(refused).to.include({ ok: false, code: "TemplateRefused" });
    expect(refused.ok || refused.detail).to.contain("roles must alternate");
    expect(parseChatTemplate(undefined, "{}")).to.include({ ok: false, code: "NoChatTemplate" });
    expect(parseChatTemplate("{% if %}", "{}")).to.include({ ok: false, code: "MalformedTemplate" });
  });
});

describe("a model's files", () => {
  const read = (files: ReadonlyMap<string, Uint8Array>) => async (path: string) => {
    const bytes = files.get(path);
    return bytes === undefined
      ? ({ ok: false, code: "UnknownFile", detail: path } as const)
      : ({ ok: true, value: bytes } as const);
  };

  it("are read, with what generation_config.json says", async () => {
    const model = tinyModel({
      "generation_config.json": JSON.stringify({ eos_token_id: 257, temperature: 0.5, top_p: 0.9 }),
    });
    const files = valueOrThrow(await readModelFiles(read(model.files), model.root));
    expect(files.defaults).to.deep.equal({ eosTokenIds: [257], temperature: 0.5, topP: 0.9 });
    expect(files.chatTemplate.ok).to.equal(true);
  });

  it("do without tokenizer and generation_config.json", async () => {
    const model = tinyModel({
      "tokenizer.json": undefined,
      "tokenizer_config.json": undefined,
      "generation_config.json": undefined,
    });
    const files = valueOrThrow(await readModelFiles(read(model.files), model.root));
    expect(files.tokenizer).to.equal(undefined);
    expect(files.defaults.eosTokenIds).to.deep.equal([257]);
  });

  it("are refused where a rank gives other bytes, and the file is named", async () => {
    const model = tinyModel();
    const files = new Map(model.files).set("tokenizer.json", new TextEncoder().encode("{}"));
    const refused = await readModelFiles(read(files), model.root);
    expect(refused).to.include({ ok: false, code: "WrongBytes" });
    expect(refused.ok || refused.detail).to.contain("tokenizer.json");
    expect(await readModelFiles(read(tinyModel({ "tokenizer.json": "{}" }).files), model.root)).to.include({
      ok: false,
      code: "WrongRoot",
    });
  });

  it("are refused where an end id is past the vocabulary", async () => {
    const model = tinyModel({ "generation_config.json": JSON.stringify({ eos_token_id: 70_000 }) });
    expect(await readModelFiles(read(model.files), model.root)).to.include({
      ok: false,
      code: "MalformedGenerationConfig",
    });
  });
});
