/** Renders chats as the gateway does, for tools/goldens/chat_goldens.py compare: JSON on stdin, JSON on stdout. */
import { readFileSync } from "node:fs";
import { type Message, parseChatTemplate } from "../../gateway/tokenizer/chat-template.ts";
import type { JsonObject } from "../../core/json.ts";

type Asked = {
  readonly now: string; // local time
  readonly templates: readonly { readonly template: string; readonly config: JsonObject }[];
  readonly conversations: readonly { readonly messages: readonly Message[]; readonly settings: JsonObject }[];
};

const { now, templates, conversations }: Asked = JSON.parse(readFileSync(0, "utf8"));

const rendered = templates.map(({ template, config }) => {
  const parsed = parseChatTemplate(template, JSON.stringify(config));
  return conversations.map(({ messages, settings }) => {
    const text = parsed.ok ? parsed.value.render(messages, settings, new Date(now)) : parsed;
    return text.ok ? { text: text.value } : { refused: text.detail };
  });
});
process.stdout.write(JSON.stringify(rendered));
