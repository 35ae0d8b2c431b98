/**
 * Chats in every family's layout, rendered as transformers renders them, through the way that the gateway takes from a
 * model's files to a prompt.
 */
import { readFileSync } from "node:fs";
import { expect } from "chai";
import { FAMILIES } from "../../core/families/all.ts";
import type { JsonObject } from "../../core/json.ts";
import { valueOrThrow } from "../../core/result.ts";
import { type Message, parseChatTemplate } from "../../gateway/tokenizer/chat-template.ts";

type Golden = {
  readonly now: string;
  readonly tokens: JsonObject;
  readonly conversations: Readonly<
    Record<string, { readonly messages: readonly Message[]; readonly settings: JsonObject }>
  >;
  readonly rendered: Readonly<Record<string, Readonly<Record<string, { text?: string; refused?: string }>>>>;
};

const FOLDER = new URL("chat-templates/", import.meta.url);
const textOf = (name: string): string => readFileSync(new URL(name, FOLDER), "utf8");
const golden: Golden = JSON.parse(textOf("goldens.json"));
const now = new Date(golden.now);

describe("chat templates, as transformers renders them", () => {
  it("are there for every family", () =>
    expect(Object.keys(golden.rendered)).to.have.members(FAMILIES.map(({ modelType }) => modelType)));

  for (const [family, outcomes] of Object.entries(golden.rendered)) {
    it(`${family}: ${Object.keys(outcomes).length} conversations`, () => {
      const template = textOf(`${family}.jinja`);
      // Both places where a model may keep its template.
      const inFile = valueOrThrow(parseChatTemplate(template, JSON.stringify(golden.tokens)));
      const inConfig = valueOrThrow(
        parseChatTemplate(undefined, JSON.stringify({ ...golden.tokens, chat_template: template })),
      );
      for (const [name, { text, refused }] of Object.entries(outcomes)) {
        const { messages, settings } = golden.conversations[name] ?? { messages: [], settings: {} };
        const outcome = inFile.render(messages, settings, now);
        expect(inConfig.render(messages, settings, now), name).to.deep.equal(outcome);
        if (text !== undefined) expect(outcome, name).to.deep.equal({ ok: true, value: text });
        else
          expect(outcome, `${name}, refused by theirs: ${refused}`).to.include({ ok: false, code: "TemplateRefused" });
      }
    });
  }
});
